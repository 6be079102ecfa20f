"""The table of an experiment is right by hand, and so is its page, whatever the names are."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import pytest
from typer.testing import CliRunner

from quipwright.cli.app import app
from quipwright.core.errors import DamagedError, RunError
from quipwright.core.records import Comparison, Judgment, Pair, Verdict
from quipwright.core.results import PairScores, Quality
from quipwright.core.statistics import holm, sign_flip_test
from quipwright.core.storage.sealed_files import write_sealed
from quipwright.data.run_summary import RunSummary
from quipwright.evaluation.experiment import Experiment
from quipwright.evaluation.experiment_table import Judged, Result, Row, tabulate
from quipwright.evaluation.pairwise import orders_won
from quipwright.evaluation.report.figures import around_zero
from quipwright.evaluation.report.grid import grid_lines
from quipwright.evaluation.report.markdown import experiment_markdown
from quipwright.evaluation.report.pages import report_experiment, write_experiment
from quipwright.evaluation.settings import EvaluateSettings
from quipwright.llm.costs import Spent
from quipwright.testing.payloads import PAYLOADS
from tests.pipeline.results import grid


def summary(
    scores: dict[str, float | None],
    student: str = "feedback",
    won: dict[str, float | None] | None = None,
    unfit: str = "",
) -> RunSummary:
    quality = Quality(
        system=student,
        split="test",
        n=4,
        copy_rate=0.25,
        stock_turns=0.125,
        empty=0,
        truncated=0,
        words=9,
        length_ratio=1.5,
        distinct_2=0.5,
    )
    recipe = {"evaluate": EvaluateSettings(tie=0.05).model_dump()}
    pair = PairScores(candidate=student, baseline="teacher", split="test", scores=scores, orders_won=won)
    met = SimpleNamespace(candidate=student, baseline="teacher", split="test", judge="c", unfit=unfit)
    known = {"scores": [pair], "quality": [quality], "recipe": recipe, "spent": []}
    return cast(RunSummary, SimpleNamespace(**known, critic={"name": "c"}, pairwise=[met]))


def test_the_tables_numbers() -> None:
    experiment = Experiment.model_validate(grid(paper={"FT": 28}))
    summaries = {
        ("FT", 1): summary({"a": 0.2, "b": 0.6, "c": 0.3, "d": 0.1}, "imitation"),
        ("FT", 2): summary({"a": 0.4, "b": (0.3 + 0.6) / 2, "c": 0.3, "d": None}, "imitation"),
        ("DPO", 1): summary({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}),
        ("DPO", 2): summary({"a": 0.7, "b": 0.8, "c": 0.7, "d": 0.4}),
        ("BRIO", 1): summary({"a": 0.3, "b": 0.5, "c": 0.3, "d": 0.9}),
        ("BRIO", 2): "broken",
    }
    result = tabulate(experiment, summaries, dict.fromkeys(summaries, 1.5))
    ft, dpo, brio = result.rows
    assert ft.rates == {1: 1 / 4, 2: 0.0}  # 0.45 is no tie: the paper knows no band
    assert ft.rate == 1 / 8
    assert (ft.paper, ft.minutes, ft.n, ft.difference) == (28, 3.0, 4, None)
    assert dpo.rates == {1: 1.0, 2: 0.75}
    # t interval of two seeds: 0.875 +- 12.706 * 0.1768 / sqrt 2, cut at 0 and 1
    assert (dpo.seeds_low, dpo.seeds_high) == (0.0, 1.0)
    mine, theirs = [0.8, 0.8, 0.7, 0.6], [0.3, 0.525, 0.3, 0.1]  # d under seed 1 alone, which both have
    assert dpo.difference == pytest.approx(sum(mine) / 4 - sum(theirs) / 4)
    assert dpo.difference_low is not None
    assert dpo.difference_low > 0
    assert (brio.runs, brio.failed, brio.seeds_low) == (1, {2: "broken"}, None)
    assert brio.difference == pytest.approx(sum([0.3, 0.5, 0.3, 0.9]) / 4 - sum([0.2, 0.6, 0.3, 0.1]) / 4)
    raw = [sign_flip_test(mine, theirs), sign_flip_test([0.3, 0.5, 0.3, 0.9], [0.2, 0.6, 0.3, 0.1])]
    assert [dpo.p, brio.p] == pytest.approx(list(holm(raw)))
    assert (dpo.length_ratio, dpo.copy_rate, dpo.stock_turns, dpo.distinct_2) == (1.5, 0.25, 0.125, 0.5)


def test_the_rate_is_the_papers_where_both_showings_are_kept() -> None:
    """0.9 and 0.2 make a mean above one half, but of the two showings only one was won."""
    experiment = Experiment.model_validate(grid(variants={"FT": {}}, seeds=[1]))
    scores: dict[str, float | None] = {"a": 0.55, "b": 0.4, "c": 0.75, "copy": 1.0}
    kept: dict[str, float | None] = {"a": 0.5, "b": 0.5, "c": None, "copy": 1.0}
    for scored, rate, n in ((summary(scores, won=kept), 2 / 3, 3), (summary(scores), 3 / 4, 4)):
        (row,) = tabulate(experiment, {("FT", 1): scored}, {("FT", 1): 0.0}).rows
        assert (row.rate, row.n) == (pytest.approx(rate), n)


def test_a_variant_whose_judge_is_unfit_is_set_aside() -> None:
    experiment = Experiment.model_validate(grid(seeds=[1]))
    scores: dict[str, float | None] = {"a": 0.2, "b": 0.6, "c": 0.3}

    def table(**unfit: str) -> Result:
        found = {
            (name, 1): summary(scores, "imitation" if name == "FT" else "feedback", unfit=unfit.get(name, ""))
            for name in experiment.variants
        }
        return tabulate(experiment, found, dict.fromkeys(found, 1.0))

    result = table(DPO="it turns with the order")
    ft, dpo, brio = result.rows
    assert (ft.unfit, dpo.unfit, brio.unfit) == ("", "it turns with the order", "")
    assert (dpo.p, brio.p) == (None, 1.0)
    text = experiment_markdown(result)
    assert "| DPO | 1 | set aside | – |" in text
    assert "- DPO 33 % (6 – 79 %): it turns with the order" in text
    assert [row.unfit for row in table(FT="why").rows] == ["why"] * 3, "differences to the baseline fall with it"


def test_both_showings_of_a_judge_are_read_alone() -> None:
    compared = [Comparison(Pair(example_id=x, a_id="a", b_id="b", selector="s"), x, "one", "two") for x in "abcd"]

    def said(i: int, shown: Literal["ab", "ba"], verdict: Verdict, p: float | None = None) -> Judgment:
        return Judgment(pair_id=compared[i].pair.id, judge="j", shown=shown, verdict=verdict, p_a=p)

    judgments = [
        said(0, "ab", "A", 0.9), said(0, "ba", "B", 0.2), said(1, "ab", "tie"), said(1, "ba", "A"),
        said(2, "ab", "A"), said(2, "ba", "unparsed"), said(3, "ab", "B", 0.0),
    ]  # fmt: skip
    assert orders_won(compared, judgments) == {"a": 0.5, "b": 1.0, "c": None, "d": 0.0}  # d needed no order


def cells(page: str) -> list[list[str]]:
    """Every table row of a page as the text of its cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.S)
    return [[re.sub(r"<[^>]+>", "", c) for c in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)] for row in rows]


