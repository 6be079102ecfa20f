"""Ratings in and out: CSV for spreadsheets, JSON in Label Studio's task format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.records import Judgment, Verdict, content_hash
from quipwright.core.storage.files import write_atomic
from quipwright.core.table_files import csv_line, file_kind, read_table
from quipwright.core.text_files import read_text
from quipwright.evaluation.human.raters import signature
from quipwright.evaluation.human.ratings import CANNOT_TELL, Ratings

COLUMNS = ("pair", "literal", "a", "b", "author_a", "author_b", "question", "rater", "shown", "verdict")
_TURNED: dict[Verdict, Verdict] = {"A": "B", "B": "A"}
_VERDICTS: dict[str, Verdict] = {
    "a": "A", "b": "B", "tie": "tie", "left": "A", "right": "B", CANNOT_TELL: "unparsed", "unparsed": "unparsed",
}  # fmt: skip


def export_ratings(ratings: Ratings, path: Path) -> int:
    """Write every vote of ``ratings`` to ``path`` and return how many there are.

    ``.csv`` and ``.json`` (Label Studio) come back through :func:`import_ratings`; ``.jsonl`` holds the majority's
    verdicts in the format that trains a distilled critic.
    """
    if path.suffix.lower() == ".csv":
        write_atomic(path, _csv(ratings))
    elif path.suffix.lower() == ".json":
        write_atomic(path, json.dumps(_tasks(ratings), indent=1, ensure_ascii=False))
    elif path.suffix.lower() == ".jsonl":
        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in verdict_rows(ratings)))
    else:
        raise DataError(
            f"Export to {path.name!r} is not known.", "End the name in .csv, .json (Label Studio) or .jsonl (verdicts)."
        )
    return len(ratings.votes)


@dataclass(frozen=True)
class Imported:
    """What came of an import: votes ``added``, votes that were ``known`` before, and what was left out, by reason."""

    added: int
    known: int
    left_out: Mapping[str, int]

    def line(self, source: Path) -> str:
        """All counts in one line."""
        parts = [f"{self.added} votes added from {source}"]
        parts += [f"{self.known} were there before"] if self.known else []
        parts += [f"{count} left out: {reason}" for reason, count in self.left_out.items()]
        return "; ".join(parts)


def import_ratings(ratings: Ratings, path: Path) -> Imported:
    """Add the votes of a file that :func:`export_ratings` or Label Studio wrote; those already there are left alone.

    Skipped annotations, answers with several choices ticked, other controls than choices (a comment box) and what a tool
    asked of an attention check beyond its one question are left out and counted. Raises :class:`DataError` for a pair
    that is not among the run's, a question that nobody asks, or an answer that cannot be read, and
    :class:`~quipwright.core.errors.DiskError` where they cannot be stored; nothing is added then.
    """
    left_out: Counter[str] = Counter()
    rows = _read_csv(path) if file_kind(path, "Ratings") == "csv" else _read_tasks(path, left_out)
    votes = [vote for row in rows if (vote := _vote(ratings, path, row, left_out)) is not None]
    standing, added = dict(ratings.votes), []
    for vote in votes:
        key = (vote.pair_id, vote.judge, vote.question)
        if standing.get(key) != vote:
            standing[key] = vote
            added.append(vote)
    ratings.vote(*added)
    return Imported(len(added), len(votes) - len(added), left_out)


def _vote(ratings: Ratings, path: Path, row: Row, left_out: Counter[str]) -> Judgment | None:
    """The vote of one row, ``None`` where it is left out."""
    if row.pair_id not in ratings.items:
        raise DataError(f"{path}: pair {row.pair_id!r} is not one of this run's.", "Import into the run it came from.")
    if row.question not in ratings.questions:
        raise DataError(
            f"{path}: pair {row.pair_id} has an answer to {row.question!r}.",
            f"The questions are {', '.join(ratings.questions)}.",
        )
    if row.question not in ratings.items[row.pair_id].questions:
        left_out["a question that is not asked of an attention check"] += 1
        return None
    verdict = _VERDICTS.get(row.answer.strip().lower())
    if verdict is None or row.shown not in ("ab", "ba") or not row.rater.strip():
        raise DataError(
            f"{path}: pair {row.pair_id} has answer {row.answer!r} by {row.rater!r}.",
            "Use a, b, tie or cannot tell, and a name.",
        )
    return Judgment(
        pair_id=row.pair_id,
        judge=signature(row.rater),
        shown="ab" if row.shown == "ab" else "ba",
        verdict=_TURNED.get(verdict, verdict) if row.turned else verdict,
        question=row.question,
        reason=CANNOT_TELL if verdict == "unparsed" else "",
    )


def verdict_rows(ratings: Ratings) -> list[dict[str, Any]]:
    """The overall votes as verdicts: the majority of each pair, and its margin as strength (1 to 3).

    What is no training literal is held out, so that nothing learns from what measures it, and so is a fifth of the
    training literals, by their hash.
    """
    rows = []
    for pair in ratings.labels():
        votes = Counter(pair.votes.get("overall", {}).values())
        if not votes:
            continue
        lead = (votes["A"] - votes["B"]) / votes.total()
        held = pair.split != "train" or int(content_hash("heldout", pair.literal), 16) % 5 == 0
        rows.append(
            {
                "literal": pair.literal, "a": pair.a, "b": pair.b, "verdict": "tie" if lead == 0 else "a" if lead > 0 else "b",
                "strength": 1 + (abs(lead) > 1 / 3) + (abs(lead) > 2 / 3), "split": "heldout" if held else "train",
            }
        )  # fmt: skip
    return rows


def _said(judgment: Judgment, turned: bool = False) -> str:
    verdict = _TURNED.get(judgment.verdict, judgment.verdict) if turned else judgment.verdict
    return CANNOT_TELL if verdict == "unparsed" else verdict.lower()


def _csv(ratings: Ratings) -> str:
    table = [csv_line(COLUMNS)]
    for key in ratings.order:
        j, item = ratings.votes[key], ratings.items[key[0]]
        texts = (item.literal, item.a, item.b, item.candidate, item.baseline)
        table.append(csv_line([j.pair_id, *texts, j.question, j.judge.removeprefix("human:"), j.shown, _said(j)]))
    return "".join(table)


def _tasks(ratings: Ratings) -> list[dict[str, Any]]:
    """One task a pair. Half of them show the second text as ``a``, and ``shown`` says which; the raters are no users of
    Label Studio, which would refuse their names as authors, so they are named in ``meta``."""
    tasks = []
    for number, item in enumerate(ratings.items.values(), 1):
        turned = int(content_hash("label studio", item.pair.id), 16) % 2 == 1
        first, second = (item.b, item.a) if turned else (item.a, item.b)
        shown = "ba" if turned else "ab"
        data = {"pair": item.pair.id, "literal": item.literal, "a": first, "b": second, "shown": shown}
        by_rater: dict[str, list[dict[str, Any]]] = {}
        for (pair_id, judge, question), j in ratings.votes.items():
            if pair_id == item.pair.id:
                rater = judge.removeprefix("human:")
                answer = {
                    "from_name": question, "to_name": "literal", "type": "choices",
                    "value": {"choices": [_said(j, turned)]}, "meta": {"rater": rater, "shown": j.shown},
                }  # fmt: skip
                by_rater.setdefault(rater, []).append(answer)
        annotations = [{"result": result} for result in by_rater.values()]
        tasks.append({"id": number, "data": data, "annotations": annotations})
    return tasks


@dataclass(frozen=True)
class Row:
    """One answer in a file. ``turned``: the file's ``a`` is the pair's B."""

    pair_id: str
    rater: str
    question: str
    shown: str
    turned: bool
    answer: str


def _read_csv(path: Path) -> Iterator[Row]:
    for row in read_table(path, "Ratings"):
        if row.problem is not None:
            raise row.problem
        fields = row.fields
        if missing := [name for name in ("pair", "rater", "question", "verdict") if not fields.get(name)]:
            raise DataError(
                f"{path} line {row.number} lacks {', '.join(missing)}.", f"Columns are {', '.join(COLUMNS)}."
            )
        shown = fields.get("shown") or "ab"
        yield Row(fields["pair"], fields["rater"], fields["question"], shown, False, fields["verdict"])


def _read_tasks(path: Path, left_out: Counter[str]) -> Iterator[Row]:
    try:
        for task in json.loads(read_text(path, "Ratings")):
            for annotation in task.get("annotations", ()):
                if annotation.get("was_cancelled"):
                    left_out["an annotation that its rater skipped"] += 1
                    continue
                for result in annotation["result"]:
                    if (row := _answer(task["data"], annotation, result, left_out)) is not None:
                        yield row
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} is no Label Studio export: {error!r}.", "Export tasks with annotations as JSON."
        ) from None


def _answer(
    data: Mapping[str, Any], annotation: Mapping[str, Any], result: Mapping[str, Any], left_out: Counter[str]
) -> Row | None:
    """The answer in one ``result`` of an annotation, ``None`` where it is left out."""
    value, meta = result["value"], result.get("meta") or {}
    choices = value["choices"] if "choices" in value else [value["selected"]] if "selected" in value else []
    if len(choices) != 1:
        left_out["several choices ticked" if choices else "a control that asks for no choice"] += 1
        return None
    here = str(data.get("shown") or "ab")
    rater, shown = meta.get("rater") or _who(annotation), str(meta.get("shown") or here)
    return Row(data["pair"], str(rater), str(result["from_name"]), shown, here == "ba", str(choices[0]))


def _who(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by", "")
    return str(who.get("email") or who.get("id") or "") if isinstance(who, Mapping) else str(who)
