"""The rating page, its storage and its files: blind, safe, and nothing is lost."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app as command
from quipwright.core.errors import DamagedError, DataError, RunError
from quipwright.core.records import Judgment
from quipwright.core.results import Sample
from quipwright.core.storage.sealed_files import seal_of
from quipwright.data.task import Task
from quipwright.evaluation.human.formats import Imported, export_ratings, import_ratings
from quipwright.evaluation.human.items import items_of_run
from quipwright.evaluation.human.labels import read_labels
from quipwright.evaluation.human.page import rating_app
from quipwright.evaluation.human.ratings import Ratings
from quipwright.evaluation.report.evidence import read_evidence
from quipwright.serving.gate import address
from quipwright.testing.browser import browser, needs_browser, served, until
from quipwright.testing.summaries import finished_run, made_summary

TASK = Task.load()
QUESTIONS = tuple(TASK.questions)
SAMPLES = [
    Sample(
        literal=f"The bus number {i} was late again.",
        example_id=f"bus-{i}",
        split="test",
        answers={
            "feedback-dpo": f"Bus {i} runs on island time.",
            "imitation": f"Bus {i} was late, and nobody was surprised.",
            "teacher": f"Bus {i} is a rumour with wheels.",
        },
    )
    for i in range(3)
]


def open_ratings(folder: Path, checks: int = 0) -> Ratings:
    items = items_of_run(SAMPLES, ["feedback-dpo", "imitation"], QUESTIONS, checks=checks)
    return Ratings.open(folder / "ratings", items)


def write_summary(run: Path, *students: str) -> None:
    """A finished run with ``SAMPLES`` and these students."""
    made = made_summary(1)
    checkpoints = dict.fromkeys(students, made.checkpoints["imitation"])
    summary = made.model_copy(update={"samples": SAMPLES, "checkpoints": checkpoints})
    finished_run(run, summary)


def judgment(pair_id: str, judge: str, verdict: Any = "A", question: str = "humour") -> Judgment:
    return Judgment(pair_id=pair_id, judge=f"human:{judge}", verdict=verdict, question=question)


def answer(client: httpx2.Client, choice: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Send the form of the page that is shown, as a browser without script would."""
    fields = hidden(client.get("/").text)
    return client.post("/answer", data={**fields, "choice": choice}, headers=headers or {}, follow_redirects=True)


def hidden(page: str) -> dict[str, str]:
    return {name: page.split(f'name="{name}" value="')[1].split('"')[0] for name in ("item", "question")}


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
    assert labels[0].votes == {"humour": {"ann": "A", "bo": "A"}}


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


def test_the_page_is_blind_and_refuses_strangers(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path / "secret-run")
    with served(rating_app(ratings, TASK)) as address, httpx2.Client(base_url=address) as client:
        assert "Begin" in client.get("/").text
        assert client.post("/name", data={"name": "<b>"}).status_code == 400
        client.post("/name", data={"name": "Ann Ö."})
        seen = client.get("/").text
        for _ in range(9):
            seen += answer(client, "1").text
        assert "That was the last one" in seen
        for word in ("feedback", "imitation", "teacher", "dpo", "secret-run", "student", *ratings.items):
            assert word not in seen.lower(), word
        assert len(ratings.votes) == 9
        headers = client.get("/").headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        for strange in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            assert client.post("/undo", headers=strange).status_code == 403
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        assert client.post("/name", data={"name": "x" * 100_000}).status_code == 413
        assert client.post("/answer", data={"item": "x", "question": "humour", "choice": "1"}).status_code == 400
        assert len(ratings.votes) == 9
    ratings.close()