def made_result() -> Result:
    """A table with everything: a paper's figure, costs known and unknown, a failure."""
    known = Spent(stage="teach", model="m", calls=1200, tokens_in=90_000, tokens_out=4_000, cost=0.42)
    unknown = Spent(stage="judge-1", model="n", calls=8, uncounted=8, unpriced=8)
    common = {"runs": 3, "n": 96, "length_ratio": 1.2, "copy_rate": 0.04, "distinct_2": 0.7, "minutes": 12.5}
    rows = (
        Row(variant="FT", rate=0.28, low=0.22, high=0.35, rates={1: 0.28, 2: 0.27}, paper=28, spent=known, **common),
        Row(variant="DPO", rate=0.46, low=0.39, high=0.53, seeds_low=0.3, seeds_high=0.6, difference=0.113, p=0.004,
            difference_low=0.071, difference_high=0.152, paper=51.5, spent=known + unknown, **common),
        Row(variant="BRIO", rate=0.31, low=0.24, high=0.38, difference=-0.021, difference_low=-0.06,
            difference_high=0.02, p=0.31, spent=unknown, **common),
        Row(variant="SD", runs=0, failed={1: "MemoryError: no room"}),
    )  # fmt: skip
    more = known + unknown + Spent(stage="given up", model="m", charged=0.5)
    rows = tuple(r.model_copy(update={"judges": {"outside": Judged()}}) for r in rows)
    other = Judged(n=96, rate=0.41, low=0.34, high=0.48, paper=52)
    rows = (rows[0], rows[1].model_copy(update={"judges": {"outside": other}}), *rows[2:])
    return Result(name="table", baseline="FT", opponent="teacher", split="test", rows=rows, spent=more,
                  silent={"gone": "no key"})  # fmt: skip


