"""The report: what it says, that hostile text stays text, and that it asks nobody anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.browsing import browser, needs_browser
from tests.summaries import made_summary
from understudy.cli import app as command
from understudy.errors import RunError
from understudy.ratings import Ratings, items_of_run
from understudy.records import Judgment
from understudy.report import view, write_report
from understudy.report.figures import Dot, bars, dot_plot

BEACON = "http://127.0.0.1:9/hit"
PAYLOADS = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    f"<img src={BEACON}>",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "</text></svg><script>window.hit=1</script>",
    "</style><script>window.hit=1</script>",
    "</title><script>window.hit=1</script>",
    "</textarea><script>window.hit=1</script>",
    f"<iframe src={BEACON}></iframe>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    f"<link rel=stylesheet href={BEACON}>",
    f"<style>@import url({BEACON});body{{display:none}}</style>",
    f'" style="background:url({BEACON})" onmouseover="window.hit=1',
    "' onfocus='window.hit=1' autofocus='",
    f"<meta http-equiv=refresh content='0;url={BEACON}'>",
    f"<base href={BEACON}><form action={BEACON}><button autofocus>x</button></form>",
    "<details open ontoggle=window.hit=1><summary>x</summary></details>",
    "{{ 7*7 }}{% raw %}<a href=javascript:window.hit=1>x</a>&lt;script&gt;\u2028\ufeff",
)


def page(tmp_path: Path, **how: Any) -> str:
    path = tmp_path / "report.html"
    write_report(made_summary(**how), path)
    return path.read_text(encoding="utf-8")


def test_the_page_tells_the_run(tmp_path: Path) -> None:
    text = page(tmp_path)
    for words in (
        "imitated the teacher on 1391 literals",
        "In 2 rounds of feedback",
        "Whether feedback helped is open",
        "<svg",
        "By round",
        "select-1: 1300 of 1391 literals gave a pair; 9000 of 20865 pairs of candidates are within the length rule.",
        "length-controlled",
        "Most disputed",
        "Random",
        "Worst",
        "Lineage",
        "Settings that differ",
        "4400",
        "Krippendorff",
    )[:-1]:
        assert words in text, words
    assert "<script" not in text
    assert "style=" not in text
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", text)
    assert len(text) < 2_000_000


def test_many_long_outputs_stay_under_two_megabytes(tmp_path: Path) -> None:
    summary = made_summary(n=10, text=" word" * 60)
    write_report(summary.model_copy(update={"samples": summary.samples * 120}), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    assert "more are in summary.json" in text


def test_an_empty_summary_still_makes_a_page(tmp_path: Path) -> None:
    bare = made_summary(n=1).model_copy(
        update={
            "win_rates": [],
            "differences": [],
            "quality": [],
            "samples": [],
            "contests": [],
            "counts": {"rankings": [], "dropped": {}},
            "checkpoints": {},
            "training": {},
            "stages": [],
            "critic": {"name": "c", "agreement": None, "low": None, "high": None, "n": 0},
        }
    )
    write_report(bare, tmp_path / "r.html")
    assert "How it was made" in (tmp_path / "r.html").read_text()


def test_a_handful_of_inputs_proves_nothing() -> None:
    assert "nothing can be said" in view.story(made_summary(6))
    assert "nothing can be said" not in view.story(made_summary(30))


def test_settings_that_differ_are_found() -> None:
    rows = {path: (here, usual) for path, here, usual in view.settings_diff(made_summary(2).recipe)}
    assert rows == {"rounds": ("2", "1"), "seed": ("7", "0")}


def test_figures_escape_and_clip() -> None:
    drawn = dot_plot([Dot("<b>&", 1.7, 0.2, 0.4, "<i>")], "<u>") + bars([("<s>", 0.0, "<q>")], "")
    assert not re.search(r"<[bisuq]>", drawn)
    assert 'cx="' in drawn


def test_the_command_joins_votes_and_audit_and_compares(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        summary = made_summary(6, name=name, seed=len(folders))
        (folder / "summary.json").write_text(summary.model_dump_json())
        folders.append(str(folder))
    ratings = Ratings.open(
        tmp_path / "one" / "ratings",
        items_of_run([s.model_dump() for s in made_summary(6).samples], ["feedback", "teacher"]),
    )
    for pair in ratings.items:
        ratings.vote(Judgment(pair_id=pair, judge="human:ann", verdict="A", question="humour"))
    ratings.close()
    runner = CliRunner()
    audited = [
        "audit",
        "--labels",
        f"{folders[0]}/ratings",
        "--critic",
        "rule:longer",
        "--json",
        f"{folders[0]}/audit.json",
    ]
    assert runner.invoke(command, audited).exit_code == 0
    result = runner.invoke(command, ["report", folders[0]])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "one" / "report.html").read_text()
    assert "Krippendorff" in text
    assert "Against people" in text
    result = runner.invoke(command, ["report", *folders, "--output", str(tmp_path / "both.html")])
    assert result.exit_code == 0, result.output
    both = (tmp_path / "both.html").read_text()
    assert "2 runs side by side" in both
    assert "one: feedback vs teacher" in both
    (tmp_path / "one" / "summary.json").write_text(json.dumps({"samples": []}))
    assert isinstance(runner.invoke(command, ["report", folders[0]]).exception, RunError)


@needs_browser
def test_hostile_text_runs_nothing_and_asks_nobody(tmp_path: Path) -> None:
    text = "".join(PAYLOADS)
    assert len(PAYLOADS) == 20
    write_report(made_summary(4, name=text, text=text), tmp_path / "report.html")
    with browser(tmp_path / "profile") as driver:
        driver.get_log("performance")
        driver.get(f"file://{tmp_path}/report.html")
        driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert driver.execute_script("return window.hit") is None
        assert (
            driver.execute_script("return document.querySelectorAll('script, iframe, img, form, link, base').length")
            == 0
        )
        assert driver.execute_script("return getComputedStyle(document.body).display") == "block"
        assert driver.title.startswith("<script>")
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        # Chromium opens with a page of its own, which asks for things too
        asked = [e["request"]["url"] for e in sent if e["documentURL"].endswith("report.html")]
        assert {url.rsplit("/", 1)[-1] for url in asked} == {"report.html"}


@needs_browser
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_fits_phone_and_desk(tmp_path: Path, width: int) -> None:
    page(tmp_path)
    with browser(tmp_path / "profile", width=width) as driver:
        driver.get(f"file://{tmp_path}/report.html")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
