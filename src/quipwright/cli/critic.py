"""Commands of trained critics: ``train-critic`` and ``measure-critic``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quipwright.cli.output import JsonFile, check_json, results
from quipwright.core.errors import RecipeError, RunError
from quipwright.core.log import loading, say
from quipwright.core.paths import check_writable


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("train-critic")(train_critic)
    app.command("measure-critic")(measure_critic)


def train_critic(
    output: Annotated[Path | None, typer.Option(help="Folder for the trained critic.")] = None,
    settings: Annotated[Path | None, typer.Option(help="A YAML file of critic training settings.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c.")] = None,
    run: Annotated[Path | None, typer.Option(help="Learn from the judgments of this run's feedback rounds.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write that run's verdicts to this .jsonl file as well.")] = None,
    json: JsonFile = None,
) -> None:
    """Train a reward model on pairwise verdicts, of a file or a run, and measure it on held-out ones."""
    _check_targets(output, export, run)
    check_json(json)
    loading("libraries")
    from quipwright.core.config_files import override, read_yaml, validate
    from quipwright.core.records import content_hash
    from quipwright.core.storage.seals import seal_export
    from quipwright.critics.from_run import settings_for_run, verdicts_of_run, write_verdicts
    from quipwright.critics.reward_model.training import CriticTraining, train_on
    from quipwright.critics.reward_model.training import train_critic as train_on_file

    tree = override(read_yaml(settings, "Critic settings") if settings else {}, assign or ())
    base = settings.parent if settings else None
    rows = verdicts_of_run(run) if run is not None else []
    if export is not None:
        write_verdicts(rows, export)
        say(f"{len(rows)} verdicts written to {export}.")
    if output is None:
        return
    if run is None:
        critic = train_on_file(validate(CriticTraining, tree, "Critic settings"), base)
    else:
        training = validate(CriticTraining, settings_for_run(run, tree), "Critic settings")
        critic = train_on(rows, training, content_hash([row.model_dump() for row in rows]), base)
    critic.save(output)
    seal_export(output)
    card = critic.card
    lines = [f"agreement {card.agreement:.1%} ({card.low:.1%} to {card.high:.1%}) of {card.n} held-out verdicts"]
    lines += [f"{name} {value:g}" for name, value in card.figures.items()]
    results(lines, card.model_dump(mode="json"), json)


def _check_targets(output: Path | None, export: Path | None, run: Path | None) -> None:
    if output is None and export is None:
        raise RecipeError("train-critic got no folder to write to.", "Name one with --output.")
    if export is not None and run is None:
        raise RecipeError("--export writes the verdicts of a run, but no run is named.", "Name one with --run.")
    for place, option in ((export, "--export"), (output, "--output")):
        if place is not None:
            check_writable(place, option)
    if export is not None and export.exists():
        raise RunError(f"{export} is there already.", "Name a new file.")
    if output is not None and output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty.", "Name a new folder.")


def measure_critic(
    folder: Annotated[str, typer.Argument(help="A trained critic: a folder, or bundled:critic.")] = "bundled:critic",
    verdicts: Annotated[str, typer.Option(help="Verdicts whose heldout split is used.")] = "bundled:verdicts.jsonl",
    output: JsonFile = None,
) -> None:
    """Agreement of a trained critic, and of each of its parts alone, with held-out verdicts."""
    check_json(output)
    loading("the critic")
    from quipwright.core.paths import resolve
    from quipwright.critics.reward_model.critic import RewardModelCritic
    from quipwright.critics.reward_model.figures import component_figures, measure
    from quipwright.data.verdicts import read_verdicts

    critic = RewardModelCritic.load(resolve(folder, "Critic"))
    rows = [row for row in read_verdicts(resolve(verdicts, "Verdicts")) if row.split == "heldout"]
    whole, parts = measure(critic, rows), component_figures(critic, rows)
    lines = [f"{name} {value:g}" for name, value in whole.items()]
    for name, (rate, low, high) in parts.items():
        lines.append(f"{name:<14} alone agrees with {rate:.1%} ({low:.1%} to {high:.1%})")
    results(lines, {"whole": whole, "parts": {name: list(figures) for name, figures in parts.items()}}, output)
