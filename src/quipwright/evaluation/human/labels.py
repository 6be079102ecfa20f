"""Verdicts on pairs of texts, from whatever file they come in, by question and annotator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.paths import FILES
from quipwright.core.statistics import Choice
from quipwright.core.text import normalise
from quipwright.core.text_files import json_lines
from quipwright.data.graded import GradedRow, read_graded
from quipwright.data.task import OVERALL, Task
from quipwright.evaluation.human.kept import kept
from quipwright.evaluation.human.labelled_pair import LabelledPair, Labellers
from quipwright.evaluation.human.ratings import Ratings

_LABELLERS: dict[str, Labellers] = {"people": "people", "model": "a model", "a model": "a model", "": ""}
_CHOICES: dict[str, Choice] = {"a": "A", "b": "B", "tie": "tie", "equal": "tie", "=": "tie"}


def read_labels(path: Path, split: str | None = None, task: Task | None = None) -> list[LabelledPair]:
    """The labelled pairs of a JSONL file, or of the ``ratings`` folder of a run.

    A row has ``literal`` (or null), ``a``, ``b`` and one of: ``votes`` ({question: {annotator: verdict}});
    ``votes_a`` and ``votes_b`` (and ``votes_tie``), anonymous counts; or a single ``verdict`` with ``question`` and
    ``annotator`` if known. ``task`` (default: the one that ships) names the questions. An unnamed question is
    ``overall``, or the task's first where there is no literal. Rows of one pair, either way round, are joined. ``split``
    keeps rows of that split only. ``labelled_by`` (``people`` or ``model``) says whose the verdicts are; what ships was
    labelled by a model. A file of grades (rows of ``literal``, ``text`` and ``grade``) gives a pair of every two
    texts of one literal and style that the first reader graded differently.
    Raises :class:`DataError` naming the first bad line, or when nothing is left.
    """
    if path.is_dir():
        pairs = kept(Ratings.read(path)).labels()
    else:
        lines, named_by = list(json_lines(path, "Labels")), task or Task.load()
        if lines and {"text", "grade"} <= lines[0][1].keys():
            pairs = _by_grades(read_graded(path, named_by.grades))
        else:
            pairs = _joined(_row(fields, f"{path} line {line}", named_by) for line, fields in lines)
    if path.is_relative_to(FILES):
        pairs = [pair.model_copy(update={"labelled_by": "a model"}) for pair in pairs]
    chosen = [pair for pair in pairs if split is None or pair.split == split]
    if not chosen:
        splits = ", ".join(sorted({pair.split or "none" for pair in pairs})) or "no pair at all"
        raise DataError(f"{path} has no labelled pair of split {split!r}.", f"It has: {splits}.")
    return chosen


def sampled_pairs(pairs: Sequence[LabelledPair], limit: int | None, seed: int) -> list[LabelledPair]:
    """At most ``limit`` of ``pairs`` in file order, drawn at random: the head of a file is seldom a fair sample."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    return [pairs[i] for i in sorted(random.Random(seed).sample(range(len(pairs)), limit))]


def _by_grades(rows: Iterable[GradedRow]) -> list[LabelledPair]:
    """A pair of every two texts of a literal and a style that the first reader graded differently. A second reader's
    grades are left to the critic of recorded grades, so that one can be measured by the other."""
    groups: dict[tuple[str, str], list[GradedRow]] = {}
    for row in rows:
        groups.setdefault((normalise(row.literal), row.style), []).append(row)
    return [
        LabelledPair(
            literal=a.literal, a=a.text, b=b.text, votes={OVERALL: {"reader": "A" if a.grade > b.grade else "B"}},
            author_a=a.who, author_b=b.who, split=a.split,
        )
        for own in groups.values()
        for a, b in combinations(own, 2)
        if a.grade != b.grade
    ]  # fmt: skip


