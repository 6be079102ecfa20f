"""The report: what it says, that hostile text stays text, and that it asks nobody anything."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app as command
from quipwright.core.errors import DamagedError, RunError
from quipwright.core.format import UNKNOWN, counts, p_value
from quipwright.core.records import Judgment
from quipwright.core.results import Figure, PairScores
from quipwright.core.statistics import JudgedPair, audit
from quipwright.core.storage.files import file_sha256
from quipwright.core.storage.run_folder import record_fact
from quipwright.data.run_summary import Counts, TrainingFacts
from quipwright.data.task import Task
from quipwright.evaluation.audit import AuditReport
from quipwright.evaluation.human.items import items_of_run
from quipwright.evaluation.human.ratings import Ratings
from quipwright.evaluation.pairwise import scores_between
from quipwright.evaluation.report import across, opening, plots, tables, view
from quipwright.evaluation.report.figures import Dot, bars, dot_plot
from quipwright.evaluation.report.pages import report_run, write_report
from quipwright.testing.browser import browser, needs_browser
from quipwright.testing.payloads import PAYLOADS
from quipwright.testing.summaries import finished_run, made_summary

ROUND = Figure(value=0.5, low=0.4, high=0.6)


def page(tmp_path: Path, **how: Any) -> str:
    path = tmp_path / "report.html"
    write_report(made_summary(**how), path)
    return path.read_text(encoding="utf-8")


def test_the_page_tells_the_run(tmp_path: Path) -> None:
    text = page(tmp_path)
    for words in (
        "imitated the teacher on 1391 literals",
        "In 2 rounds of feedback",
        "Feedback is not clearly better or worse than imitation.",
        "<svg",
        "By round",
        "Choosing pairs (1): 1300 of 1391 literals gave a pair; 9000 of 20865 pairs of candidates are within the length rule.",
        "length-controlled",
        "Most disputed",
        "5 inputs drawn at random",
        "Before you believe a win rate",
        "Worst",
        "Lineage",
        "Settings that differ",
        "4400",
    ):
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


@pytest.mark.parametrize("text", ["😂" * 40, "皆が笑った" * 20, "\"'&<" * 40], ids=["emoji", "japanese", "escaped"])
def test_what_counts_is_bytes_as_they_are_written(tmp_path: Path, text: str) -> None:
    summary = made_summary(n=4, text=text)
    write_report(summary.model_copy(update={"samples": summary.samples * 400}), tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 2_000_000


def test_a_long_training_is_drawn_by_some_of_its_steps(tmp_path: Path) -> None:
    losses = [3.0 + (i % 7) / 100 for i in range(45_000)]
    losses[12_345], losses[23_456] = 9.0, 0.5
    summary = made_summary(n=1).model_copy(update={"training": {"sft-imitation": TrainingFacts(rows=1, losses=losses)}})
    (drawn,) = plots.training(summary)
    points = re.findall(r"[\d.]+,([\d.]+)", drawn.split('points="')[1].split('"')[0])
    assert 290 < len(points) <= 302
    assert {"53.4", "133.3"} <= set(points), "the highest and the lowest loss, on a scale from 0 to 10"
    assert "first step 3, step 45000 3.03" in drawn


def test_a_critic_that_only_compares_has_examples_too(tmp_path: Path) -> None:
    made = made_summary(30)
    blind = [x.model_copy(update={"levels": {}, "feedback_over_imitation": None}) for x in made.samples]
    chances = {x.example_id: i / 30 for i, x in enumerate(blind)}
    summary = made.model_copy(
        update={
            "samples": blind,
            "scores": [PairScores(candidate="feedback", baseline="teacher", split="test", scores=chances)],
        }
    )
    best, worst, disputed = view.groups(summary)
    assert best.title == "Best: the critic finds feedback surest to beat the teacher"
    assert best.samples[0] == [x for x in blind if x.answers["feedback"] != x.literal][-1]
    assert worst.samples[0] == blind[0]
    assert disputed.title == "Most disputed: feedback and the teacher close to even"
    assert disputed.samples[0] == blind[15]
    write_report(summary, tmp_path / "r.html")
    assert "the teacher is beaten with probability 0.97 by feedback." in (tmp_path / "r.html").read_text()


def test_tests_and_readings_are_whole(tmp_path: Path) -> None:
    text = page(tmp_path)
    made = made_summary()
    assert "McNemar" in text
    assert f'<td data-head="p after Holm" class="n">{p_value(made.differences[1].p_holm)}</td>' in text
    assert counts(made.pairwise[0].under("verdict")) in text


def test_an_audit_shows_all_that_was_measured(tmp_path: Path) -> None:
    chances = [0.55, 0.65, 0.75, 0.85, 0.95, 0.3, 0.1, 0.6]
    judged = [
        JudgedPair("A" if p > 0.5 else "B", "A", ("A", "A", "B") if i % 3 else ("A", "B", "B"), 5 + i % 3, 6, p, p, "A")
        for i, p in enumerate(chances)
    ]
    report = AuditReport("mcp:m", 8, {"humour": audit(judged)}, "humour", 0.6)
    finished_run(tmp_path, made_summary(2))
    (tmp_path / "audit.json").write_text(json.dumps([report.to_json()]))
    text = report_run(tmp_path).read_text()
    for words in (
        "Audit of mcp:m",
        "how often the critic is right",
        "calibration error that chance alone gives",
        "LB where the label is the shorter",
        "log-odds per extra word, labels",
        "its own texts preferred beyond",
        "where the labels&#39; margin is 33%",
        "the labellers&#39; alpha",
        "0 of 8",
        "the floor of 60",
    ):
        assert words in text, words
    (tmp_path / "audit.json").write_text(json.dumps([report.to_json()]).replace('"pairs": 8', '"pairs": 9'))
    with pytest.raises(DamagedError, match=r"audit\.json cannot be read: ValueError: its hash is not that"):
        report_run(tmp_path)
    (tmp_path / "audit.json").write_text('[{"critic": "x"}]')
    with pytest.raises(RunError, match="no audit of this version"):
        report_run(tmp_path)


def test_runs_are_paired_only_where_they_can_be() -> None:
    one, two = made_summary(12, name="one", seed=1), made_summary(12, name="two", seed=2)
    differences = across.differences([("one", one), ("two", two)])
    pair = next(d for d in differences if d.candidate == "one: feedback" and d.opponent == "teacher")
    alike = [
        a.example_id
        for a, b in zip(one.samples, two.samples, strict=True)
        if a.answers["teacher"] == b.answers["teacher"]
    ]
    said = [scores_between(s.scores, "feedback", "teacher", "test") for s in (one, two)]
    mine, theirs = ([pair.scores[i] or 0.0 for i in alike] for pair in said if pair is not None)
    assert (pair.baseline, pair.n) == ("two: feedback", len(alike))
    assert pair.difference.value == pytest.approx((sum(mine) - sum(theirs)) / len(alike))
    assert pair.p_holm is not None
    other = two.model_copy(update={"critic": {**two.critic, "name": "another"}})
    assert across.differences([("one", one), ("two", other)]) == []
    shown = across.examples([("one", one), ("two", two)])
    assert [head for head, _ in shown[0][1]] == ["one: feedback", "two: feedback"]


def test_an_empty_summary_still_makes_a_page(tmp_path: Path) -> None:
    bare = made_summary(n=1).model_copy(
        update={
            "pairwise": [],
            "differences": [],
            "quality": [],
            "samples": [],
            "scores": [],
            "counts": Counts(literals={}, teacher=0, untaught=0),
            "checkpoints": {},
            "training": {},
            "stages": [],
            "critic": {"name": "c", "agreement": None, "low": None, "high": None, "n": 0},
        }
    )
    write_report(bare, tmp_path / "r.html")
    assert "How it was made" in (tmp_path / "r.html").read_text()


def test_a_handful_of_inputs_proves_nothing() -> None:
    assert "nothing can be said" in opening.opening(made_summary(6)).conclusion
    assert "nothing can be said" not in opening.opening(made_summary(30)).conclusion


def test_an_unfit_judge_is_folded_away_and_part_of_no_verdict(tmp_path: Path) -> None:
    made = made_summary(30)
    why = "rule:coin turns with the order."
    blind = [r.model_copy(update={"unfit": why}) for r in made.pairwise]
    sure = made.pairwise[-1].model_copy(update={"judge": "recorded:reading", "outside": True, "noise_floor": ROUND})
    assert (sure.candidate, sure.baseline) == ("feedback", "imitation")
    write_report(made.model_copy(update={"pairwise": [*blind, sure]}), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    first, rest = text.split("<h2", 1)
    assert "Judged by recorded verdicts “reading”, from outside the training." in first
    assert "wins or ties 50 %" in first
    assert why not in first
    folded = rest.split("Set aside: 8 comparisons whose judge is unfit</summary>")[1].split("</details>")[0]
    assert why in folded
    assert folded.count("<tr>") == 9
    alone = opening.opening(made.model_copy(update={"pairwise": blind}))
    assert alone.conclusion == f"Whether feedback is better than imitation is open. {why}"
    assert "rule coin" not in plots.scores(made.model_copy(update={"pairwise": [*blind, sure]}))


def test_a_copy_is_marked_and_never_best(tmp_path: Path) -> None:
    made = made_summary(8)
    copy = made.samples[3]
    liked = copy.model_copy(
        update={
            "answers": copy.answers | {"feedback": copy.literal},
            "levels": copy.levels | {"feedback": (0.0, 0.0, 1.0)},
        }
    )
    summary = made.model_copy(update={"samples": [*made.samples[:3], liked, *made.samples[4:]]})
    best = view.groups(summary)[0]
    assert best.title.startswith("Best")
    assert liked not in best.samples
    write_report(summary.model_copy(update={"samples": [liked]}), tmp_path / "r.html")
    assert 'feedback <span class="tag">copy</span>' in (tmp_path / "r.html").read_text()


def test_a_column_that_says_nothing_is_left_out() -> None:
    made = tables.table(("who", "all", "none"), [("a", "1", UNKNOWN), ("b", UNKNOWN, "")])
    assert made.heads == ("who", "all")
    assert [[cell.text for cell in row] for row in made.rows] == [["a", "1"], ["b", UNKNOWN]]
    assert "meaning" not in tables.outputs(view.looks([("", made_summary(3))]), ("broken", "plain", "funny")).heads


def test_no_key_of_the_inside_is_shown(tmp_path: Path) -> None:
    critic = {**made_summary(2).critic, "agreement_teacher": 0.15, "picks_longer": 0.42}
    write_report(made_summary(2).model_copy(update={"critic": critic}), tmp_path / "r.html")
    shown = (tmp_path / "r.html").read_text().split("All settings")[0]
    for key in ("agreement_teacher", "picks_longer", "length_bias", "sft-imitation", "judge-test", ">ece<", "sample-1"):
        assert key not in shown, key
    for said in ("takes the longer of two", "calibration error", "agreement where the teacher takes part"):
        assert said in shown, said


def test_settings_that_differ_are_found() -> None:
    rows = {path: (here, usual) for path, here, usual in view.settings_diff(made_summary(2))}
    assert rows == {"rounds": ("2", "1"), "seed": ("7", "0")}


def test_figures_escape_and_clip() -> None:
    drawn = dot_plot([Dot("<b>&", 1.7, 0.2, 0.4, "<i>")], "<u>") + bars([("<s>", 0.0, "<q>")], "")
    assert not re.search(r"<[bisuq]>", drawn)
    assert 'cx="' in drawn


def test_the_command_joins_votes_and_audit_and_compares(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        finished_run(folder, made_summary(6, name=name, seed=len(folders)))
        folders.append(str(folder))
    ratings = Ratings.open(
        tmp_path / "one" / "ratings",
        items_of_run(made_summary(6).samples, ["feedback", "teacher"], list(Task.load().questions), checks=1),
    )
    for pair, item in ratings.items.items():
        for question in item.questions:
            ratings.vote(Judgment(pair_id=pair, judge="human:ann", verdict="A", question=question))
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
    assert "Against labels" in text
    assert re.search(r"<th>student</th>.*humour</th>.*consistency</th>.*overall</th>", text)
    assert "6 / 0 / 0 on 6 pairs" in text
    assert "Attention checks passed: ann 1 of 1." in text
    result = runner.invoke(command, ["report", *folders, "--output", str(tmp_path / "both.html")])
    assert result.exit_code == 0, result.output
    both = (tmp_path / "both.html").read_text()
    assert "2 runs side by side" in both
    assert "one: feedback against teacher" in both
    assert "6 / 0 / 0 on 6 pairs" in both
    assert "Audit of rule:longer (one)" in both
    assert "Paired on the inputs they share" in both
    assert "Inputs that all of them answered (6)" in both
    (tmp_path / "one" / "summary.json").write_text(json.dumps({"samples": []}))
    assert isinstance(runner.invoke(command, ["report", folders[0]]).exception, DamagedError)
    record_fact(tmp_path / "one", "summary.json", file_sha256(tmp_path / "one" / "summary.json"))
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
def test_on_paper_tables_fit_and_long_lists_stay_out(tmp_path: Path) -> None:
    page(tmp_path)
    with browser(tmp_path / "profile", width=718) as driver:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        driver.get(f"file://{tmp_path}/report.html")
        widths = driver.execute_script("return [...document.querySelectorAll('table')].map(t => t.scrollWidth)")
        assert max(widths) <= 718
        shown = driver.execute_script(
            "return [...document.querySelectorAll('details')].map(d => [d.firstElementChild.textContent, d.offsetHeight])"
        )
        heights = {title.split(" (")[0].split(":")[0]: height for title, height in shown}
        assert heights["Best"] > 100
        assert heights["All inputs"] == heights["All settings"] == 0
        printed = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
        assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) < 8


@needs_browser
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_fits_phone_and_desk(tmp_path: Path, width: int) -> None:
    page(tmp_path)
    with browser(tmp_path / "profile", width=width) as driver:
        driver.get(f"file://{tmp_path}/report.html")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        ends = driver.execute_script(
            "return [...document.querySelectorAll('table.rows strong')].filter(s => s.offsetWidth)"
            ".map(s => s.getBoundingClientRect().right)"
        )
        assert ends
        assert max(ends) <= width, "the figure that matters is on screen"
