"""The storage of votes and what is made of them: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app as command
from quipwright.core.errors import DamagedError, RunError
from quipwright.core.storage.run_folder import read_manifest
from quipwright.core.storage.sealed_files import seal_of
from quipwright.evaluation.human.formats import export_ratings
from quipwright.evaluation.human.items import items_of_run
from quipwright.evaluation.human.labels import read_labels
from quipwright.evaluation.human.page import rating_app
from quipwright.evaluation.human.ratings import Ratings
from quipwright.evaluation.report.evidence import read_evidence
from quipwright.testing.browser import served
from tests.evaluation.rating import QUESTIONS, SAMPLES, TASK, answer, hidden, judgment, open_ratings, write_summary


def test_votes_are_on_disk_at_once_and_survive(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    first, second, *_ = ratings.items
    ratings.vote(judgment(first, "ann", "A"))
    ratings.vote(judgment(second, "ann", "B"))
    ratings.vote(judgment(first, "ann", "tie"))  # thinking again replaces
    assert Ratings.read(tmp_path / "ratings").votes[first, "human:ann", "humour"].verdict == "tie"
    assert ratings.undo("human:ann").verdict == "tie"  # type: ignore[union-attr]
    assert ratings.undo("human:bob") is None
    again = Ratings.read(tmp_path / "ratings")
    assert list(again.votes) == [(second, "human:ann", "humour")]
    with pytest.raises(RunError, match=r"in use by process \d+\. Use that rating page"):
        open_ratings(tmp_path)
    ratings.close()


def test_a_torn_last_line_is_cut_and_a_changed_one_is_named(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    pair = next(iter(ratings.items))
    ratings.vote(judgment(pair, "ann"))
    ratings.vote(judgment(pair, "bo"))
    ratings.close()
    votes = tmp_path / "ratings" / "votes.jsonl"
    whole = votes.read_bytes()
    votes.write_bytes(whole + b'{"id": "to')  # killed while it wrote
    reopened = open_ratings(tmp_path)
    assert (reopened.judges(), votes.read_bytes()) == (["human:ann", "human:bo"], whole)
    reopened.close()
    votes.write_bytes(whole.replace(b'"A"', b'"B"', 1))
    seal_of(votes).unlink()
    with pytest.raises(DamagedError, match="line 1"):
        Ratings.read(tmp_path / "ratings")


@pytest.mark.parametrize("name", ["items.jsonl", "votes.jsonl"])
@pytest.mark.parametrize("left", ["half", "nothing", "no file"])
def test_votes_that_are_gone_are_missed(tmp_path: Path, name: str, left: str) -> None:
    ratings = open_ratings(tmp_path)
    for pair in ratings.items:
        ratings.vote(judgment(pair, "ann"))
    ratings.close()
    file = tmp_path / "ratings" / name
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) if left == "half" else b"")
    if left == "no file":
        file.unlink()
    runner = CliRunner()
    for arguments in (["rate", str(tmp_path), "--results"], ["audit", "--labels", str(tmp_path / "ratings")]):
        refused = runner.invoke(command, arguments).exception
        assert isinstance(refused, DamagedError)
        assert str(file) in refused.problem
    with pytest.raises(DamagedError, match=name):
        read_evidence(tmp_path)
    with pytest.raises(DamagedError, match=name):
        open_ratings(tmp_path)
    if (name, left) == ("votes.jsonl", "half"):  # go on with what is left, knowingly
        seal_of(file).unlink()
        assert len(Ratings.read(tmp_path / "ratings").votes) == 2


def test_a_whole_folder_of_votes_that_is_gone_is_missed(tmp_path: Path) -> None:
    write_summary(tmp_path, "feedback-dpo", "imitation")
    ratings = open_ratings(tmp_path)
    assert read_manifest(tmp_path).get("rated") is None
    ratings.close()
    folder = tmp_path / "ratings"
    shutil.rmtree(folder)  # nobody has voted yet
    assert read_evidence(tmp_path).people == ()
    ratings = open_ratings(tmp_path)
    ratings.vote(judgment(next(iter(ratings.items)), "ann"))
    ratings.close()
    for name in ("votes.jsonl", "items.jsonl"):  # each with its seal, and in the end the folder
        (folder / name).unlink()
        seal_of(folder / name).unlink()
        _missed(folder)
    shutil.rmtree(folder)
    _missed(folder)
    for arguments in (["rate", str(tmp_path), "--results"], ["rate", str(tmp_path)], ["report", str(tmp_path)]):
        refused = CliRunner().invoke(command, arguments).exception
        assert isinstance(refused, DamagedError)
        assert str(folder) in refused.problem
    assert not folder.exists()
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(RunError, match="holds no ratings"):
        Ratings.read(folder)


def _missed(folder: Path) -> None:
    message = r"votes\.jsonl|items\.jsonl is not there, but people's votes were stored in .*Restore the folder"
    for reading in (Ratings.read, Ratings.open):
        with pytest.raises(DamagedError, match=message):
            reading(folder)


def test_votes_of_before_are_noted_when_the_page_is_opened_again(tmp_path: Path) -> None:
    write_summary(tmp_path / "run", "feedback-dpo", "imitation")
    ratings = open_ratings(tmp_path)  # without a manifest there is nothing to write into
    ratings.vote(judgment(next(iter(ratings.items)), "ann"))
    ratings.close()
    shutil.move(tmp_path / "ratings", tmp_path / "run" / "ratings")
    open_ratings(tmp_path / "run").close()
    assert read_manifest(tmp_path / "run")["rated"] is True


def test_a_vote_that_cannot_be_stored_is_refused_and_spoils_no_later_one(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    votes = tmp_path / "ratings" / "votes.jsonl"
    with served(rating_app(ratings, TASK)) as address, httpx2.Client(base_url=address) as client:
        client.post("/name", data={"name": "ann"})
        assert answer(client, "1").status_code == 200
        before = votes.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # room for a part of the next line
        try:
            refused = answer(client, "2")
            undone = client.post("/undo")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (refused.status_code, undone.status_code) == (507, 507)
        assert "That answer was not stored: could not write" in refused.text
        assert "That answer was not taken back" in undone.text
        assert "2 of 9" in refused.text
        assert votes.read_bytes() == before
        assert answer(client, "2").status_code == 200
    ratings.close()
    assert [vote.verdict for vote in Ratings.read(tmp_path / "ratings").votes.values()] == [
        vote.verdict for vote in ratings.votes.values()
    ]
    assert len(ratings.votes) == 2


def test_results_labels_and_agreement(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path, checks=1)
    pairs = [i for i, item in ratings.items.items() if not item.check]
    for pair in pairs:
        for rater in ("ann", "bo"):
            ratings.vote(judgment(pair, rater, "A"))
            ratings.vote(judgment(pair, rater, "unparsed", "overall"))
    check = next(i for i, item in ratings.items.items() if item.check)
    ratings.vote(judgment(check, "ann", "B", "overall"))
    humour, overall = ratings.results()
    assert (humour.candidate, humour.baseline, humour.wins, humour.raters) == ("feedback-dpo", "imitation", 6, 2)
    assert humour.rate.value == 1.0
    assert overall.cannot_tell == 6
    assert overall.rate.value is None
    assert ratings.checks() == {"human:ann": (0, 1)}
    labels = read_labels(tmp_path / "ratings")
    assert len(labels) == 3
    assert labels[0].votes == {"humour": {"bo": "A"}}  # ann failed her check


def test_labels_name_who_wrote_the_texts_and_the_page_does_not(tmp_path: Path) -> None:
    authors = {"imitation": "student:c0ffee", "teacher": "teacher:qwen3:8b"}
    samples = [sample.model_copy(update={"authors": authors}) for sample in SAMPLES]
    items = items_of_run(samples, ["imitation", "teacher"], QUESTIONS, checks=1)
    ratings = Ratings.open(tmp_path / "ratings", items)
    for pair in ratings.items:
        ratings.vote(judgment(pair, "ann"))
    (result,) = ratings.results()
    assert (result.candidate, result.baseline) == ("imitation", "teacher")
    assert {(p.author_a, p.author_b) for p in ratings.labels()} == {("student:c0ffee", "teacher:qwen3:8b")}
    export_ratings(ratings, tmp_path / "votes.csv")
    assert "c0ffee" not in (tmp_path / "votes.csv").read_text()
    with served(rating_app(ratings, TASK)) as address, httpx2.Client(base_url=address) as client:
        client.post("/name", data={"name": "bo"}, follow_redirects=True)
        page = client.get("/").text
        assert hidden(page)["question"] == "humour"
        assert not any(word in page for word in ("c0ffee", "qwen3", "teacher", "imitation"))


def test_the_command_exports_imports_and_prints(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_summary(run, "imitation", "feedback-dpo")
    ratings = open_ratings(run)
    for pair in ratings.items:
        ratings.vote(judgment(pair, "ann"))
    ratings.close()
    runner = CliRunner()
    result = runner.invoke(command, ["rate", str(run), "--export", str(tmp_path / "v.csv"), "--results"])
    assert result.exit_code == 0, result.output
    assert "3 votes written" in result.output
    assert "humour" in result.output
    result = runner.invoke(command, ["rate", str(run), "--import", str(tmp_path / "v.csv")])
    assert "0 votes added" in result.output
    failed = runner.invoke(command, ["rate", str(run), "--system", "gpt", "--system", "imitation"])
    assert isinstance(failed.exception, RunError)
