"""What a run cost: calls by stage and model, time of every stage, and what is unknown is never nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app
from quipwright.core.records import Example
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.stage_cache import StageKey
from quipwright.evaluation.report.pages import write_report
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.call_store import CallStore
from quipwright.llm.costs import Price, Spent, cost_of
from quipwright.testing.summaries import finished_run, made_summary

PRICES = {"big": Price(input=2.0, output=10.0)}


def stored(key: str, model: str, tokens_in: int | None, tokens_out: int | None, **more: Any) -> Stored:
    return Stored(key, model, {}, {}, tokens_in, tokens_out, cost_of(PRICES, model, tokens_in, tokens_out), **more)


def bought(folder: Path) -> list[Spent]:
    """A teacher with a price, a critic without one, a request given up on; read from a store opened anew."""
    with CallStore.open(folder) as store:
        store.stage = lambda: "teach"
        store.put([stored("a", "big", 1000, 100), stored("b", "big", 3000, 300, charged=0.5)])
        store.stage = lambda: "judge-1"
        store.hand_over(stored("c", "small", None, None))  # committed by whoever opens the store next
        store.put([stored("d", "big", None, 5)], [Failed("e", "small", "no", 500, 3, 0.25)])
    with CallStore.open(folder) as store:
        return store.spent()


def test_calls_are_counted_by_stage_and_model(tmp_path: Path) -> None:
    spent = {(s.stage, s.model): s for s in bought(tmp_path)}
    teach = spent["teach", "big"]
    assert (teach.calls, teach.tokens_in, teach.tokens_out, teach.uncounted) == (2, 4000, 400, 0)
    assert teach.cost == pytest.approx(4000 * 2e-6 + 400 * 10e-6)
    assert teach.money == "0.0120, up to 0.5000 more for attempts of unknown cost"
    unknown = spent["judge-1", "small"]
    assert (unknown.calls, unknown.tokens_in, unknown.cost, unknown.money) == (1, None, None, "unknown")
    assert spent["judge-1", "big"].money == "unknown"  # a price, but nobody counted what came in
    given_up = spent["given up", "small"]
    assert (given_up.calls, given_up.money) == (0, "0.0000, up to 0.2500 more for attempts of unknown cost")
    assert sum(s.calls for s in spent.values()) == 4


def cells(page: str) -> list[list[str]]:
    """Every table row of a page as the text of its cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.S)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in rows]


def test_the_page_shows_cost_and_says_what_is_unknown(tmp_path: Path) -> None:
    summary = made_summary(n=4).model_copy(update={"spent": bought(tmp_path)})
    write_report(summary, tmp_path / "report.html")
    rows = cells((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [
        "the teacher writes",
        "big",
        "2",
        "4,000",
        "400",
        "0.0120, up to 0.5000 more for attempts of unknown cost",
    ] in rows
    assert ["judging (1)", "small", "1", "unknown", "unknown", "unknown"] in rows
    total = "0.0120 (calls of unknown cost: 2), up to 0.7500 more for attempts of unknown cost"
    assert ["all", "", "4", "4,000 (calls not counted: 2)", "405 (calls not counted: 2)", total] in rows


def test_report_of_one_run_and_of_several_shows_cost(tmp_path: Path) -> None:
    spent = bought(tmp_path / "calls")
    for name, costs in (("paid", spent), ("free", [])):
        finished_run(tmp_path / name, made_summary(n=4).model_copy(update={"name": name, "spent": costs}))
    runs = [str(tmp_path / name) for name in ("paid", "free")]
    both = tmp_path / "both.html"
    assert CliRunner().invoke(app, ["report", *runs, "--output", str(both)]).exit_code == 0
    rows = cells(both.read_text(encoding="utf-8"))
    assert ["free", "6.0 (unknown for 1 of 4 stages)", "0", "none"] in rows
    assert next(row for row in rows if row[:1] == ["paid"] and len(row) == 4)[2:] == [
        "4",
        "0.0120 (calls of unknown cost: 2), up to 0.7500 more for attempts of unknown cost",
    ]
    one = tmp_path / "one.html"
    assert CliRunner().invoke(app, ["report", runs[1], "--output", str(one)]).exit_code == 0
    assert "no call to a language model was made" in one.read_text(encoding="utf-8")


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    spent = [Spent(stage="<script>1</script>", model="<img src=x>", calls=1, unpriced=1)]
    write_report(made_summary(n=2).model_copy(update={"spent": spent}), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text


def test_a_stage_that_was_interrupted_took_both_times_together(tmp_path: Path) -> None:
    def chunks(start: int, *, die: bool = False) -> Iterator[list[Example]]:
        for i in range(start, 2):
            time.sleep(0.1)
            yield [Example(text=f"Sentence {i}.", split="train")]
            if die:
                raise KeyboardInterrupt

    with RunFolder.open(tmp_path, {}) as run, pytest.raises(KeyboardInterrupt):
        run.cache.rows(StageKey("teach", "", ()), Example, lambda start: chunks(start, die=True))
    with RunFolder.open(tmp_path, {}) as run:
        run.cache.rows(StageKey("teach", "", ()), Example, chunks)
        made = run.cache.times[0]
    assert made.took is not None
    assert made.took >= made.seconds + 0.09
    with RunFolder.open(tmp_path, {}) as run:
        run.cache.rows(StageKey("teach", "", ()), Example, chunks)
    assert run.cache.times[0].skipped
    assert run.cache.times[0].took == pytest.approx(made.took, abs=0.02)
    assert sorted(p.name for p in next((tmp_path / "stages").iterdir()).iterdir()) == ["done.json", "rows.jsonl"]
