"""Votes go to files and come back, also through Label Studio, and can train a critic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError
from quipwright.evaluation.human.formats import Imported, export_ratings, import_ratings
from tests.evaluation.rating import QUESTIONS, judgment, open_ratings


@pytest.mark.parametrize("name", ["votes.csv", "votes.json"])
def test_files_go_out_and_come_back(tmp_path: Path, name: str) -> None:
    ratings = open_ratings(tmp_path / "one")
    verdicts = ("A", "B", "tie", "unparsed")
    for pair in ratings.items:
        for rater, verdict in zip(("ann", "=cmd", "bo", "cy"), verdicts, strict=True):
            reason = "cannot tell" if verdict == "unparsed" else ""
            ratings.vote(judgment(pair, rater, verdict).model_copy(update={"reason": reason}))
    assert export_ratings(ratings, tmp_path / name) == 12
    assert '"=cmd' not in (tmp_path / "votes.csv").read_text() if name.endswith("csv") else True
    other = open_ratings(tmp_path / "two")
    assert import_ratings(other, tmp_path / name) == Imported(12, 0, {})
    assert other.votes == ratings.votes
    assert import_ratings(other, tmp_path / name) == Imported(0, 12, {})


def test_label_studio_takes_the_file_and_its_own_answers_come_back(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path / "one", checks=1)
    for pair in ratings.items:
        ratings.vote(judgment(pair, "ann", question="overall"))
    export_ratings(ratings, tmp_path / "votes.json")
    tasks = json.loads((tmp_path / "votes.json").read_text())
    by_shown = {task["data"]["shown"]: task for task in tasks}
    assert set(by_shown) == {"ab", "ba"}
    for task in tasks:
        item, data = ratings.items[task["data"]["pair"]], task["data"]
        assert (data["a"], data["b"]) == ((item.a, item.b) if data["shown"] == "ab" else (item.b, item.a))
        (annotation,) = task["annotations"]
        assert "completed_by" not in annotation  # Label Studio refuses whoever is no user of it
        (result,) = annotation["result"]
        assert result["value"]["choices"] == ["a" if data["shown"] == "ab" else "b"]
        assert result["meta"]["rater"] == "ann"
        asked = [
            {"from_name": question, "to_name": "literal", "type": "choices", "value": {"choices": ["a"]}}
            for question in QUESTIONS
        ]
        task["annotations"] = [{"completed_by": 7, "result": asked}]
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    fresh = open_ratings(tmp_path / "two", checks=1)
    imported = import_ratings(fresh, tmp_path / "back.json")
    assert imported == Imported(10, 0, {"a question that is not asked of an attention check": 2})
    for (pair, judge, _), vote in fresh.votes.items():
        shown = next(task["data"]["shown"] for task in tasks if task["data"]["pair"] == pair)
        assert (judge, vote.shown, vote.verdict) == ("human:7", shown, "A" if shown == "ab" else "B")


def test_of_label_studio_only_a_single_choice_of_a_whole_annotation_is_a_vote(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    pair = next(iter(ratings.items))

    def control(**value: Any) -> dict[str, Any]:
        return {"from_name": "humour", "to_name": "literal", "value": value}

    annotations = [
        {"completed_by": 1, "result": [control(choices=["b"]), control(text=["nice"])]},
        {"completed_by": 2, "was_cancelled": True, "result": [control(choices=["a"])]},
        {"completed_by": 3, "was_cancelled": False, "result": [control(choices=["a", "b"])]},
    ]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {"pair": pair, "shown": "ab"}, "annotations": annotations}]))
    imported = import_ratings(ratings, path)
    left_out = {
        "a control that asks for no choice": 1, "an annotation that its rater skipped": 1, "several choices ticked": 1
    }  # fmt: skip
    assert imported == Imported(1, 0, left_out)
    assert {(j.judge, j.verdict) for j in ratings.votes.values()} == {("human:1", "B")}
    assert imported.line(path).startswith(f"1 votes added from {path}; 1 left out: a control")
    ratings.close()


def test_votes_can_train_a_critic(tmp_path: Path) -> None:
    from quipwright.data.verdicts import VerdictRow

    ratings = open_ratings(tmp_path)
    first, second, third = ratings.items
    for rater, verdict in zip("abc", ("A", "A", "B"), strict=True):
        ratings.vote(judgment(first, rater, verdict, "overall"))
        ratings.vote(judgment(second, rater, "B", "overall"))
    ratings.vote(judgment(third, "a", "unparsed", "overall"))
    export_ratings(ratings, tmp_path / "v.jsonl")
    rows = [VerdictRow.model_validate_json(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(row.verdict, row.strength) for row in rows] == [("a", 1), ("b", 3)]


def test_wrong_files_are_one_line(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text('[{"data": {}, "annotations": [{"result": [{}]}]}]')
    with pytest.raises(DataError, match="no Label Studio export"):
        import_ratings(ratings, bad)
    table = tmp_path / "bad.csv"
    table.write_text("pair,rater,question,verdict\nnope,ann,humour,a\n")
    with pytest.raises(DataError, match="not one of this run's"):
        import_ratings(ratings, table)
    pair = next(iter(ratings.items))
    table.write_text(f"pair,rater,question,verdict\n{pair},ann,taste,a\n")
    with pytest.raises(DataError, match="an answer to 'taste'"):
        import_ratings(ratings, table)
    with pytest.raises(DataError, match="Label Studio"):
        export_ratings(ratings, tmp_path / "x.txt")