def _row(fields: Mapping[str, Any], where: str, task: Task) -> LabelledPair:
    literal, a, b = (fields.get(name) for name in ("literal", "a", "b"))
    if not isinstance(a, str) or not isinstance(b, str) or not (literal is None or isinstance(literal, str)):
        raise DataError(
            f"{where} lacks the texts a and b, or its literal is no text.", "Write strings (literal may be null)."
        )
    votes = _votes(fields, where, task)
    by = fields.get("labelled_by") or ""
    if by not in _LABELLERS:
        raise DataError(f"{where} has labelled_by {by!r}.", "Write people or model, or leave it out.")
    return LabelledPair(
        literal=literal, a=a, b=b, votes=votes,
        author_a=str(fields.get("author_a") or ""), author_b=str(fields.get("author_b") or ""),
        split=str(fields.get("split") or ""), labelled_by=_LABELLERS[by],
    )  # fmt: skip


def _votes(fields: Mapping[str, Any], where: str, task: Task) -> dict[str, dict[str, Choice]]:
    # texts without a literal have no meaning to keep: only the task's first question can have been asked
    unnamed = OVERALL if fields.get("literal") else next(iter(task.questions))
    question = task.question_named(str(fields.get("question") or unnamed))
    if isinstance(given := fields.get("votes"), Mapping):
        return {task.question_named(str(q)): _named(votes, where) for q, votes in given.items()}
    if "votes_a" in fields or "votes_b" in fields:
        counts = {"a": fields.get("votes_a"), "b": fields.get("votes_b"), "tie": fields.get("votes_tie")}
        if any(not isinstance(n or 0, int) or (n or 0) < 0 for n in counts.values()):
            raise DataError(f"{where} has vote counts {counts}.", "Write whole numbers from 0 on.")
        flat = [choice for name, count in counts.items() for choice in [_CHOICES[name]] * (count or 0)]
        return {question: {str(i): choice for i, choice in enumerate(flat, 1)}}
    if "verdict" not in fields:
        raise DataError(f"{where} has no verdict.", "Give votes, votes_a and votes_b, or verdict.")
    return {question: _named({str(fields.get("annotator") or ""): fields["verdict"]}, where)}


def _named(votes: Any, where: str) -> dict[str, Choice]:
    if not isinstance(votes, Mapping):
        raise DataError(f"{where} has votes {str(votes)[:40]!r}.", "Write {annotator: verdict}.")
    result: dict[str, Choice] = {}
    for annotator, verdict in votes.items():
        if verdict is None:
            continue
        choice = _CHOICES.get(str(verdict).strip().lower())
        if choice is None:
            raise DataError(f"{where} has verdict {verdict!r}.", "Use a, b, tie or null.")
        result[str(annotator)] = choice
    return result


def _joined(rows: Iterable[LabelledPair]) -> list[LabelledPair]:
    """One record a pair of texts; annotators without a name are numbered."""
    order: dict[tuple[str, ...], LabelledPair] = {}
    votes: dict[tuple[str, ...], dict[str, dict[str, Choice]]] = {}
    for row in rows:
        key = (normalise(row.literal or ""), *sorted((normalise(row.a), normalise(row.b))))
        held = order.setdefault(key, row)
        turned = normalise(held.a) != normalise(row.a)
        for question, own in row.votes.items():
            joined = votes.setdefault(key, {}).setdefault(question, {})
            for annotator, choice in own.items():
                joined[_free(annotator, joined)] = _turned(choice) if turned else choice
    return [row.model_copy(update={"votes": votes.get(key, {})}) for key, row in order.items()]


def _free(annotator: str, taken: Mapping[str, Choice]) -> str:
    if annotator and annotator not in taken:
        return annotator
    number = len(taken) + 1
    while f"{annotator}{number}" in taken:
        number += 1
    return f"{annotator}{number}"


def _turned(choice: Choice) -> Choice:
    return "B" if choice == "A" else "A" if choice == "B" else choice


def asked(pairs: Sequence[LabelledPair], questions: Sequence[str]) -> list[str]:
    """The questions of ``pairs``: the task's ``questions`` first, then others by how often they were asked."""
    counts = Counter(question for pair in pairs for question, votes in pair.votes.items() if votes)
    known = [q for q in questions if q in counts]
    return known + [q for q, _ in counts.most_common() if q not in known]
