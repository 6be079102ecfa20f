"""The audit: labels in every format, critics whose bias is known, and what the command prints."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app
from quipwright.core.errors import CriticError, DataError, RecipeError
from quipwright.core.paths import resolve
from quipwright.core.records import Comparison, Judgment
from quipwright.core.results import Figure, PairwiseResult, ScoringRule
from quipwright.core.statistics import Choice, Counts, JudgedPair
from quipwright.core.text import word_count
from quipwright.critics.active import ActiveCritic, Agreement
from quipwright.critics.loading import critic_settings, open_critic
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.evaluation.audit import audit_critic, hits, labellers
from quipwright.evaluation.corrected import with_corrections
from quipwright.evaluation.human.labelled_pair import LabelledPair
from quipwright.evaluation.human.labels import read_labels, sampled_pairs
from quipwright.evaluation.report.terminal import audit_lines
from quipwright.llm.call_rows import Stored
from quipwright.llm.call_store import CallStore


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_every_format_says_the_same(tmp_path: Path) -> None:
    texts = {"literal": "It rained.", "a": "It poured.", "b": "Clouds wept."}
    named = {**texts, "votes": {"humor": {"ann": "b", "bo": "b", "cy": "a", "di": None}}}
    flat = [
        {**texts, "question": "funny", "annotator": n, "verdict": v}
        for n, v in (("ann", "b"), ("bo", "b"), ("cy", "a"))
    ]
    counted = {**texts, "question": "humour", "votes_a": 1, "votes_b": 2}
    for rows in ([named], flat, [counted]):
        (pair,) = read_labels(write(tmp_path / "l.jsonl", *rows))
        assert sorted(pair.votes["humour"].values()) == ["A", "B", "B"]


def test_rows_of_one_pair_are_joined_and_turned(tmp_path: Path) -> None:
    rows = [
        {"literal": "x", "a": "one", "b": "two", "verdict": "a"},
        {"literal": "x", "a": "two", "b": "one", "verdict": "a"},
    ]
    (pair,) = read_labels(write(tmp_path / "l.jsonl", *rows))
    assert pair.votes == {"overall": {"1": "A", "2": "B"}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": "x", "b": "y", "verdict": "left"}, "verdict 'left'"),
        ({"a": "x", "b": "y"}, "has no verdict"),
        ({"a": "x", "b": 3, "verdict": "a"}, "lacks the texts"),
        ({"a": "x", "b": "y", "votes_a": -1, "votes_b": 2}, "whole numbers"),
        ([1], "is a list"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: object, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        read_labels(write(tmp_path / "l.jsonl", row))
    assert "line 1" in str(error.value)


def test_an_unknown_split_names_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "l.jsonl", {"a": "x", "b": "y", "verdict": "a", "split": "heldout"})
    with pytest.raises(DataError, match="heldout"):
        read_labels(path, "test")


def synthetic(n: int, seed: int = 0) -> list[LabelledPair]:
    """Pairs whose better text says ``good``; three people tell which with 80 % certainty; lengths say nothing."""
    rng = random.Random(seed)
    pairs = []
    for i in range(n):
        good_first = rng.random() < 0.5
        texts = [" ".join([f"{word}{i}", *["w"] * rng.randint(3, 9)]) for word in ("good", "bad")]
        a, b = texts if good_first else texts[::-1]
        votes = {str(k): "A" if (rng.random() < 0.8) == good_first else "B" for k in range(3)}
        pairs.append(LabelledPair(literal=f"literal {i}", a=a, b=b, votes={"overall": votes}))
    return pairs


class Biased:
    """Right about quality, except that with a known chance it takes the first shown, or the longer, whatever it is."""

    positional = True
    name = "biased"

    def __init__(self, first: float = 0.0, longer: float = 0.0) -> None:
        self.first, self.longer, self.rng = first, longer, random.Random(1)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        judgments = []
        for c in comparisons:
            swayed, by_length = self.rng.random() < self.first, self.rng.random() < self.longer
            for shown in ("ab", "ba"):
                a_better = c.a.startswith("good")
                if by_length and word_count(c.a) != word_count(c.b):
                    a_better = word_count(c.a) > word_count(c.b)
                if swayed:
                    a_better = shown == "ab"
                verdict = "A" if a_better else "B"
                judgments.append(Judgment(pair_id=c.pair.id, judge=self.name, shown=shown, verdict=verdict))
        return judgments


def inside(estimate: object, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high  # type: ignore[attr-defined]


def test_a_known_position_bias_is_recovered() -> None:
    audited = audit_critic(Biased(first=0.3), synthetic(600)).audits["overall"]
    assert inside(audited.position.changed, 0.3)
    assert inside(audited.agreement.mean, 0.7 * 0.8 + 0.3 * 0.5)
    assert audited.position.first_rate.low > 0.5


def test_a_known_length_bias_is_recovered() -> None:
    pairs = synthetic(800)
    fair, swayed = (audit_critic(Biased(longer=share), pairs).audits["overall"] for share in (0.0, 0.5))
    assert fair.position.changed.value == swayed.position.changed.value == 0
    assert swayed.critic_slope.low > fair.critic_slope.high
    # half of the pairs go to the longer text: of those where people took the shorter, half of what was right is lost
    expected = 0.5 + 0.5 * fair.length.conditional.mean.value
    assert swayed.length.conditional.mean.value == pytest.approx(expected, abs=0.06)


def named(pairs: Sequence[LabelledPair], **changed: object) -> list[LabelledPair]:
    """The same pairs, whose labels are of Ann, Bo and Cy."""
    who = {"0": "ann", "1": "bo", "2": "cy"}
    return [
        pair.model_copy(update={"votes": {"overall": {who[k]: v for k, v in pair.votes["overall"].items()}}, **changed})
        for pair in pairs
    ]


def test_a_critic_is_tested_against_each_person_where_three_labelled_fifty_pairs() -> None:
    pairs = named(synthetic(60), labelled_by="people")
    report = audit_critic(Biased(), pairs)
    test = report.alt_tests["overall"]
    assert (test.passed, test.winning_rate, len(test.annotators)) == (True, 1.0, 3)
    assert {one.items for one in test.annotators} == {60}
    lines = "\n".join(audit_lines(report))
    assert "alt-test (epsilon 0.1): passes, better than 3 of 3 people" in lines
    assert "judgments of people" in lines
    assert audit_critic(Biased(first=1.0), pairs).alt_tests["overall"].passed is False
    assert audit_critic(Biased(), pairs[:49]).alt_tests == {}, "too few pairs"
    assert audit_critic(Biased(), synthetic(60)).alt_tests == {}, "numbers are no persons"
    by_model = audit_critic(Biased(), named(synthetic(60), labelled_by="a model"))
    assert by_model.alt_tests == {}, "a model is no person"
    assert "people" not in "\n".join(audit_lines(by_model))


def test_what_ships_was_labelled_by_a_model_and_votes_by_people(tmp_path: Path) -> None:
    row = {"literal": "x", "a": "one", "b": "two", "verdict": "a"}
    assert labellers(read_labels(write(tmp_path / "l.jsonl", row))) == ""
    assert labellers(read_labels(write(tmp_path / "l.jsonl", {**row, "labelled_by": "model"}))) == "a model"
    assert labellers(read_labels(resolve("bundled:second-readings.jsonl", "Labels"))) == "a model"
    with pytest.raises(DataError, match="labelled_by 'robots'"):
        read_labels(write(tmp_path / "l.jsonl", {**row, "labelled_by": "robots"}))


def side(first: Choice, second: Choice, *people: Choice) -> JudgedPair:
    return JudgedPair(first, second, people)


def test_hits_by_hand() -> None:
    sides = [
        side("A", "A", "A", "A", "B"),  # of A's: a hit
        side("A", "B", "A", "tie", "A"),  # half of one
        side("tie", "tie", "A"),  # half of one
        side("B", "B", "B"),  # of B's: a hit
        side("A", "tie", "B", "B"),  # a quarter
        side("A", "A", "A", "B"),  # no majority
        side("A", "A", "tie", "A"),  # no majority for a text
    ]
    assert hits(sides) == (Counts(2.0, 3), Counts(1.25, 2))


def test_a_rate_is_corrected_by_the_errors_of_its_judge() -> None:
    """60 of 100 wins by a judge of sensitivity 0.9 and specificity 0.8: (0.6 + 0.8 - 1) / (0.9 + 0.8 - 1) = 0.571."""
    rule = ScoringRule(rule="verdict", wins=50, ties=20, losses=30, rate=Figure(value=0.7, low=0.6, high=0.8))
    unknown = Figure(value=None, low=None, high=None)
    made = PairwiseResult(
        candidate="a", baseline="b", judge="biased", split="test", n=100, unparsed=0, rules=(rule,), score=unknown,
        length_controlled=unknown, length_effect=None, length_ratio=None, p_even=None, p_sign=None,
    )  # fmt: skip
    report = replace(audit_critic(Biased(), synthetic(10)), errors={"overall": (Counts(90, 100), Counts(80, 100))})
    (one,) = with_corrections([made], [report])
    assert one.corrected is not None
    assert one.corrected.value == pytest.approx(0.4 / 0.7)
    assert one.corrected.low < 0.5 < 0.571 < one.corrected.high, "the audit's own error is in the interval"
    assert with_corrections([made.model_copy(update={"judge": "another"})], [report])[0].corrected is None
    assert with_corrections([made], [replace(report, labellers="a model")])[0].corrected is None


def test_the_decision_is_about_the_interval() -> None:
    pairs = synthetic(300)
    assert audit_critic(Biased(), pairs, floor=0.6).decision == "go"
    assert audit_critic(Biased(first=1.0), pairs, floor=0.6).decision == "no-go"
    assert audit_critic(Biased(), pairs[:20], floor=0.75).decision == "unsure"


def test_unparsed_showings_are_counted_never_guessed(tmp_path: Path) -> None:
    row = {"literal": "x", "a": "one", "b": "two"}
    path = write(tmp_path / "critic.jsonl", {**row, "p_ab": 0.9})
    (labels,) = read_labels(write(tmp_path / "l.jsonl", {**row, "verdict": "a"}))
    report = audit_critic(open_critic(f"recorded:{path}"), [labels])
    assert report.audits["overall"].unparsed == 1
    assert report.agreement.n == 0


def test_a_recorded_critic_is_found_either_way_round(tmp_path: Path) -> None:
    path = write(tmp_path / "critic.jsonl", {"literal": "x", "a": "one", "b": "two", "p_ab": 0.9, "p_ba": 0.7})
    pair = LabelledPair(literal="x", a="two", b="one", votes={})
    shown = {j.shown: j.p_a for j in open_critic(f"recorded:{path}").judge([pair.comparison()])}
    assert shown == {"ab": pytest.approx(0.3), "ba": pytest.approx(0.1)}


def test_rules_are_swap_symmetric() -> None:
    pairs = synthetic(40)
    for pick in ("longer", "shorter", "coin"):
        critic = open_critic(f"rule:{pick}")
        straight = critic.judge([p.comparison() for p in pairs])
        turned = critic.judge([p.model_copy(update={"a": p.b, "b": p.a}).comparison() for p in pairs])
        assert all(a.p_a == pytest.approx(1 - b.p_a) for a, b in zip(straight, turned, strict=True))


def test_an_unknown_critic_is_one_line() -> None:
    with pytest.raises(RecipeError, match="rule:PICK"):
        open_critic("gpt")
    with pytest.raises(RecipeError, match="pick"):
        open_critic("rule:best")


def test_self_preference_is_by_model_name() -> None:
    pairs = [p.model_copy(update={"author_a": "teacher:m", "author_b": "student:s"}) for p in synthetic(30)]
    critic = Biased()
    critic.name = "multiple_choice-answer_only:m"
    assert audit_critic(critic, pairs).audits["overall"].self_preference.rate.n == 30


def test_models_of_one_size_are_not_one_model() -> None:
    pairs = [p.model_copy(update={"author_a": "teacher:qwen3:8b", "author_b": "student:s"}) for p in synthetic(3)]
    for model, n in (("llama3.1:8b", 0), ("qwen3:8b", 3)):
        critic = Biased()
        critic.name = f"multiple_choice-answer_only:{model}"
        assert audit_critic(critic, pairs).audits["overall"].self_preference.rate.n == n


def test_a_limited_draw_keeps_order_and_repeats() -> None:
    pairs = synthetic(50)
    drawn = sampled_pairs(pairs, 10, seed=3)
    assert drawn == sampled_pairs(pairs, 10, seed=3)
    assert [pairs.index(p) for p in drawn] == sorted(pairs.index(p) for p in drawn)


def test_the_command_prints_table_1_and_refuses_a_bad_critic(tmp_path: Path) -> None:
    rows = [
        {**p.model_dump(include={"literal", "a", "b"}), "votes": {"humour": dict.fromkeys("xy", "a")}}
        for p in synthetic(20)
    ]
    labels, target = write(tmp_path / "l.jsonl", *rows), tmp_path / "out.json"
    asked = [
        "audit",
        "--labels",
        str(labels),
        "--critic",
        "rule:longer",
        "--critic",
        "rule:first",
        "--json",
        str(target),
    ]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert all(
        word in result.output for word in ("Ag-H", "PB", "LB", "rule:longer", "rule:first", "two of the labellers")
    )
    assert [entry["critic"] for entry in json.loads(target.read_text())] == ["rule:longer", "rule:first"]
    failed = CliRunner().invoke(app, [*asked, "--require", "--floor", "0.99"])
    assert isinstance(failed.exception, CriticError)


def test_lines_tell_every_figure() -> None:
    text = "\n".join(audit_lines(audit_critic(Biased(first=0.2), synthetic(60))))
    assert all(word in text for word in ("agreement", "alpha", "position", "LB", "log-odds", "GO"))


def test_critics_on_language_models_are_audited_and_their_answers_kept(tiny_weights: Path, tmp_path: Path) -> None:
    from quipwright.critics.loading import opened

    pairs = synthetic(4)
    names = [f"mcp:{tiny_weights}", f"cloze:{tiny_weights}", "rule:longer"]
    with opened(names, tmp_path / "calls") as critics:
        reports = [audit_critic(loaded.critic, pairs) for loaded in critics]
    assert [p.pairs for p in reports] == [4, 4, 4]
    assert reports[1].audits["overall"].position.changed.value == 0  # a cloze is shown no order
    assert all(p.agreement.n + 3 * p.audits["overall"].unparsed == 12 for p in reports)
    assert any((tmp_path / "calls").iterdir())


def priced(tmp_path: Path, weights: Path, text: str) -> Path:
    """A YAML file of a critic on tiny weights, or a recipe, with the name the price table needs."""
    path = tmp_path / "critic.yaml"
    path.write_text(text.replace("TINY", str(weights)), encoding="utf-8")
    return path


def printed(labels: Path, calls: Path, *critics: str) -> str:
    asked = [word for critic in critics for word in ("--critic", critic)]
    result = CliRunner().invoke(app, ["audit", "--labels", str(labels), "--calls", str(calls), *asked])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_the_audit_of_a_live_critic_says_what_it_cost(tiny_weights: Path, tmp_path: Path) -> None:
    labels = write(
        tmp_path / "l.jsonl", *({**p.model_dump(include={"literal", "a", "b"}), "verdict": "a"} for p in synthetic(3))
    )
    plain = "kind: multiple_choice\nmodel: {kind: local, weights: TINY}\n"
    text = printed(labels, tmp_path / "one", str(priced(tmp_path, tiny_weights, plain)), "rule:longer")
    assert "calls, unknown tokens in, unknown tokens out, cost unknown" in text
    assert text.count("\n  took ") == 2
    again = printed(labels, tmp_path / "one", str(priced(tmp_path, tiny_weights, plain)))
    assert "no call, every answer was kept from before" in again


def test_a_recipe_names_its_critic_prices_budget_and_task(tiny_weights: Path, tmp_path: Path) -> None:
    recipe = """