def test_the_page_of_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(made_result().model_dump_json(), encoding="utf-8")
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = cells(text)
    assert ["FT", "3", "96", "28 %", "22 – 35 %", "–", "28 %, 27 %", "28 %", "–, –"] in rows
    assert next(row for row in rows if row[:2] == ["DPO", "3"])[-1] == "41 %, 34 – 48 % (52 %)"
    assert "Judge gone said nothing: no key" in text
    assert "| 51.5 % | 41 %, 34 – 48 % (52 %) |" in experiment_markdown(made_result())
    assert "- judge gone: no key" in experiment_markdown(made_result())
    assert ["DPO", "+0.113", "+0.071 to +0.152", "0.004"] in rows
    assert ["BRIO", "-0.021", "-0.060 to +0.020", "0.310"] in rows
    assert ["FT", "12.5", "1,200", "90,000", "4,000", "0.4200"] in rows
    assert ["BRIO", "12.5", "8", "unknown", "unknown", "unknown"] in rows
    assert ["SD", "0.0", "0", "–", "–", "none"] in rows
    assert "SD, seed 1 failed: MemoryError: no room" in text
    assert "WTR is the win-tie rate against teacher as the paper defines it" in text
    assert "All calls, given up ones included: 0.4200 (calls of unknown cost: 8), up to 0.5000 more" in text
    assert "All calls: 1208, cost 0.4200 (calls of unknown cost: 8), up to 0.5000 more" in experiment_markdown(
        made_result()
    )
    assert text.count("<svg") == 2
    assert text.count('class="other"') == 2
    assert "<script" not in text
    assert "style=" not in text


def test_the_axis_of_differences_holds_every_interval(tmp_path: Path) -> None:
    axis = around_zero([-0.06, 0.152])
    assert [label for _, label, _ in axis.ticks] == ["-0.2", "-0.1", "0", "+0.1", "+0.2"]
    assert [axis.share(value) for value in (-0.2, 0.0, 0.1, 9.0)] == [0.0, 0.5, 0.75, 1.0]
    assert around_zero([]).reach == 1.0


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_names_stay_text_in_an_experiment(payload: str, tmp_path: Path) -> None:
    made = made_result()
    rows = tuple(
        r.model_copy(update={"variant": payload, "failed": {1: payload}, "judges": {payload: r.judges["outside"]}})
        for r in made.rows
    )
    names = dict.fromkeys(("name", "baseline", "opponent", "split"), payload)
    hostile_result = made.model_copy(update={"rows": rows, "silent": {payload: payload}, **names})
    write_experiment(hostile_result, tmp_path / "hostile.html")
    write_experiment(made, tmp_path / "plain.html")
    hostile, plain = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("hostile", "plain"))
    tags = [Counter(re.findall(r"<[a-zA-Z/!][^\s>]*", text)) for text in (hostile, plain)]
    tags[0]["<p"] -= 3  # every row has failed here
    tags[0]["</p"] -= 3
    assert tags[0] == tags[1]


def test_a_page_cannot_be_made_of_another_versions_numbers(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"name": 1}', encoding="utf-8")
    with pytest.raises(RunError, match="another version"):
        report_experiment(tmp_path)


def test_a_page_is_not_made_of_numbers_that_were_changed(tmp_path: Path) -> None:
    write_sealed(tmp_path / "result.json", made_result().model_dump(mode="json"))
    whole = (tmp_path / "result.json").read_text(encoding="utf-8")
    report_experiment(tmp_path)
    for damaged in (whole.replace("0.41", "0.61", 1), whole[:-9], "", "[]"):
        assert damaged != whole
        (tmp_path / "result.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(DamagedError, match=r"result\.json cannot be read.*Run the experiment again"):
            report_experiment(tmp_path)


def test_a_grid_of_failures_is_still_a_table(tmp_path: Path) -> None:
    experiment = Experiment.model_validate(grid())
    keys = [(name, seed) for name in experiment.variants for seed in experiment.seeds]
    result = tabulate(experiment, dict.fromkeys(keys, "no disk"), dict.fromkeys(keys, 0.0))
    assert experiment_markdown(result).count("no disk") == 6
    assert all(row.rate is None for row in result.rows)
    write_experiment(result, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("no disk") == 6


def test_a_terminal_gets_a_block_for_each_variant_in_eighty_columns() -> None:
    made = made_result()
    aside = made.rows[2].model_copy(update={"unfit": "the judge turns with the order"})
    lines = "\n".join(grid_lines(made.model_copy(update={"rows": (*made.rows[:2], aside, made.rows[3])}))).splitlines()
    assert max(map(len, lines)) <= 80
    for line in (
        "  WTR 46 %, over inputs 39 – 53 %, paper 51.5 %",
        "  score minus FT's +0.113 (+0.071 to +0.152), p 0.004",
        "  WTR by outside 41 %, 34 – 48 %, paper 52 %",
        "Failed: SD, seed 1: MemoryError: no room",
        "Judge gone said nothing: no key",
    ):
        assert line in lines, line
    assert any(line.startswith("Set aside, part of no verdict (BRIO, WTR 31 % (24 – 38 %))") for line in lines)
    assert "  WTR 31 %, over inputs 24 – 38 %" not in lines
