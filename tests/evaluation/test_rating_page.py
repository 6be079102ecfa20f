"""The rating page: blind, closed to strangers, and the same in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app as command
from quipwright.evaluation.human.page import rating_app
from quipwright.evaluation.human.raters import Links
from quipwright.serving.gate import address
from quipwright.testing.browser import browser, needs_browser, served, until
from tests.evaluation.rating import QUESTIONS, TASK, answer, open_ratings, write_summary


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


def test_a_name_belongs_to_whoever_has_its_link(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    links = Links(ratings.folder)
    assert links.path("ann") == Links(ratings.folder).path("ann") != links.path("bo")  # a restart keeps the links
    assert (ratings.folder / "links.key").stat().st_mode & 0o077 == 0
    with served(rating_app(ratings, TASK)) as url:
        with httpx2.Client(base_url=url) as ann:
            ann.post("/name", data={"name": " ANN  Lee "})
            assert links.path("ann lee") in answer(ann, "1").text
            ann.post("/name", data={"name": "Ann Lee"})  # she may say it again
            assert answer(ann, "1").status_code == 200
        with httpx2.Client(base_url=url) as other:
            refused = other.post("/name", data={"name": "Ann Lee"})
            assert (refused.status_code, "Somebody rates under this name" in refused.text) == (400, True)
            other.cookies.set(f"quipwright-rater-{urlsplit(url).port}", "ann%20lee%2Fguessed")
            assert "Begin" in other.get("/").text
            assert other.get("/rater/ann%20lee/guessed").status_code == 403
            assert "3 of 9" in other.get(links.path("ann lee"), follow_redirects=True).text
    assert [judge for _, judge, _ in ratings.votes] == ["human:ann lee"] * 2
    ratings.close()


def test_where_raters_are_invited_nobody_names_himself(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    app = rating_app(ratings, TASK, "sesame", invited=True)
    with served(app) as url, httpx2.Client(base_url=url) as client:
        link = Links(ratings.folder).path("bo", "sesame")
        assert client.get("/?token=sesame", follow_redirects=True).status_code == 403
        assert client.post("/name", data={"name": "bo"}).status_code == 403
        assert "1 of 9" in client.get(link, follow_redirects=True).text
    ratings.close()


def test_only_the_pairs_of_this_study_are_asked_about(tmp_path: Path) -> None:
    ratings = open_ratings(tmp_path)
    first = next(iter(ratings.items))
    with served(rating_app(ratings, TASK, asked={first})) as url, httpx2.Client(base_url=url) as client:
        client.post("/name", data={"name": "ann"})
        assert "1 of 3" in client.get("/").text
        assert "That was the last one" in [answer(client, "1") for _ in range(3)][-1].text
    assert {pair for pair, _, _ in ratings.votes} == {first}
    ratings.close()


def test_an_address_is_one_that_a_browser_can_open() -> None:
    assert address("127.0.0.1", 8400) == "http://127.0.0.1:8400"
    assert address("::1", 8400) == address("[::1]", 8400) == "http://[::1]:8400"
    for wildcard in ("0.0.0.0", "::"):
        name = urlsplit(address(wildcard, 8400)).hostname
        assert name
        assert name not in ("0.0.0.0", "::")


def test_a_wider_page_is_announced_by_this_machines_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    write_summary(run, "imitation")

    def bound(app: object, host: str, port: int, announce: Callable[[int], None]) -> None:
        announce(port)

    monkeypatch.setattr("quipwright.serving.http_server.run_server", bound)
    said = CliRunner().invoke(command, ["rate", str(run), "--host", "0.0.0.0", "--port", "8400"]).output
    assert f"{address('0.0.0.0', 8400)}/?token=" in said


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
    assert again.judges() == ["human:ann", "human:bo"]
    assert len(again.votes) == 11
    with served(rating_app(again, TASK)) as address, browser(tmp_path / "ann") as ann:
        ann.get(address + Links(again.folder).path("ann"))
        until(ann, "3 of 9")
    again.close()
