"""What a card says of where a student comes from: read from its run, or from the card of the export that it was in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from quipwright.data.examples import HUB
from quipwright.data.run_summary import RunSummary, read_run
from quipwright.serving.export.figures import measured
from quipwright.serving.writer import Writer, is_run, run_and_student
from quipwright.students.weights import EMBEDDED

EMBEDDED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_PRIVATE = ("base_url", "record", "cache")
"""Settings that say where something lies on the machine or in the network that trained the student."""


@dataclass(frozen=True)
class Origin:
    """What is known of a student. ``base``: the hub id of the weights it started from; ``datasets``: hub ids of its
    literals; ``measured`` and ``training``: the text of those sections."""

    title: str
    made: str
    measured: str
    training: str
    base: str | None
    datasets: tuple[str, ...] = ()


def origin_of(reference: str, name: str | None, writer: Writer) -> Origin:
    """The origin of student ``name`` of the run or export ``reference``, which ``writer`` has open."""
    folder, named = run_and_student(reference)
    if is_run(folder):
        summary = read_run(folder)
        return _of_run(summary, name or named or list(summary.checkpoints)[-1])
    card = writer.folder / "README.md" if writer.folder is not None else None
    text = card.read_text(encoding="utf-8") if card is not None and card.exists() else ""
    return of_card(text, writer.name, base_model(writer.student.settings.weights))


def of_card(text: str, name: str, base: str | None) -> Origin:
    """The origin that the card ``text`` tells; ``name`` and ``base`` where it does not."""
    front, body = _split(text)
    title = re.search(r"^# (.+)$", body, re.MULTILINE)
    made = re.search(r"^# .+\n\n(.*?)\n\nPrompt", body, re.MULTILINE | re.DOTALL)
    data = front.get("datasets") or ()
    return Origin(
        title[1] if title else name,
        made[1] if made else "Where this student comes from is not recorded.",
        _section(body, "Measured") or "No figures came with it.",
        _section(body, "Training") or "Its recipe did not come with it.",
        base or front.get("base_model"),
        (data,) if isinstance(data, str) else tuple(data),
    )


def base_model(weights: str) -> str | None:
    """The hub id of the weights that a student started from; ``None`` for a folder of the machine that trained it."""
    if weights == EMBEDDED:
        return EMBEDDED_ID
    is_hub_id = weights.count("/") == 1 and not weights.startswith((".", "/", "~")) and not Path(weights).exists()
    return weights if is_hub_id else None


def _of_run(summary: RunSummary, name: str) -> Origin:
    checkpoint, data = summary.checkpoints[name], summary.recipe.get("data") or {}
    base = base_model(summary.recipe["student"]["weights"])
    made = (
        f"Quipwright {summary.versions['quipwright']} made it from {base or 'weights that are not on the Hub'} for the task\n"
        f"`{summary.task.get('name', 'unnamed')}`: objective {checkpoint.objective}, round {checkpoint.round}, weights\n"
        f"{checkpoint.weights_hash}, data {checkpoint.data_hash}, settings {checkpoint.settings_hash}."
    )
    sources = (str(data.get(key) or "") for key in ("path", "ood_path"))
    hub_ids = tuple(s.removeprefix(HUB).partition("@")[0] for s in sources if s.startswith(HUB))
    return Origin(f"{summary.name}: student `{name}`", made, measured(summary, name), _training(summary), base, hub_ids)


def _training(summary: RunSummary) -> str:
    """The settings of the recipe that are not the defaults, without places of the machine that ran it."""
    changed = shareable(_differing(summary.recipe, summary.defaults))
    shown = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).rstrip()
    return f"Settings of the recipe that are not the defaults:\n\n```yaml\n{shown}\n```"


def _differing(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tree.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if inner := _differing(value, default):
                result[key] = inner
        elif value != default:
            result[key] = value
    return result


def shareable(value: Any) -> Any:
    """``value`` with every path reduced to its last part, and without private settings."""
    if isinstance(value, Mapping):
        return {key: shareable(inner) for key, inner in value.items() if key not in _PRIVATE and inner is not None}
    if isinstance(value, list | tuple):
        return [shareable(inner) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "./", "../", "~")):
        return Path(value).name
    return value


def _split(text: str) -> tuple[dict[str, Any], str]:
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    front = yaml.safe_load(match[1]) if match else {}
    return (front if isinstance(front, dict) else {}), match[2] if match else text


def _section(body: str, name: str) -> str:
    match = re.search(rf"^## {name}\n\n(.*?)(?=\n## |\Z)", body, re.MULTILINE | re.DOTALL)
    return match[1].rstrip() if match else ""
