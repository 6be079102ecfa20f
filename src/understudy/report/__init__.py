"""Run folder -> one self-contained HTML page. It computes nothing new and runs no script."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from understudy.store import write_atomic

if TYPE_CHECKING:
    from understudy.summary import Summary


def environment() -> Environment:
    """Templates with escaping on for every file name: model text is hostile."""
    env = Environment(
        loader=PackageLoader("understudy", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["percent"] = percent
    env.filters["number"] = number
    return env


def write_report(summary: Summary, path: Path) -> None:
    """Render ``summary`` to ``path``."""
    write_atomic(path, environment().get_template("page.html.j2").render(s=summary, seconds=_total(summary)))
    os.chmod(path, 0o644)


def percent(value: float | None, digits: int = 0) -> str:
    """0.614 -> "61 %"; an unknown value is a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: Any, digits: int = 2) -> str:
    """A float with so many digits; an unknown value is a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def _total(summary: Summary) -> float:
    return sum(stage["seconds"] for stage in summary.stages)
