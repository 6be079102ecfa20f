"""Every way of learning, run whole on tiny parts of both families: what each was trained on, and from where it began."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError
from quipwright.core.records import DiverseBeams, Grade, Ranking, Response, content_hash
from quipwright.core.text import is_copy
from quipwright.data.examples import DataSettings, load_examples
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import Task
from quipwright.students.batches import ANCHOR
from quipwright.testing.tiny_models import seq2seq_student
from quipwright.training.preference.pairs import LengthRule
from tests.pipeline.results import LEARN, RANDOM, Run

LN_2 = 0.69315


class Finished:
    """What the stages of a finished run hold, and the rows that round 1 must have trained on."""

    def __init__(self, folder: Path, summary: RunSummary) -> None:
        self.examples = load_examples(DataSettings.model_validate(summary.recipe["data"]))
        self.trained = [e for e in self.examples if e.split == "train"]
        self.prompts = {e.id: Task.load().prompt(e.text) for e in self.examples}
        self.taught = summary.stage_rows(folder, Response, "teach")
        self.attempts = summary.stage_rows(folder, Response, "sample")
        self.rankings = summary.stage_rows(folder, Ranking, "rank")
        self.scores = {g.response_id: g.score for g in summary.stage_rows(folder, Grade, "grade")}
        self.texts = {r.id: r.text for r in (*self.taught, *self.attempts)}
        self.authors = {r.id: r.author.split(":")[0] for r in (*self.taught, *self.attempts)}

    def orders(self) -> list[list[Any]]:
        """A row a ranking, best first."""
        return [[self.prompts[r.example_id], [self.texts[i] for i in r.best_first], []] for r in self.rankings]

    def anchored(self) -> list[list[Any]]:
        """A row a ranking, best first, the teacher's first text of it as the last column."""
        first = {r.example_id: r.text for r in reversed(self.taught)}
        return [
            [prompt, [*texts, first[ranking.example_id]], [*range(len(texts)), ANCHOR]]
            for ranking, (prompt, texts, _) in zip(self.rankings, self.orders(), strict=True)
        ]

    def winners(self) -> list[list[Any]]:
        """A row a literal: the better text of its pair."""
        return self._imitating([(r.example_id, self.texts[r.best_first[0]]) for r in self.rankings])

    def best(self) -> list[list[Any]]:
        """A row a literal: the attempt of the best grade that is no copy."""
        literals = {e.id: e.text for e in self.examples}
        sound = [r for r in self.attempts if r.usable and not is_copy(r.text, literals[r.example_id])]
        best = {r.example_id: r.text for r in sorted(sound, key=lambda r: self.scores[r.id])}
        return self._imitating(list(best.items()))

    def teacher(self) -> list[list[Any]]:
        """A row a literal: all that the teacher said."""
        return self._imitating([(r.example_id, r.text) for r in self.taught])

    def _imitating(self, texts: Sequence[tuple[str, str]]) -> list[list[Any]]:
        """The texts of each training literal, in the order of the data."""
        by_example = {e.id: [text for example, text in texts if example == e.id] for e in self.trained}
        return [[self.prompts[e], of_example, []] for e, of_example in by_example.items() if of_example]


