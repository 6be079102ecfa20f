"""Run folder -> one self-contained HTML page. It computes nothing new, runs no script and asks nobody anything."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from quipwright.core.format import (
    counts,
    number,
    p_value,
    percent,
    percent_range,
    signed,
    signed_range,
)
from quipwright.core.storage.files import write_atomic
from quipwright.core.storage.sealed_files import read_sealed
from quipwright.data.run_summary import read_run
from quipwright.evaluation.corrected import with_corrections
from quipwright.evaluation.report import across, evidence, figures, opening, plots, tables, terminal, view, words
from quipwright.evaluation.report.evidence import Evidence, read_evidence

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary
    from quipwright.evaluation.experiment_table import Result

_AGAIN = "Run the experiment again; what is finished is not made twice."
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def environment() -> Environment:
    """Templates with escaping on for every file name: model text is hostile."""
    env = Environment(
        loader=PackageLoader("quipwright.evaluation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for formatter in (counts, number, p_value, percent, percent_range, signed, signed_range):
        env.filters[formatter.__name__] = formatter
    env.filters["judge_name"] = words.judge
    env.globals.update(style=STYLE, policy=POLICY, view=view, evidence=evidence, figures=figures, plots=plots)
    env.globals.update(opening=opening, tables=tables, words=words)
    env.globals.update(cost_line=terminal.cost_line, decision_line=terminal.decision_line, alt_lines=terminal.alt_lines)
    return env


def write_report(summary: RunSummary, path: Path, beside: Evidence | None = None) -> None:
    """Render ``summary`` to ``path``, with people's votes and critics' audits where there are any."""
    page = environment().get_template("page.html.j2")
    _write(path, page.render(s=summary, seconds=_total(summary), **_beside([("", beside or Evidence())])))


def write_comparison(
    summaries: Sequence[tuple[str, RunSummary]], path: Path, beside: Sequence[tuple[str, Evidence]] = ()
) -> None:
    """Render several runs side by side to ``path``, with what is ``beside`` them; names tell them apart."""
    settings = view.diff([view.flat(s.recipe) for _, s in summaries], skip=("name",))
    page = environment().get_template("runs.html.j2")
    shown = {"differences": across.differences(summaries), "examples": across.examples(summaries), **_beside(beside)}
    named = {view.grades(s) for _, s in summaries}
    shown["grades"] = named.pop() if len(named) == 1 else ("worst grade", "middle grade", "best grade")
    _write(path, page.render(runs=summaries, plot=plots.scores_of_runs(summaries), settings=settings, **shown))


def write_experiment(result: Result, path: Path) -> None:
    """Render an experiment's table, plots and costs to ``path``."""
    _write(path, environment().get_template("experiment.html.j2").render(e=result))


def report_experiment(folder: Path, path: Path | None = None) -> Path:
    """Render the page of a finished experiment anew from its ``result.json``."""
    from pydantic import ValidationError

    from quipwright.core.errors import RunError
    from quipwright.evaluation.experiment_table import Result

    target = path or folder / "report.html"
    try:
        result = Result.model_validate(read_sealed(folder / "result.json", _AGAIN))
    except ValidationError as error:
        raise RunError(
            f"{folder / 'result.json'} is of another version: {error.error_count()} fields do not fit.",
            _AGAIN,
        ) from None
    write_experiment(result, target)
    return target


def report_run(folder: Path, path: Path | None = None) -> Path:
    """Render a finished run's page anew from what its folder holds, ratings and ``audit.json`` included."""
    target = path or folder / "report.html"
    summary, beside = read_run(folder), read_evidence(folder)
    pairwise = with_corrections(summary.pairwise, beside.audits)
    write_report(summary.model_copy(update={"pairwise": pairwise}), target, beside)
    return target


def _beside(found: Sequence[tuple[str, Evidence]]) -> dict[str, Any]:
    """Everything of each run's evidence behind the run's name."""
    return {
        "people": [(name, rate) for name, own in found for rate in own.people],
        "checks": [(name, judge.removeprefix("human:"), *n) for name, own in found for judge, n in own.checks.items()],
        "audits": [(name, report) for name, own in found for report in own.audits],
    }


def _write(path: Path, page: str) -> None:
    write_atomic(path, page)
    os.chmod(path, 0o644)


def _total(summary: RunSummary) -> float:
    return sum(stage.seconds for stage in summary.stages)
