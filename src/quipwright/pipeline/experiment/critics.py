"""Several critics against the same people -> one table in the layout of Ravi et al. 2024, Table 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from quipwright.core.config_files import validate
from quipwright.core.errors import QuipwrightError, RecipeError
from quipwright.core.paths import resolve
from quipwright.core.settings import Settings
from quipwright.core.storage.files import write_atomic
from quipwright.critics.config import CriticConfig
from quipwright.critics.loading import Chosen, opened_settings
from quipwright.evaluation.audit import Passport, audit_critic, hundred
from quipwright.evaluation.human.labels import LabelledPair, read_labels, sampled_pairs

COLUMNS = ("Ag-H", "Ag-C", "Ag", "PB", "LB")
Found = Mapping[str, Passport | str]
"""What was found of each critic by its row's name, or in one line why nothing was."""


class CriticScale(Settings):
    """Another size of the same table: what is named here replaces the table's own."""

    labels: str | None = None
    split: str | None = None
    limit: int | None = Field(None, ge=1)
    critics: dict[str, CriticConfig] | None = None


class CriticTable(Settings):
    """``critics`` by the name of their row (settings as in a recipe, or of an audit), measured on the ``labels``.

    ``labels``: a file as ``quipwright audit`` reads it, relative to the table's; only rows of ``split``, at most
    ``limit`` of them drawn by ``seed``. ``paper``: figures to print beside ours, by row and column.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: str = "humour"
    labels: str
    split: str | None = None
    limit: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    critics: dict[str, CriticConfig] = Field(min_length=1)
    paper: dict[str, dict[str, float]] = Field(default_factory=dict)
    scales: dict[str, CriticScale] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_exist(self) -> CriticTable:
        unknown = [c for figures in self.paper.values() for c in figures if c not in COLUMNS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no column; columns are {', '.join(COLUMNS)}")
        return self

    def at(self, scale: str | None) -> CriticTable:
        """The table at ``scale`` (``None``: as written). Raises :class:`RecipeError` for an unknown one."""
        if scale is None:
            return self
        if scale not in self.scales:
            raise RecipeError(f"{self.name} has no scale {scale!r}.", f"It has: {', '.join(self.scales) or 'none'}.")
        how = {field: value for field, value in self.scales[scale] if value is not None}
        return self.model_copy(update={**how, "name": f"{self.name}-{scale}"})


def load_critic_table(tree: dict[str, Any], path: Path, scale: str | None = None) -> CriticTable:
    """The table of the YAML ``tree`` of ``path`` at ``scale``."""
    tree.setdefault("name", path.stem)
    return validate(CriticTable, tree, f"Experiment {path}").at(scale)


def run_critic_table(
    chosen: CriticTable, base: Path, folder: Path, told: Callable[[str], None] = lambda line: None
) -> dict[str, Passport | str]:
    """Measure every critic and write ``table.md`` and ``result.json`` to ``folder``.

    Answers of language models are kept there, so that going on after an interruption asks nothing twice. A critic that
    fails keeps its reason in the table and stops no other.
    """
    labels = resolve(chosen.labels, "Labels", base)
    pairs = sampled_pairs(read_labels(labels, chosen.split), chosen.limit, chosen.seed)
    found: dict[str, Passport | str] = {}
    for name, settings in chosen.critics.items():
        told(name)
        found[name] = _measured(settings, base, folder, chosen.task, pairs)
    told_of = {name: one if isinstance(one, str) else one.to_json() for name, one in found.items()}
    write_atomic(folder / "result.json", json.dumps(told_of, indent=1, ensure_ascii=False))
    write_atomic(folder / "table.md", critics_markdown(chosen, found))
    return found


def _measured(settings: CriticConfig, base: Path, folder: Path, task: str, pairs: list[LabelledPair]) -> Passport | str:
    try:
        with opened_settings([(Chosen(critic=settings), base)], folder, task) as (loaded,):
            return audit_critic(loaded.critic, pairs)
    except QuipwrightError as error:
        return str(error)


def critics_markdown(chosen: CriticTable, found: Found) -> str:
    """The table as Markdown, x 100 with 95 % intervals, the paper's figures in brackets, and a line for each failure."""
    pairs = max((one.pairs for one in found.values() if not isinstance(one, str)), default=0)
    lines = [
        f"# {chosen.name}",
        "",
        f"{pairs} pairs of {chosen.labels}" + (f", split {chosen.split}" if chosen.split else "") + ". Agreement per "
        "judgment on humour (Ag-H), consistency (Ag-C) and all in all (Ag), verdicts that change with the order (PB), "
        "people took the shorter and the critic the longer (LB): x 100 [95 %] (paper).",
        "",
        f"| critic | {' | '.join(COLUMNS)} | unread |",
        "| --- " * (len(COLUMNS) + 2) + "|",
    ]
    for name, one in found.items():
        if not isinstance(one, str):
            cells = [
                cell + (f" ({paper:g})" if (paper := chosen.paper.get(name, {}).get(column)) is not None else "")
                for column, cell in _cells(one).items()
            ]
            lines.append(f"| {' | '.join([name, *cells, str(one.audits[one.main].unparsed)])} |")
    failures = [f"- {name}: {why}" for name, why in found.items() if isinstance(why, str)]
    return "\n".join([*lines, *(["", "Failed:", "", *failures] if failures else []), ""])


def _cells(passport: Passport) -> dict[str, str]:
    asked = {"Ag-H": "humour", "Ag-C": "consistency", "Ag": "overall"}
    audits, main = passport.audits, passport.audits[passport.main]
    agreed = {c: hundred(audits[q].agreement.mean) if q in audits else "–" for c, q in asked.items()}
    return {**agreed, "PB": hundred(main.position.changed), "LB": hundred(main.length.paper.mean)}
