"""Several critics against the same people -> one table in the layout of Ravi et al. 2024, Table 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from quipwright.core.config_files import validate
from quipwright.core.errors import QuipwrightError, RecipeError
from quipwright.core.paths import resolve
from quipwright.core.settings import Settings
from quipwright.core.storage.files import write_atomic
from quipwright.critics.config import CriticConfig
from quipwright.critics.loading import Chosen, opened_settings
from quipwright.data.task import DEFAULT_TASK, Task
from quipwright.evaluation.audit import AuditReport, agreement_columns, audit_critic
from quipwright.evaluation.human.labelled_pair import LabelledPair
from quipwright.evaluation.human.labels import read_labels, sampled_pairs
from quipwright.evaluation.report.markdown import critics_markdown

BIASES = ("PB", "LB")


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
    task: str = DEFAULT_TASK
    labels: str
    split: str | None = None
    limit: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    critics: dict[str, CriticConfig] = Field(min_length=1)
    paper: dict[str, dict[str, float]] = Field(default_factory=dict)
    scales: dict[str, CriticScale] = Field(default_factory=dict)

    def at(self, scale: str | None) -> CriticTable:
        """The table at ``scale`` (``None``: as written). Raises :class:`RecipeError` for an unknown one."""
        if scale is None:
            return self
        if scale not in self.scales:
            raise RecipeError(f"{self.name} has no scale {scale!r}.", f"It has: {', '.join(self.scales) or 'none'}.")
        changes = {field: value for field, value in self.scales[scale] if value is not None}
        return self.model_copy(update={**changes, "name": f"{self.name}-{scale}"})


def load_critic_table(tree: dict[str, Any], path: Path, scale: str | None = None) -> CriticTable:
    """The table of the YAML ``tree`` of ``path`` at ``scale``. Raises :class:`RecipeError` for an unknown column."""
    tree.setdefault("name", path.stem)
    table = validate(CriticTable, tree, f"Experiment {path}")
    columns = (*agreement_columns(Task.load(table.task, path.parent)), *BIASES)
    unknown = [c for figures in table.paper.values() for c in figures if c not in columns]
    if unknown:
        raise RecipeError(
            f"Experiment {path} has paper figures of {unknown[0]!r}, which is no column.",
            f"Columns are {', '.join(columns)}.",
        )
    return table.at(scale)


def run_critic_table(
    chosen: CriticTable, base: Path, folder: Path, told: Callable[[str], None] = lambda line: None
) -> dict[str, AuditReport | str]:
    """Measure every critic and write ``table.md`` and ``result.json`` to ``folder``.

    Answers of language models are kept there, so that going on after an interruption asks nothing twice. A critic that
    fails keeps its reason in the table and stops no other.
    """
    labels = resolve(chosen.labels, "Labels", base)
    task = Task.load(chosen.task, base)
    pairs = sampled_pairs(read_labels(labels, chosen.split, task), chosen.limit, chosen.seed)
    found: dict[str, AuditReport | str] = {}
    for name, settings in chosen.critics.items():
        told(name)
        found[name] = _measured(settings, base, folder, task, chosen.task, pairs)
    source = chosen.labels + (f", split {chosen.split}" if chosen.split else "")
    told_of = {name: one if isinstance(one, str) else one.to_json() for name, one in found.items()}
    write_atomic(folder / "result.json", json.dumps(told_of, indent=1, ensure_ascii=False))
    write_atomic(
        folder / "table.md", critics_markdown(chosen.name, source, found, agreement_columns(task), chosen.paper)
    )
    return found


def _measured(
    settings: CriticConfig, base: Path, folder: Path, task: Task, reference: str, pairs: list[LabelledPair]
) -> AuditReport | str:
    try:
        with opened_settings([(Chosen(critic=settings), base)], folder, reference) as (loaded,):
            return audit_critic(loaded.critic, pairs, questions=list(task.questions))
    except QuipwrightError as error:
        return str(error)