name: live
task: humour
critic: {kind: cloze, model: {kind: local, weights: TINY}}
prices: {"TINY": {input: 0, output: 0, call: 0.5}}
budget: {money: 100}
"""
    chosen, base = critic_settings(str(priced(tmp_path, tiny_weights, recipe)))
    assert (chosen.critic.kind, chosen.task, base) == ("cloze", "humour", tmp_path)
    assert chosen.budget.money == 100
    assert chosen.prices[str(tiny_weights)].call == 0.5
    default, _ = critic_settings(str(priced(tmp_path, tiny_weights, "name: x\nstudent: {weights: TINY}\n")))
    assert default.critic == RewardModelConfig()
    active = priced(tmp_path, tiny_weights, "name: x\ncritic: {kind: active_labelling, from: {kind: rule}}\n")
    with pytest.raises(RecipeError, match=r"critic\.yaml is trained in a run\. Name the run's folder"):
        critic_settings(str(active))


def test_calls_of_a_priced_critic_are_added_up(tmp_path: Path) -> None:
    class Paid(Biased):
        def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
            store.put(rows := [Stored(c.pair.id, "m", {}, {}, 100, 7, 0.25) for c in comparisons])
            for row in rows:
                store.add(row, counted=False)
            return super().judge(comparisons)

    with CallStore.open(tmp_path) as store:
        report = audit_critic(Paid(), synthetic(4), store=store)
        assert {s.stage for s in store.spent()} == {f"audit {report.critic}"}
    assert "4 calls, 400 tokens in, 28 tokens out, cost 1.0000" in "\n".join(audit_lines(report))
    assert report.to_json()["spent"]["cost"] == 1.0


def test_a_trained_critic_is_named_by_its_folder_or_its_runs(tiny_critic: Path, tmp_path: Path) -> None:
    labels = write(
        tmp_path / "l.jsonl", *({**p.model_dump(include={"literal", "a", "b"}), "verdict": "a"} for p in synthetic(3))
    )
    shutil.copytree(tiny_critic, tmp_path / "run" / "critic")
    names = [str(tiny_critic), f"reward:{tiny_critic}", str(tmp_path / "run")]
    assert printed(labels, tmp_path / "calls", *names).count("\n  took ") == 3
    chosen = [critic_settings(name)[0].critic for name in names]
    assert [resolve(c.path, "Critic") for c in chosen] == [tiny_critic, tiny_critic, tmp_path / "run" / "critic"]
    assert not (tmp_path / "calls").exists()
    with pytest.raises(RecipeError, match="the folder of a trained critic"):
        critic_settings(str(tmp_path))


def test_a_distilled_copy_is_kept_with_its_agreement(tiny_critic: Path, tmp_path: Path) -> None:
    copy = RewardModelConfig(path=str(tiny_critic), floor=0).load()
    ActiveCritic(copy, [], Agreement(14, 20, 100, 3)).save(tmp_path / "critic")
    card = RewardModelConfig(path=str(tmp_path / "critic")).load().card
    assert (card.agreement, card.n) == (0.7, 20)
    assert card.low is not None
    assert card.low < 0.7


def test_who_asks_a_language_model_is_refused_where_nobody_may_be_asked() -> None:
    with pytest.raises(RecipeError, match="asks a language model"):
        open_critic("mcp")