def test_a_wider_page_needs_its_token(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    with served(rating_app(ratings, TASK, token="sesame")) as address, httpx2.Client(base_url=address) as client:
        assert client.get("/").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        entered = client.get("/?token=sesame")
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        assert client.get("/").status_code == 200
    ratings.close()


def test_an_address_is_one_that_a_browser_can_open() -> None:
    assert address("127.0.0.1", 8400) == "http://127.0.0.1:8400"
    assert address("::1", 8400) == address("[::1]", 8400) == "http://[::1]:8400"
    for wildcard in ("0.0.0.0", "::"):
        name = urlsplit(address(wildcard, 8400)).hostname
        assert name
        assert name not in ("0.0.0.0", "::")


def test_a_wider_page_is_announced_by_this_machines_own_address(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_summary(run, "imitation")
    with socket.socket() as taken:  # so that the command ends after it said where to go
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = CliRunner().invoke(command, ["rate", str(run), "--host", "0.0.0.0", "--port", str(port)]).output
    assert f"{address('0.0.0.0', port)}/?token=" in said


def test_a_form_of_many_fields_is_refused(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    with served(rating_app(ratings, TASK)) as url:
        wrong = httpx2.post(f"{url}/name", content=b"name=a" + b"&x=1" * 30)
        assert (wrong.status_code, wrong.text) == (400, "More than 20 fields.")
    ratings.close()


@needs_browser
def test_the_address_opens_from_another_site(tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from starlette.responses import HTMLResponse

    ratings = open_ratings(tmp_path)
    with served(rating_app(ratings, TASK, token="sesame")) as url:
        mail = HTMLResponse(f'<a href="{url}/?token=sesame">rate</a> <a href="{url}/">go on</a>')
        with served(mail) as other, browser(tmp_path / "p", width=390) as driver:
            elsewhere = other.replace("127.0.0.1", "localhost")  # another site to the browser
            driver.get(elsewhere)
            driver.find_element(By.LINK_TEXT, "rate").click()
            until(driver, "Begin")
            driver.find_element(By.NAME, "name").send_keys("Ann", Keys.ENTER)
            until(driver, "1 of 9")
            driver.get(elsewhere)
            driver.find_element(By.LINK_TEXT, "go on").click()
            until(driver, "1 of 9")
    ratings.close()


def test_orders_differ_between_raters(tmp_path: Path) -> None:
    from quipwright.evaluation.human.page import RatingPage

    ratings = open_ratings(tmp_path)
    page = RatingPage(ratings, TASK)
    raters = [f"r{i}" for i in range(40)]
    orders = {tuple(s.item.pair.id for s in page.steps(r)) for r in raters}
    assert len(orders) > 3
    firsts = [page.shown(r, item) for r in raters for item in ratings.items.values()]
    assert 0.35 < firsts.count("ab") / len(firsts) < 0.65
    assert [s.question for s in page.steps("x")[:3]] == list(QUESTIONS)
    ratings.close()


@needs_browser
def test_two_raters_undo_reload_and_a_restart_in_a_browser(tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def begin(driver: Any, address: str, name: str) -> None:
        driver.get(address)
        driver.find_element(By.NAME, "name").send_keys(name, Keys.ENTER)

    def press(driver: Any, key: str, then: str) -> None:
        driver.find_element(By.TAG_NAME, "body").send_keys(key)
        until(driver, then)

    ratings = open_ratings(tmp_path)
    with served(rating_app(ratings, TASK)) as address:
        port = int(address.rpartition(":")[2])
        with browser(tmp_path / "ann") as ann:
            begin(ann, address, "Ann")
            until(ann, "1 of 9")
            press(ann, "1", "2 of 9")
            press(ann, "2", "3 of 9")
            ann.refresh()
            press(ann, "u", "2 of 9")
            press(ann, "0", "3 of 9")
            assert [j.verdict for j in ratings.votes.values()][1] == "unparsed"
            errors = [entry for entry in ann.get_log("browser") if "Content Security" in entry["message"]]
            assert not errors
        with browser(tmp_path / "bo", width=390, height=800) as bo:
            begin(bo, address, "Bo")
            for number in range(1, 10):
                until(bo, f"{number} of 9")
                bo.find_element(By.CSS_SELECTOR, "button.choice").click()
            until(bo, "That was the last one")
            assert bo.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    ratings.close()
    again = open_ratings(tmp_path)
    assert again.judges() == ["human:Ann", "human:Bo"]
    assert len(again.votes) == 11
    with served(rating_app(again, TASK), port) as address, browser(tmp_path / "ann") as ann:
        ann.get(address)
        if "Begin" in ann.page_source:  # the cookie may not have reached the disk; the votes must
            begin(ann, address, "Ann")
        until(ann, "3 of 9")
    again.close()


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
