"""The distilled critic: what it cannot be biased by, the rule against copies, its losses and its figures by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from quipwright.core.errors import CriticError, DataError
from quipwright.core.records import Comparison, Judgment, Pair, Response
from quipwright.critics.copy_filter import CopyFilter
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.features import FeatureReader, fit_features, fit_logistic, lexical
from quipwright.critics.reward_model.figures import component_figures, measure
from quipwright.critics.reward_model.groups import Compared, FreeComparisons, Graded, Group, grouped
from quipwright.critics.reward_model.model import RewardArchitecture, RewardModel
from quipwright.critics.reward_model.training import CriticTraining, group_loss, train_critic
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.verdicts import VerdictRow, preferences, read_verdicts
from quipwright.students.base import LoRA

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


@pytest.fixture(scope="module")
def critic(tiny_critic: Path) -> RewardModelCritic:
    return RewardModelCritic.load(tiny_critic)


def compare(a: str, b: str, literal: str = LITERAL) -> Comparison:
    return Comparison(Pair(example_id="e", a_id=a[:20], b_id=b[:20], selector="test"), literal, a, b)


def test_swapping_a_pair_mirrors_the_verdict(critic: RewardModelCritic) -> None:
    there, back = critic.judge([compare(TEXTS[0], TEXTS[1]), compare(TEXTS[1], TEXTS[0])])
    assert there.p_a == pytest.approx(1 - back.p_a, abs=2e-6)
    assert {there.verdict, back.verdict} == {"A", "B"}
    same = critic.judge([compare(TEXTS[0], TEXTS[0])])[0]
    assert (same.p_a, same.verdict) == (0.5, "tie")


def test_a_score_does_not_depend_on_its_company(critic: RewardModelCritic) -> None:
    together = critic.scores([LITERAL] * 3, TEXTS)
    alone = [critic.scores([LITERAL], [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=0.03)  # bf16


def test_grades_add_up_and_follow_the_score(critic: RewardModelCritic) -> None:
    responses = [Response(example_id="e", text=text, author="student") for text in TEXTS]
    grades = sorted(critic.grade([LITERAL] * 3, responses), key=lambda g: g.score)
    for grade in grades:
        assert sum(grade.levels or ()) == pytest.approx(1, abs=3e-6)
    levels = [g.levels or () for g in grades]
    assert [best for *_, best in levels] == sorted(best for *_, best in levels)
    assert [worst for worst, *_ in levels] == sorted((worst for worst, *_ in levels), reverse=True)


def test_a_critic_below_the_floor_is_refused(tiny_critic: Path) -> None:
    from quipwright.critics.reward_model.critic import RewardModelConfig

    with pytest.raises(CriticError, match=r"70\.0% of 50.*floor is 80%"):
        RewardModelConfig(path=str(tiny_critic), floor=0.8).load()
    with pytest.raises(CriticError, match="train-critic"):
        RewardModelConfig(path=str(tiny_critic.parent)).load()


class _Recorder:
    """A critic that always says A and remembers what it was asked."""

    name, positional = "recorder", False

    def __init__(self) -> None:
        self.asked: list[Comparison] = []

    def judge(self, comparisons: list[Comparison]) -> list[Judgment]:
        self.asked += comparisons
        return [Judgment(pair_id=c.pair.id, judge=self.name, p_a=0.9, verdict="A") for c in comparisons]


def test_copies_and_broken_texts_lose_without_a_call() -> None:
    inner = _Recorder()
    attempt, near = TEXTS[0], "I missed the last bus home and had to run."
    judged = CopyFilter(inner).judge(
        [
            compare(LITERAL, attempt),
            compare(attempt, LITERAL),
            compare(near, attempt),
            compare("", attempt),
            compare(attempt, "ha ha ha ha ha ha ha ha"),
            compare(LITERAL, near),
            compare(TEXTS[0], TEXTS[1]),
        ]
    )
    assert [j.verdict for j in judged] == ["B", "A", "B", "B", "A", "tie", "A"]
    assert [j.judge for j in judged][:5] == [
        "rule:copy",
        "rule:copy",
        "rule:copy",
        "rule:degenerate",
        "rule:degenerate",
    ]
    assert len(inner.asked) == 1


def test_the_rule_holds_in_both_orders() -> None:
    for a, b in ((LITERAL, TEXTS[0]), ("", TEXTS[1]), (LITERAL, "")):
        there, back = CopyFilter(_Recorder()).judge([compare(a, b), compare(b, a)])
        assert there.p_a == 1 - back.p_a


def test_group_loss_by_hand(tiny_weights: Path) -> None:
    shape = RewardArchitecture(
        weights=str(tiny_weights), layers=2, first_layer=0, lora=LoRA(rank=2, alpha=4), prompt=PROMPT
    )
    model = RewardModel(shape).eval()
    group = Group(
        LITERAL,
        list(TEXTS),
        ["attempt"] * 3,
        [Compared(0, 1, 1.0, 2.0), Compared(1, 2, 0.5, 1.0)],
        [Graded(0, 2.0, 1.0), Graded(1, 0.5, 0.5)],
    )
    with torch.no_grad():
        s = model(model.rows([LITERAL], [TEXTS]))[0].tolist()
        c = model.cuts.tolist()
        total = float(group_loss(model, model, [group], grade_weight=1.5).mean())
    pairs = 2.0 * -math.log(expit(s[0] - s[1])) + 0.5 * -(math.log(expit(s[1] - s[2])) + math.log(expit(s[2] - s[1])))

    def ordinal(score: float, targets: tuple[float, ...]) -> float:
        return -sum(
            t * math.log(expit(score - cut)) + (1 - t) * math.log(expit(cut - score))
            for t, cut in zip(targets, c, strict=True)
        )

    grades = 1.5 * (ordinal(s[0], (1, 1, 0)) + 0.5 * ordinal(s[1], (0.5, 0, 0))) / 3
    assert total == pytest.approx(pairs + grades, rel=1e-4)
    assert c[0] < c[1] < c[2]


def test_logistic_fit_recovers_known_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    truth = np.array([1.0, -0.5, 0.0])
    y = (rng.random(4000) < 1 / (1 + np.exp(-x @ truth))).astype(float)
    assert fit_logistic(x, y, np.ones(4000), 1.0) == pytest.approx(truth, abs=0.12)


def test_features_by_hand() -> None:
    recall, distance, length, novel, repeats = lexical("The cat ate my fish", "The cat stole my fish today")
    assert recall == pytest.approx(4 / 5)
    assert novel == pytest.approx(2 / 6)
    assert length == pytest.approx(math.log(7 / 6))
    assert 0 < distance < 1
    assert repeats == 0
    assert lexical("a b", "a b")[:2] == (1.0, 0.0)


def test_plain_likelihood_features_are_the_models_own(tiny_weights: Path) -> None:
    shape = RewardArchitecture(prompt=PROMPT)
    reader = FeatureReader(str(tiny_weights), None, shape.prompt, shape.backward)
    features = reader.read([LITERAL, LITERAL], [TEXTS[0], TEXTS[2]])
    again = reader.read([LITERAL], [TEXTS[2]])
    assert features[1] == pytest.approx(again[0], abs=0.02)
    assert (features[:, 0] < 0).all()
    weights = fit_features(features, [(0, 1, 1.0, 1.0)])
    assert weights.score(features)[0] > weights.score(features)[1]


def test_the_prompt_of_a_critic_is_a_setting_and_its_other_direction_follows(tiny_weights: Path) -> None:
    assert RewardArchitecture(prompt=PROMPT).backward == "Funny: {text}\nPlain:"
    vivid = RewardArchitecture(prompt="Plain: {literal}\nVivid:")
    assert vivid.backward == "Vivid: {text}\nPlain:"
    with pytest.raises(ValueError, match=r"slot \{literal\} once"):
        RewardArchitecture(prompt="Vivid:")
    read = [
        FeatureReader(str(tiny_weights), None, s.prompt, s.backward) for s in (RewardArchitecture(prompt=PROMPT), vivid)
    ]
    funny, other = (reader.read([LITERAL], TEXTS[:1])[0] for reader in read)
    assert (funny[:2] != other[:2]).all()
    assert (funny[2:] == other[2:]).all()


@given(st.integers(0, 10_000))
def test_free_comparisons_always_favour_the_sound_text(seed: int) -> None:
    free = FreeComparisons(
        {LITERAL: list(TEXTS), "Another one here.": ["Something else entirely."]}, share=1.0, weight=0.2
    )
    group = Group(LITERAL, ["A fair and true attempt at it."], ["attempt"], [], [Graded(0, 2.0, 1.0)])
    extended = free.extend(group, random.Random(seed))
    assert group.pairs == []
    assert len(extended.texts) > 1
    rank = {"teacher": 2, "attempt": 1, "copy": 0, "spoilt": 0, "stray": 0}
    for i, j, target, weight in extended.pairs:
        assert target == 1.0
        against_attempt = extended.origins[j] == "attempt"
        assert weight == 0.5 if against_attempt else weight in (0.2, pytest.approx(0.3))
        assert rank[extended.origins[i]] > rank[extended.origins[j]]


def write_verdicts(path: Path, rows: int = 24) -> Path:
    lines = []
    for i in range(rows):
        row = {
            "literal": f"Sentence number {i} is about the bus.",
            "a": f"Bus {i}, gone again, like my hopes.",
            "b": f"Bus bus {i}.",
        }
        better = "a" if i % 3 else "b"
        grades = {"quality_a": 2 if better == "a" else 0, "quality_b": 0 if better == "a" else 1}
        split = "heldout" if i % 4 == 0 else "train"
        lines.append(json.dumps({**row, **grades, "verdict": better, "strength": 1 + i % 3, "split": split}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_training_from_a_file_to_a_saved_critic_with_figures(tiny_weights: Path, tmp_path: Path) -> None:
    shape = RewardArchitecture(weights=str(tiny_weights), layers=2, first_layer=0, lora=LoRA(rank=2, alpha=4))
    how = CriticTraining(
        verdicts=str(write_verdicts(tmp_path / "v.jsonl")),
        teacher=None,
        architecture=shape,
        epochs=2,
        lr=0.01,
        calibration_share=0.3,
    )
    trained = train_critic(how)
    card = trained.card
    assert (card.n, card.figures["n"]) == (6, 6)
    assert card.low <= card.agreement <= card.high
    trained.save(tmp_path / "critic")
    loaded = RewardModelCritic.load(tmp_path / "critic")
    assert loaded.card == card
    literals, texts = [LITERAL] * 3, list(TEXTS)
    assert loaded.scores(literals, texts) == pytest.approx(trained.scores(literals, texts), abs=0.05)
    rows = [row for row in read_verdicts(tmp_path / "v.jsonl") if row.split == "heldout"]
    parts = component_figures(trained, rows)
    assert parts["whole"][0] == pytest.approx(measure(trained, rows)["agreement"], abs=1e-3)
    assert {"head", "features", "recall"} <= parts.keys()
    told = [row.model_copy(update={"author_a": "teacher"}) if i % 2 else row for i, row in enumerate(rows)]
    split = measure(trained, told)
    assert (split["n"], split["n_teacher_judged"]) == (3, 3)
    right = split["agreement"] * 3 + split["agreement_teacher"] * 3
    assert right == pytest.approx(6 * measure(trained, rows)["agreement"], abs=1e-2)


def test_grouping_weighs_by_strength_and_finds_unjudged_pairs(tmp_path: Path) -> None:
    base = {"literal": "L one two.", "split": "train"}
    rows = [
        {**base, "a": "x", "b": "y", "verdict": "a", "strength": 3, "quality_a": 2, "quality_b": 1},
        {**base, "a": "y", "b": "z", "verdict": "tie", "strength": 1, "quality_a": 1, "quality_b": 0},
        {**base, "a": "x", "b": "y", "verdict": "a", "split": "heldout"},
    ]
    path = tmp_path / "v.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    train = [row for row in read_verdicts(path) if row.split == "train"]
    (group,) = grouped(train, unjudged_weight=0.5)
    assert group.pairs == [(0, 1, 1.0, 1.4), (1, 2, 0.5, 0.6), (0, 2, 1.0, 0.5)]
    assert group.graded == [(0, 2.0, 1.0), (1, 1.0, 1.0), (2, 0.0, 1.0)]
    by_teacher = [train[0].model_copy(update={"author_a": "teacher"}), train[1]]
    (group,) = grouped(by_teacher, unjudged_weight=0.5, teacher_share=0.5)
    assert group.origins == ["teacher", "attempt", "attempt"]
    assert group.pairs == [(0, 1, 1.0, 0.7), (1, 2, 0.5, 0.6), (0, 2, 1.0, 0.25)]
    assert group.graded == [(0, 2.0, 0.5), (1, 1.0, 1.0), (2, 0.0, 1.0)]


def test_preferences_on_file_are_clear_honest_and_the_best_of_each_literal() -> None:
    def row(a: str, b: str, verdict: str = "a", strength: int = 2, grades: tuple[int, int] = (1, 0), **more: str):
        told = {
            "a": a,
            "b": b,
            "verdict": verdict,
            "strength": strength,
            "quality_a": grades[0],
            "quality_b": grades[1],
        }
        return VerdictRow.model_validate({"literal": LITERAL, **told, **more})

    rows = [
        row("good", "bad"),
        row("worse", "funny", verdict="b", grades=(0, 2)),
        row("tied", "level", verdict="tie"),
        row("faint", "bad", strength=1),
        row("least bad", "worst", grades=(0, 0)),
        row(LITERAL, "bad"),
        row("wit", "bad", grades=(3, 0), author_a="teacher"),
        row("student beats", "teacher", author_b="teacher"),
    ]
    assert preferences(rows, 5, 2, 1, False) == {LITERAL: [("funny", "worse"), ("good", "bad")]}
    assert preferences(rows, 1, 2, 1, True) == {LITERAL: [("wit", "bad")]}
    assert preferences(rows, 1, 2, 0, False) == {LITERAL: [("funny", "worse")]}
    assert preferences([row("x", "y").model_copy(update={"quality_a": None})], 1, 2, 3, False) == {
        LITERAL: [("x", "y")]
    }


def test_bad_verdict_files(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"literal": "L.", "a": "x", "b": "y", "verdict": "c"}\n')
    with pytest.raises(DataError, match=r"line 1: verdict"):
        read_verdicts(path)
    path.write_text('{"literal": "L.", "a": "x", "b": "y", "verdict": "a"}\n')
    with pytest.raises(DataError, match="heldout"):
        read_verdicts(path)


def test_the_bundled_verdicts_hold_no_literal_on_both_sides() -> None:
    from quipwright.core.paths import resolve

    rows = read_verdicts(resolve("bundled:verdicts.jsonl", "Verdicts"))
    sides = [{r.literal for r in rows if r.split == side} for side in ("train", "heldout")]
    assert not sides[0] & sides[1]
    answers = RecordedTeacher().open().answers
    assert len(answers) == 1740
