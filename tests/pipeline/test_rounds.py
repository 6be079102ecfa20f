"""The rounds' pure pieces, and every way of learning run on tiny parts of both families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import RecipeError
from quipwright.core.records import (
    Checkpoint,
    Example,
    Ranking,
    Response,
    Status,
)
from quipwright.core.results import Quality
from quipwright.critics.heuristics import HeuristicCritic
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.run_summary import RunSummary, TrainingFacts
from quipwright.pipeline.evaluate import Evaluation
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.rounds import Ranked, Step, named_students, remembered
from quipwright.pipeline.stages.select import Selection, nothing_selected
from quipwright.pipeline.stages.train import Trained
from quipwright.pipeline.summary import evaluation_warnings
from quipwright.students.batches import ANCHOR
from quipwright.training.early_stopping import EarlyStopping, ValidationPoint, best_point, out_of_patience
from quipwright.training.preference.pairs import copies_last
from quipwright.training.preference.ranking import copy_losers
from quipwright.training.preference.rows import best_of, ranked_rows, winners

Run = Callable[..., RunSummary]


def quality(**changed: float) -> Quality:
    usual = {"copy_rate": 0.1, "empty": 0.0, "truncated": 0.0, "words": 9.0, "length_ratio": 1.2, "distinct_2": 0.8}
    return Quality(system="s", split="valid", n=50, **(usual | changed))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({}, None),
        ({"length_ratio": 1.7}, None),
        ({"length_ratio": 2.4}, "writes 2.00 times as long"),
        ({"distinct_2": 0.4}, "distinct-2 fell from 0.80 to 0.40"),
        ({"copy_rate": 0.3}, "copies rose from 10% to 30%"),
        ({"empty": 0.1}, "empty answers rose from 0% to 10%"),
    ],
)
def test_the_guard_names_what_degenerated(changed: dict[str, float], complaint: str | None) -> None:
    assert EarlyStopping().issues(quality(**changed), quality()) == ([complaint] if complaint else [])


def test_a_summary_warns_of_empty_answers() -> None:
    def told(**changed: Any) -> list[str]:
        looks = [quality().model_copy(update=changed)]
        return [
            str(note)
            for note in evaluation_warnings(Evaluation(HeuristicCritic("longer"), quality=looks), [])
            if "nothing at all" in str(note)
        ]

    assert told(system="feedback", empty=0.2) == ["feedback answers nothing at all on 20% of valid."]
    assert told(system="feedback", empty=0.02) == told(system="teacher", empty=0.2) == []


def points(*rates: float, bad: tuple[int, ...] = ()) -> list[ValidationPoint]:
    return [ValidationPoint(i, rate, ("copies",) if i in bad else ()) for i, rate in enumerate(rates, 1)]


def test_the_best_sound_round_is_kept() -> None:
    assert best_point(points(0.3, 0.5, 0.5, 0.4)) == 2
    assert best_point(points(0.3, 0.9, 0.5, bad=(2,))) == 3
    assert best_point(points(0.3, 0.9, bad=(1, 2))) == 2


@pytest.mark.parametrize(
    ("rates", "patience", "stop"),
    [
        ((0.3, 0.2), 1, True),
        ((0.3, 0.4), 1, False),
        ((0.3, 0.2), 2, False),
        ((0.3, 0.2, 0.3), 2, True),
        ((0.3,), 1, False),
        ((0.3, 0.1, 0.1), None, False),
    ],
)
def test_patience_runs_out_after_rounds_without_gain(
    rates: tuple[float, ...], patience: int | None, stop: bool
) -> None:
    assert out_of_patience(points(*rates), patience) is stop


def test_a_degenerate_round_is_no_gain() -> None:
    assert out_of_patience(points(0.3, 0.9, bad=(2,)), 1)
    assert not out_of_patience(points(0.9, 0.3, bad=(1,)), 1)


def checkpoint(round: int) -> Checkpoint:
    same = dict.fromkeys(("path", "student", "objective", "settings_hash", "data_hash", "weights_hash"), "x")
    return Checkpoint(**same, round=round, parent_id=None)


def step(round: int, point: ValidationPoint) -> Step:
    trained = Trained(f"preference-{round}", checkpoint(round), TrainingFacts(rows=1, losses=[]))
    return Step(f"round-{round}", trained, Ranked({}, (), None), point)


def test_the_kept_round_is_named_feedback_and_stands_last() -> None:
    rounds = [step(i, point) for i, point in enumerate(points(0.3, 0.5, 0.4), 1)]
    recipe = Recipe(name="x", early_stopping=EarlyStopping())
    named = named_students(recipe, rounds)
    assert [(name, c.round) for name, c in named.items()] == [("round-1", 1), ("round-3", 3), ("feedback", 2)]
    assert list(named_students(Recipe(name="x"), rounds)) == ["round-1", "round-2", "feedback"]
    last = Recipe(name="x", early_stopping=EarlyStopping(keep_best=False))
    assert named_students(last, rounds)["feedback"].round == 3
    assert named_students(recipe, []) == {}


EXAMPLE = Example(text="The cat ate my sandwich.")


def response(text: str, author: str = "student:x", status: Status = Status.OK) -> Response:
    return Response(example_id=EXAMPLE.id, text=text, author=author, status=status)


def ranking(*best_first: Response) -> Ranking:
    return Ranking(example_id=EXAMPLE.id, best_first=tuple(r.id for r in best_first), strength=0.9)


def test_rows_carry_a_teacher_text_as_anchor_another_for_each_ranking() -> None:
    a, b, c = (response(t) for t in "abc")
    taught = {EXAMPLE.id: [response("t1", "teacher:y"), response("t2", "teacher:y")]}
    texts = {r.id: r for r in (a, b, c)}
    args = (
        lambda e, style: f"<{e.text}>",
        {EXAMPLE.id: EXAMPLE},
        texts,
        [ranking(a, b), ranking(c, b, a), ranking(a, c)],
    )
    rows, columns = ranked_rows(*args, taught)
    assert [row.responses for row in rows] == [("a", "b", "t1"), ("c", "b", "a", "t2"), ("a", "c", "t1")]
    assert [row.ranks for row in rows] == [(0, 1, ANCHOR), (0, 1, 2, ANCHOR), (0, 1, ANCHOR)]
    assert [[r.text for r in own] for own in columns] == [list(row.responses) for row in rows]
    plain, _ = ranked_rows(*args, {})
    assert [row.ranks for row in plain] == [(), (), ()]


def test_a_row_asks_for_the_style_of_its_texts_and_is_anchored_in_it() -> None:
    a, b, c = (response(t).model_copy(update={"style": s}) for t, s in (("a", "short"), ("b", "short"), ("c", "long")))
    taught = {EXAMPLE.id: [response(f"t-{s}", "teacher:y").model_copy(update={"style": s}) for s in ("long", "short")]}
    texts = {r.id: r for r in (a, b, c)}
    rankings = [ranking(a, b), ranking(c, c)]
    rows, _ = ranked_rows(lambda e, style: f"{style}: {e.text}", {EXAMPLE.id: EXAMPLE}, texts, rankings, taught)
    assert [row.prompt for row in rows] == [f"short: {EXAMPLE.text}", f"long: {EXAMPLE.text}"]
    assert [row.responses for row in rows] == [("a", "b", "t-short"), ("c", "c", "t-long")]
    _, copies = copy_losers([ranking(a, b)], {EXAMPLE.id: EXAMPLE}, texts, 1.0, 0)
    assert [(copy.text, copy.style) for copy in copies] == [(EXAMPLE.text, "short")]


def test_winners_and_the_best_of_n() -> None:
    a, b, c = response("a"), response("b"), response("c", status=Status.REPEATS)
    assert winners([ranking(a, b), ranking(b, c)], {r.id: r for r in (a, b, c)}) == {EXAMPLE.id: [a, b]}
    scores = {a.id: 1.0, b.id: 2.0, c.id: 9.0}
    assert best_of({EXAMPLE.id: [a, b, c], "none": [c]}, scores) == {EXAMPLE.id: [b]}
    copy = response(EXAMPLE.text)
    attempts = {EXAMPLE.id: [a, b, copy]}
    assert best_of(attempts, {**scores, copy.id: 3.0}) == {EXAMPLE.id: [copy]}
    assert best_of(attempts, copies_last({**scores, copy.id: 3.0}, [EXAMPLE], attempts)) == {EXAMPLE.id: [b]}


@pytest.mark.parametrize(
    ("statuses", "acceptance", "reason", "remedy"),
    [
        (
            [Status.TRUNCATED] * 5 + [Status.OK, Status.COPY],
            {"pairs": 0, "within": 0},
            "among 7 texts (5 truncated, 1 ok, 1 copy), for no literal has two usable ones",
            "Train the imitation student longer, or raise candidates.max_tokens.",
        ),
        (
            [Status.DUPLICATE] * 3 + [Status.OK],
            {"pairs": 0, "within": 0},
            "among 4 texts (3 duplicate, 1 ok), for no literal has two usable ones",
            "Raise candidates.temperature, or sample more candidates.",
        ),
        (
            [Status.SYMBOLS],
            {"pairs": 0, "within": 0},
            "among 1 texts (1 symbols), for no literal has two usable ones",
            "Train the imitation student longer.",
        ),
        (
            [Status.OK] * 4 + [Status.EMPTY],
            {"pairs": 6, "within": 0},
            "among 5 texts (4 ok, 1 empty); those of one literal differ too much in length",
            "Lower length.minimum of the task, or sample more candidates.",
        ),
        (
            [Status.TRUNCATED] * 5 + [Status.OK] * 2,
            {"pairs": 1, "within": 0},
            "among 7 texts (5 truncated, 2 ok); those of one literal differ too much in length",
            "Train the imitation student longer, or raise candidates.max_tokens.",
        ),
        (
            [Status.OK] * 4,
            {"pairs": 2, "within": 1},
            "among 4 texts (4 ok)",
            "Sample more literals (feedback_examples) or more candidates.",
        ),
    ],
)
def test_why_no_pair_was_selected_is_told_with_counts(
    statuses: list[Status], acceptance: dict[str, int], reason: str, remedy: str
) -> None:
    responses = [response(f"text {number}", status=status) for number, status in enumerate(statuses)]
    assert nothing_selected(Selection((), acceptance), responses) == (f"no pair was selected {reason}", remedy)


def test_rankings_of_several_rounds_become_one_set() -> None:
    a, b = response("a"), response("b")
    both = remembered([Ranked({a.id: a}, [ranking(a)], None), Ranked({b.id: b}, [ranking(b)], None)])
    assert both.responses == {a.id: a, b.id: b}
    assert both.rankings == [ranking(a), ranking(b)]


def test_an_order_of_texts_that_was_kept_is_not_trained_on_twice() -> None:
    first, again = (response(text, "student:1") for text in "ab"), (response(text, "student:2") for text in "ab")
    (a, b), (c, d) = first, again
    earlier = Ranked({a.id: a, b.id: b}, [ranking(a, b)], None)
    later = Ranked({c.id: c, d.id: d}, [ranking(c, d), ranking(d, c)], None)
    assert remembered([earlier, later]).rankings == [ranking(a, b), ranking(d, c)]


MultipleChoice = {"kind": "multiple_choice", "model": {"kind": "local"}}
DIVERSE = {"select": {"kind": "diverse"}}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"learn": {"source": "best_of_n"}}, "source best_of_n is imitation"),
        ({"learn": {"objective": {"kind": "mle"}, "source": "worst"}}, "learn.source"),
        (
            {"teacher_preferences": {"learn": {"objective": {"kind": "brio", "margins": "linear"}}}},
            "nearest valid one is 'margin'",
        ),
        ({"select": {"kind": "teacher_mix", "otherwise": {"kind": "list"}}}, "otherwise"),
        (
            {"teacher_preferences": {"learn": {"objective": {"kind": "mle"}}}},
            "teacher_preferences: this step learns from pairs",
        ),
        ({"teacher_preferences": {"learn": {"objective": {"kind": "mle"}, "source": "teacher"}}}, "learns from pairs"),
        (
            {"critic": MultipleChoice},
            r"select best_worst needs .*critic multiple_choice does not do; set scorer: \{kind: reward\} \(or grade\), or select",
        ),
        (
            {"critic": MultipleChoice, **DIVERSE, "teacher_preferences": {"select": {"kind": "list"}}},
            r"teacher_preferences.select list needs",
        ),
        (
            {"critic": MultipleChoice, **DIVERSE, "learn": {"objective": {"kind": "mle"}, "source": "best_of_n"}},
            r"learn.source best_of_n needs .*, or learn.source: verdicts",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tree: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        validate(Recipe, {"name": "r", **tree}, "Recipe")


@pytest.mark.parametrize(
    "tree",
    [
        {"scorer": {}},
        {"scorer": {}, "teacher_preferences": {"select": {"kind": "list"}}},
        DIVERSE,
        {"rounds": 0},
        {"learn": {"objective": {"kind": "mle"}, "source": "teacher"}},
    ],
    ids=str,
)
def test_a_judge_of_pairs_is_enough_where_nothing_needs_scores_or_a_scorer_gives_them(tree: dict[str, object]) -> None:
    assert validate(Recipe, {"name": "r", "critic": MultipleChoice, **tree}, "Recipe").critic.kind == "multiple_choice"


def test_a_scorer_is_of_a_runs_identity() -> None:
    without, with_one = Recipe(name="r").results_key(), Recipe(name="r", scorer=RewardModelConfig()).results_key()
    assert without["scorer"] is None
    assert with_one["scorer"] is not None
    assert {**with_one, "scorer": None} == without
