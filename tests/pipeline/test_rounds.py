"""The rounds' pure pieces, and every way of learning run on tiny parts of both families."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import DataError, RecipeError
from quipwright.core.records import (
    Checkpoint,
    Example,
    Ranking,
    Response,
    Status,
    ids_hash,
)
from quipwright.core.results import Quality
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.stage_cache import StageKey
from quipwright.critics.heuristics import HeuristicCritic
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.run_summary import RunSummary, TrainingFacts
from quipwright.pipeline.distil import distil
from quipwright.pipeline.evaluate import Evaluation
from quipwright.pipeline.recipe import Recipe, load_recipe
from quipwright.pipeline.rounds import Ranked, Step, named_students, rank_attempts, remembered
from quipwright.pipeline.stages.train import Trained
from quipwright.pipeline.summary import evaluation_warnings
from quipwright.serving.writer import Writer
from quipwright.students.base import Prompted
from quipwright.students.batches import ANCHOR
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.recipes import write_recipe
from quipwright.testing.runs import run_context
from quipwright.testing.tiny_models import seq2seq_student
from quipwright.training.early_stopping import EarlyStopping, ValidationPoint, best_point, out_of_patience
from quipwright.training.loop import measured
from quipwright.training.objectives import BRIO
from quipwright.training.preference.pairs import copies_last
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
            line
            for line in evaluation_warnings(Evaluation(HeuristicCritic("longer"), quality=looks), [])
            if "nothing at all" in line
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
    args = (lambda e: f"<{e.text}>", {EXAMPLE.id: EXAMPLE}, texts, [ranking(a, b), ranking(c, b, a), ranking(a, c)])
    rows, columns = ranked_rows(*args, taught)
    assert [row.responses for row in rows] == [("a", "b", "t1"), ("c", "b", "a", "t2"), ("a", "c", "t1")]
    assert [row.ranks for row in rows] == [(0, 1, ANCHOR), (0, 1, 2, ANCHOR), (0, 1, ANCHOR)]
    assert [[r.text for r in own] for own in columns] == [list(row.responses) for row in rows]
    plain, _ = ranked_rows(*args, {})
    assert [row.ranks for row in plain] == [(), (), ()]


def test_winners_and_the_best_of_n() -> None:
    a, b, c = response("a"), response("b"), response("c", status=Status.REPEATS)
    assert winners([ranking(a, b), ranking(b, c)], {r.id: r for r in (a, b, c)}) == {EXAMPLE.id: [a, b]}
    scores = {a.id: 1.0, b.id: 2.0, c.id: 9.0}
    assert best_of({EXAMPLE.id: [a, b, c], "none": [c]}, scores) == {EXAMPLE.id: [b]}
    copy = response(EXAMPLE.text)
    attempts = {EXAMPLE.id: [a, b, copy]}
    assert best_of(attempts, {**scores, copy.id: 3.0}) == {EXAMPLE.id: [copy]}
    assert best_of(attempts, copies_last({**scores, copy.id: 3.0}, [EXAMPLE], attempts)) == {EXAMPLE.id: [b]}


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
            r"select best_worst needs .*critic multiple_choice does not do; set scorer: \{kind: reward\}, or select",
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


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path) -> Run:
    """Run the tiny recipe with overrides."""
    path = write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)

    def go(*sets: str, folder: str = "run", shared: Path | None = None) -> RunSummary:
        usual = ("evaluate.best_of=0", "evaluate.base=false")
        recipe, base = load_recipe(str(path), [*usual, *sets])
        with RunFolder.open(tmp_path / folder, recipe.model_dump(mode="json"), shared=shared) as opened:
            return distil(recipe, opened, base)

    return go


LEARN = "learn.copy_share=0"
RANDOM = "select={kind: random}"  # a pair of every literal, in later rounds too


@pytest.mark.parametrize(
    "sets",
    [
        ("learn.objective={kind: mle}",),
        ("learn.objective={kind: mle}", "learn.source=best_of_n"),
        ("learn.objective={kind: mle}", "learn.source=teacher"),
        ("learn.objective={kind: brio}",),
        ("learn.objective={kind: dpo, nll_weight: 0.1}", "learn.anchor=true"),
        ("learn.objective={kind: simpo, nll_weight: 0.1}", "learn.anchor=true"),
        ("learn.objective={kind: brio}", "select={kind: list, size: 3}"),
        ("select={kind: diverse_quality}",),
        ("select={kind: teacher_mix, share: 1.0}",),
        ("candidates={kind: diverse_beam, k: 3, max_tokens: 60}", "select={kind: random}"),
        ("candidates={kind: mixed, k: 4, beams: 2, max_tokens: 60}",),
    ],
    ids=lambda sets: " ".join(sets),
)
def test_every_way_of_learning_runs(run: Run, sets: tuple[str, ...]) -> None:
    summary = run(LEARN, *sets)
    assert list(summary.checkpoints) == ["imitation", "feedback"]
    feedback = summary.checkpoints["feedback"]
    assert feedback.parent_id == summary.checkpoints["imitation"].id
    assert feedback.weights_hash != summary.checkpoints["imitation"].weights_hash


def test_brio_then_dpo_is_a_recipe_of_two_steps(run: Run) -> None:
    brio = "{objective: {kind: brio}, copy_share: 0, train: {epochs: 1, lr: 0.001}}"
    summary = run(LEARN, f"teacher_preferences={{select: {{kind: diverse, length_rule: before}}, learn: {brio}}}")
    marks = summary.checkpoints
    steps = [(name, mark.objective) for name, mark in marks.items()]
    assert steps == [("imitation", "mle"), ("teacher_preferences", "brio"), ("feedback", "dpo")]
    assert marks["teacher_preferences"].parent_id == marks["imitation"].id
    assert marks["feedback"].parent_id == marks["teacher_preferences"].id
    assert summary.training["preference-1"].losses[0] == pytest.approx(0.69315, abs=1e-4)


def test_verdicts_on_file_are_learnt_before_any_round(run: Run, tmp_path: Path, corpus_file: Path) -> None:
    literals = [json.loads(line)["literal"] for line in corpus_file.read_text().splitlines()]
    rows = [
        {"literal": x, "a": "Fate, that old comedian, struck again.", "b": "Nonsense is it.", "verdict": "a"}
        for x in literals
    ]
    rows.append({**rows[0], "split": "heldout"})
    path = tmp_path / "verdicts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    summary = run(LEARN, RANDOM, f"offline_preferences={{path: {path}, learn: {{copy_share: 0}}}}")
    marks = summary.checkpoints
    assert list(marks) == ["imitation", "offline_preferences", "feedback"]
    assert marks["feedback"].parent_id == marks["offline_preferences"].id
    assert summary.training["preference-offline"].losses[0] == pytest.approx(0.69315, abs=1e-4)
    alone = run(
        LEARN, f"offline_preferences={{path: {path}, learn: {{copy_share: 0}}}}", "rounds=0", folder="alone"
    ).checkpoints
    assert alone["feedback"].weights_hash == marks["offline_preferences"].weights_hash
    halves = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for half, part in zip(halves, (rows[::2], rows[1::2]), strict=True):
        half.write_text("\n".join(json.dumps(row) for row in [*part, rows[-1]]))
    both = f"offline_preferences={{path: [{halves[0]}, {halves[1]}], learn: {{copy_share: 0}}}}"
    halved = run(LEARN, RANDOM, both, "rounds=0", folder="both").checkpoints
    assert halved["feedback"].data_hash == marks["offline_preferences"].data_hash
    path.write_text("\n".join(json.dumps({**row, "literal": "Unknown."}) for row in rows))
    with pytest.raises(DataError, match="no usable verdict"):
        run(LEARN, RANDOM, f"offline_preferences={{path: {path}}}", folder="other")


def test_the_reference_stays_the_initial_student_where_the_recipe_says_so(run: Run, tmp_path: Path) -> None:
    arrows = tmp_path / "stages"
    previous = run(LEARN, "rounds=2", RANDOM, shared=arrows)
    assert previous.training["preference-2"].losses[0] == pytest.approx(0.69315, abs=1e-4)
    initial = run(LEARN, "rounds=2", RANDOM, "reference=initial", folder="initial", shared=arrows)
    assert initial.training["preference-2"].losses[0] != pytest.approx(0.69315, abs=1e-4)
    # the two share every arrow up to there, and no more
    assert initial.checkpoints["round-1"] == previous.checkpoints["round-1"]
    assert initial.checkpoints["feedback"].weights_hash != previous.checkpoints["feedback"].weights_hash
    assert [len(list(arrows.glob(f"preference-{i}-*"))) for i in (1, 2)] == [1, 2]


def test_lambda_is_of_the_run_and_on_record_with_each_round(run: Run, tmp_path: Path, corpus_file: Path) -> None:
    training = run("learn.objective={kind: brio}", "rounds=2", RANDOM).training
    texts = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    student = Writer.of_run(tmp_path / "run").student
    taught = [Prompted("", tuple(t["humorous"])) for t in texts if t["split"] == "train"]
    found = measured(BRIO(), student, taught)
    assert isinstance(found, BRIO)
    assert training["preference-1"].mean_length == training["preference-2"].mean_length == found.mean_length
    assert training["sft-imitation"].mean_length is None


def test_a_judge_of_pairs_learns_and_evaluates_by_the_best_of_n_of_its_scorer(run: Run, tiny_critic: Path) -> None:
    with FaultyServer(lambda body: "Answer: 1") as server:
        summary = run(
            "learn={objective: {kind: mle}, source: best_of_n}",
            f"critic={{kind: multiple_choice, model: {{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}}}",
            f"scorer={{path: {tiny_critic}, floor: 0.5}}",
            "evaluate.best_of=2",
            "rounds=1",
        )
    assert {"imitation-best-of-2", "feedback-best-of-2"} <= {q.system for q in summary.quality}
    assert all(q.levels is not None for q in summary.quality)
    assert {w.judge for w in summary.pairwise} == {summary.critic["name"]}
    assert summary.critic["name"].startswith("multiple_choice-")


def test_a_scorers_grades_choose_pairs_and_its_critic_judges_them(
    tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path
) -> None:
    path = write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)
    example = Example(text="The cat ate my sandwich before lunch.")
    own = [
        Response(example_id=example.id, text=f"The cat {verb} my sandwich.", author="s")
        for verb in ("sued", "ate", "hid")
    ]

    def graded(folder: str, *sets: str) -> tuple[str, list[str]]:
        """Whose grades chose the pairs, and who judged the best against the worst."""
        recipe, base = load_recipe(str(path), ["select={kind: best_worst}", *sets])
        with run_context(recipe, tmp_path / folder, base) as ctx:
            ranked = rank_attempts(
                ctx, recipe, 1, recipe.select, [example], {example.id: own}, ctx.judges.of(recipe.critic)
            )
            assert ranked.selection is not None
            assert ranked.selection.acceptance == {"pairs": 3, "within": 3, "literals": 1, "paired": 1}
            critic_key = ctx.judges.of(recipe.critic).key
            by_critic = StageKey("grade", "1", (critic_key, ids_hash(own), ids_hash([example]))).folder
            (stage,) = ctx.cache.folder.glob("grade-1-*")
            return "its grades" if stage.name == by_critic else "a scorer's", [j.judge for j in ranked.judgments]

    scorer = f"scorer={{path: {tiny_critic}, floor: 0.4}}"
    assert graded("alone") == ("its grades", ["reward:critic0"])
    assert graded("same", scorer)[0] == "its grades"  # of the same files: read once
    with FaultyServer(lambda body: "Answer: 1") as server:
        model = f"{{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}"
        name, judges = graded("two", scorer, f"critic={{kind: multiple_choice, model: {model}}}")
        assert name == "a scorer's"
        assert len(judges) == 2
        assert all(judge.startswith("multiple_choice-") for judge in judges)
        assert server.heads


def test_kept_pairs_are_trained_on_again(run: Run) -> None:
    dropped = run(LEARN, "rounds=2", RANDOM)
    kept = run(LEARN, "rounds=2", RANDOM, "keep_pairs=true", folder="kept")
    first, second = kept.counts.rankings
    assert kept.training["preference-2"].rows == first + second
    assert dropped.training["preference-2"].rows == dropped.counts.rankings[1]


def test_an_early_stopped_run_keeps_its_best_round(run: Run, tmp_path: Path) -> None:
    summary = run(LEARN, "rounds=3", RANDOM, "early_stopping={patience: 1}")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    rates = {p["round"]: p["values"]["against-teacher/win_tie_rate"] for p in lines if p["stage"] == "validate"}
    assert list(rates) in ([1, 2], [1, 2, 3])
    sound = {n for n in rates if not any(w.startswith(f"Round {n} degenerates") for w in summary.warnings)}
    best = max(rates[n] for n in sound or rates)
    assert summary.checkpoints["feedback"].round == min(n for n in sound or rates if rates[n] == best)


def test_a_round_is_watched_epoch_by_epoch(run: Run) -> None:
    sets = (LEARN, "learn.train.epochs=4", "early_stopping={each: epoch, patience: 1}")
    summary = run(*sets)
    found = summary.training["preference-1"].readings
    steps = [r.number for r in found]
    assert 2 <= len(steps) <= 4
    judged = [s.name for s in summary.stages if s.name.startswith("judge-validate-")]
    assert judged == [*(f"judge-validate-1.{step}" for step in steps), "judge-validate-1"]
    again = run(*sets)
    assert all(stage.skipped for stage in again.stages)
    assert again.warnings == summary.warnings


def test_a_watch_needs_validation_literals(run: Run) -> None:
    with pytest.raises(
        DataError,
        match=r"no literal of split 'valid', which early_stopping needs; it has 8 of train, 2 of test, 0 of ood",
    ):
        run(LEARN, "early_stopping={}", "data.valid=0")


@pytest.mark.parametrize("family", ["bart", "t5-v1.1"])
@pytest.mark.parametrize("objective", ["dpo", "brio"])
def test_encoder_decoders_run_the_whole_flow(run: Run, tmp_path: Path, family: str, objective: str) -> None:
    student = seq2seq_student(family)
    for part in (student.network, student.tokenizer):
        part.save_pretrained(tmp_path / "weights")
    summary = run(
        LEARN,
        f"student={{kind: seq2seq, weights: {tmp_path / 'weights'}, precision: fp32, tuning: full, context: 256}}",
        f"learn.objective={{kind: {objective}}}",
        "imitation.train={epochs: 60, batch_size: 4, micro_batch_size: 4, lr: 0.01}",
        "candidates={kind: mixed, k: 6, beams: 3, max_tokens: 60, top_up: 2}",
        "select={kind: random}",
        "evaluate.decode={beams: 5, max_tokens: 60}",
    )
    assert list(summary.checkpoints) == ["imitation", "feedback"]
    assert {w.candidate for w in summary.pairwise} == {"imitation", "feedback"}
