"""Ratings in and out: CSV for spreadsheets, JSON in Label Studio's task format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.records import Judgment, Verdict, content_hash
from quipwright.core.storage.files import write_atomic
from quipwright.core.table_files import csv_line, file_kind, read_table
from quipwright.core.text_files import read_text
from quipwright.evaluation.human.ratings import CANNOT_TELL, QUESTIONS, Ratings

COLUMNS = ("pair", "literal", "a", "b", "author_a", "author_b", "question", "rater", "shown", "verdict")
_TURNED: dict[Verdict, Verdict] = {"A": "B", "B": "A"}
_VERDICTS: dict[str, Verdict] = {
    "a": "A", "b": "B", "tie": "tie", "left": "A", "right": "B", CANNOT_TELL: "unparsed", "unparsed": "unparsed",
}  # fmt: skip


def export_ratings(ratings: Ratings, path: Path) -> int:
    """Write every standing vote to ``path`` and return how many there are.

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


def import_ratings(ratings: Ratings, path: Path) -> int:
    """Add the votes of a file that :func:`export_ratings` or Label Studio wrote; those already there are left alone.

    What a tool asked of an attention check beyond its one question is left out. Raises :class:`DataError` for a pair that
    is not among the run's, a question that nobody asks, or an answer that cannot be read.
    """
    rows = _read_csv(path) if file_kind(path, "Ratings") == "csv" else _read_tasks(path)
    added = 0
    for pair_id, rater, question, shown, turned, verdict in list(rows):
        if pair_id not in ratings.items:
            raise DataError(f"{path}: pair {pair_id!r} is not one of this run's.", "Import into the run it came from.")
        if question not in QUESTIONS:
            raise DataError(
                f"{path}: pair {pair_id} has an answer to {question!r}.", f"The questions are {', '.join(QUESTIONS)}."
            )
        if question not in ratings.items[pair_id].questions:
            continue
        found = _VERDICTS.get(verdict.strip().lower())
        if found is None or shown not in ("ab", "ba") or not rater.strip():
            raise DataError(
                f"{path}: pair {pair_id} has answer {verdict!r} by {rater!r}.",
                "Use a, b, tie or cannot tell, and a name.",
            )
        judge = f"human:{rater.strip()}"
        reason = CANNOT_TELL if found == "unparsed" else ""
        judgment = Judgment(
            pair_id=pair_id,
            judge=judge,
            shown="ab" if shown == "ab" else "ba",
            verdict=_TURNED.get(found, found) if turned else found,
            question=question,
            reason=reason,
        )
        if ratings.votes.get((pair_id, judge, question)) != judgment:
            ratings.vote(judgment)
            added += 1
    return added


def verdict_rows(ratings: Ratings) -> list[dict[str, Any]]:
    """The overall votes as verdicts: the majority of each pair, its margin as strength (1 to 3), a fifth held out.

    The split is by a hash of the literal, so that no literal is on both sides.
    """
    rows = []
    for pair in ratings.labels():
        votes = Counter(pair.votes.get("overall", {}).values())
        if not votes:
            continue
        lead = (votes["A"] - votes["B"]) / votes.total()
        held = int(content_hash("heldout", pair.literal), 16) % 5 == 0
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
        texts = (item.literal, item.a, item.b, *item.systems)
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


Row = tuple[str, str, str, str, bool, str]
"""Pair, rater, question, which text this rater saw first, whether ``a`` in the file is the pair's B, answer."""


def _read_csv(path: Path) -> Iterator[Row]:
    for row in read_table(path, "Ratings"):
        if row.problem is not None:
            raise row.problem
        fields = row.fields
        if missing := [name for name in ("pair", "rater", "question", "verdict") if not fields.get(name)]:
            raise DataError(
                f"{path} line {row.number} lacks {', '.join(missing)}.", f"Columns are {', '.join(COLUMNS)}."
            )
        yield fields["pair"], fields["rater"], fields["question"], fields.get("shown") or "ab", False, fields["verdict"]


def _read_tasks(path: Path) -> Iterator[Row]:
    try:
        tasks = json.loads(read_text(path, "Ratings"))
        for task in tasks:
            here = str(task["data"].get("shown") or "ab")
            for annotation in task.get("annotations", ()):
                for result in annotation["result"]:
                    value, meta = result["value"], result.get("meta") or {}
                    verdict = value["choices"][0] if "choices" in value else value["selected"]
                    rater, shown = meta.get("rater") or _who(annotation), str(meta.get("shown") or here)
                    yield task["data"]["pair"], str(rater), str(result["from_name"]), shown, here == "ba", str(verdict)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} is no Label Studio export: {error!r}.", "Export tasks with annotations as JSON."
        ) from None


def _who(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by", "")
    return str(who.get("email") or who.get("id") or "") if isinstance(who, Mapping) else str(who)