@pytest.mark.parametrize(
    ("sets", "rows"),
    [
        (("learn.objective={kind: mle}",), "winners"),
        (("learn.objective={kind: mle}", "learn.source=best_of_n"), "best"),
        (("learn.objective={kind: mle}", "learn.source=teacher"), "teacher"),
        (("learn.objective={kind: brio}",), "anchored"),
        (("learn.objective={kind: dpo, nll_weight: 0.1}", "learn.anchor=true"), "anchored"),
        (("learn.objective={kind: simpo, nll_weight: 0.1}", "learn.anchor=true"), "anchored"),
        (("learn.objective={kind: brio}", "select={kind: list, size: 3}"), "anchored"),
        (("select={kind: diverse_quality}",), "orders"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_every_way_of_learning_trains_on_what_it_should(
    run: Run, tmp_path: Path, sets: tuple[str, ...], rows: str
) -> None:
    summary = run(LEARN, RANDOM, *sets)
    imitation, feedback = summary.checkpoints.values()
    assert list(summary.checkpoints) == ["imitation", "feedback"]
    assert feedback.parent_id == imitation.id
    assert feedback.weights_hash != imitation.weights_hash
    expected = getattr(Finished(tmp_path / "run", summary), rows)()
    assert len(expected) >= 2
    assert feedback.data_hash == content_hash(expected, False)
    most = max(len(texts) for _, texts, _ in expected) - (rows == "anchored")
    assert rows not in ("orders", "anchored") or most == (3 if "select={kind: list, size: 3}" in sets else 2)


def test_pairs_are_mixed_of_teacher_and_student(run: Run, tmp_path: Path) -> None:
    summary = run(LEARN, "select={kind: teacher_mix, share: 1.0}")
    finished = Finished(tmp_path / "run", summary)
    assert summary.checkpoints["feedback"].data_hash == content_hash(finished.orders(), False)
    mixed = {
        r.example_id for r in finished.rankings if {finished.authors[i] for i in r.best_first} == {"student", "teacher"}
    }
    assert mixed
    for ranking in finished.rankings:  # the others have no such pair within the rule
        taught, tried = (
            [r.text for r in rows if r.example_id == ranking.example_id and r.usable]
            for rows in (finished.taught, finished.attempts)
        )
        assert (ranking.example_id in mixed) == any(LengthRule().passes(a, b) for a in taught for b in tried)
    assert summary.training["preference-1"].losses[0] == pytest.approx(LN_2, abs=1e-4)


@pytest.mark.parametrize(
    ("candidates", "beams"),
    [("{kind: diverse_beam, k: 3, max_tokens: 60}", 3), ("{kind: mixed, k: 4, beams: 2, max_tokens: 60}", 2)],
)
def test_beams_are_among_the_candidates(run: Run, tmp_path: Path, candidates: str, beams: int) -> None:
    summary = run(LEARN, RANDOM, f"candidates={candidates}")
    finished = Finished(tmp_path / "run", summary)
    by_beams = [r.example_id for r in finished.attempts if isinstance(r.sampling, DiverseBeams)]
    assert sorted(by_beams) == sorted([e.id for e in finished.trained] * beams)
    assert summary.checkpoints["feedback"].data_hash == content_hash(finished.orders(), False)
    assert summary.training["preference-1"].losses[0] == pytest.approx(LN_2, abs=1e-4)


def test_brio_then_dpo_is_a_recipe_of_two_steps(run: Run) -> None:
    brio = "{objective: {kind: brio}, copy_share: 0, train: {epochs: 1, lr: 0.001}}"
    summary = run(LEARN, f"teacher_preferences={{select: {{kind: diverse, length_rule: before}}, learn: {brio}}}")
    marks = summary.checkpoints
    steps = [(name, mark.objective) for name, mark in marks.items()]
    assert steps == [("imitation", "mle"), ("teacher_preferences", "brio"), ("feedback", "dpo")]
    assert marks["teacher_preferences"].parent_id == marks["imitation"].id
    assert marks["feedback"].parent_id == marks["teacher_preferences"].id
    assert summary.training["preference-1"].losses[0] == pytest.approx(LN_2, abs=1e-4)


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
    assert summary.training["preference-offline"].losses[0] == pytest.approx(LN_2, abs=1e-4)
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
    with pytest.raises(DataError, match="no usable row"):
        run(LEARN, RANDOM, f"offline_preferences={{path: {path}}}", folder="other")


@pytest.mark.parametrize(
    ("family", "objective"),
    [
        ("bart", "dpo"),
        ("t5-v1.1", "brio"),
        pytest.param("bart", "brio", marks=pytest.mark.slow),
        pytest.param("t5-v1.1", "dpo", marks=pytest.mark.slow),
    ],
)
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
    finished = Finished(tmp_path / "run", summary)
    rows = finished.orders() if objective == "dpo" else finished.anchored()
    assert summary.checkpoints["feedback"].data_hash == content_hash(rows, False)
    if objective == "dpo":
        assert summary.training["preference-1"].losses[0] == pytest.approx(LN_2, abs=1e-4)
