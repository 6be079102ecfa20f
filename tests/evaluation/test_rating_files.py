"""Votes go to files and come back, also through Label Studio, and can train a critic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError, RunError
from quipwright.core.results import Sample
from quipwright.evaluation.human.formats import Imported, export_ratings, import_ratings, verdict_rows
from quipwright.evaluation.human.items import items_of_run
from quipwright.evaluation.human.kept import careless, kept
from quipwright.evaluation.human.ratings import Ratings
from tests.evaluation.rating import QUESTIONS, SAMPLES, judgment, open_ratings


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
    assert {row.split for row in rows} == {"heldout"}  # what was rated are test inputs


def test_only_training_literals_become_verdicts_to_train_on(tmp_path: Path) -> None:
    splits = [("train", "valid", "test", "ood")[i % 4] for i in range(80)]
    samples = [
        SAMPLES[0].model_copy(update={"literal": f"Bus {i} was late.", "example_id": f"bus-{i}", "split": split})
        for i, split in enumerate(splits)
    ]
    ratings = Ratings.open(tmp_path / "ratings", items_of_run(samples, ["feedback-dpo", "imitation"], QUESTIONS))
    ratings.vote(*(judgment(pair, "ann", question="overall") for pair in ratings.items))
    by_split = {split: {r["split"] for r in verdict_rows(ratings) if _split(r, samples) == split} for split in splits}
    assert by_split == {"train": {"train", "heldout"}, "valid": {"heldout"}, "test": {"heldout"}, "ood": {"heldout"}}
    assert {item.split for item in ratings.labels()} == {"train", "valid", "test", "ood"}
    ratings.close()


def _split(row: dict[str, Any], samples: list[Sample]) -> str:
    return next(sample.split for sample in samples if sample.literal == row["literal"])


def test_a_rater_has_one_name_however_it_is_spelt(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    first = next(iter(ratings.items))
    ratings.vote(judgment(first, "Ann Lee", "A"))
    ratings.vote(judgment(first, "ａnn  LEE ", "B"))  # a full-width letter
    table = tmp_path / "more.csv"
    table.write_text(f"pair,rater,question,verdict\n{first},ANN LEE,overall,tie\n")
    assert import_ratings(ratings, table).added == 1
    assert {(judge, question): vote.verdict for (_, judge, question), vote in ratings.votes.items()} == {
        ("human:ann lee", "humour"): "B",
        ("human:ann lee", "overall"): "tie",
    }
    ratings.close()


def test_who_failed_the_checks_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path, checks=2)
    pairs = [i for i, item in ratings.items.items() if not item.check]
    one, two = (i for i, item in ratings.items.items() if item.check)
    for rater, passed in (("ann", ("A", "A")), ("bo", ("A", "B")), ("cy", ())):
        for check, verdict in zip((one, two), passed, strict=False):
            ratings.vote(judgment(check, rater, verdict, "overall"))
        ratings.vote(*(judgment(pair, rater) for pair in pairs))
    assert careless(ratings) == {"human:bo": (1, 2)}
    assert export_ratings(kept(ratings), tmp_path / "v.csv") == 2 + 3 + 3
    assert ",bo," not in (tmp_path / "v.csv").read_text()
    assert export_ratings(kept(ratings, leave_out=()), tmp_path / "v.csv") == 4 + 9
    (humour,) = kept(ratings).results()
    assert (humour.raters, humour.wins) == (2, 6)
    ratings.close()


def test_only_the_systems_asked_for_go_out(tmp_path: Path) -> None:
    items = items_of_run(SAMPLES, ["feedback-dpo", "imitation"], QUESTIONS, checks=1)
    more = items_of_run(SAMPLES, ["imitation", "teacher"], QUESTIONS, checks=1)
    ratings = Ratings.open(tmp_path / "ratings", [*items, *more])
    ratings.vote(*(judgment(pair, "ann", question="overall") for pair in ratings.items))
    assert len(ratings.votes) == 8
    chosen = kept(ratings, ["imitation", "teacher"])
    assert {(i.candidate, i.baseline) for i in chosen.items.values()} == {
        ("imitation", "teacher"),
        ("imitation", "check"),
    }
    assert export_ratings(chosen, tmp_path / "v.csv") == 4
    with pytest.raises(
        RunError, match=r"no pairs of teacher against imitation\. It has: feedback-dpo against imitation"
    ):
        kept(ratings, ["teacher", "imitation"])
    ratings.close()


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
