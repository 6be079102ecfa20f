"""Commands of the classifier of sensitive sentences: ``train-care`` and ``measure-care``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quipwright.core.errors import RunError


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("train-care")(train_care)
    app.command("measure-care")(measure_care)


def train_care(
    output: Annotated[Path, typer.Option(help="A new folder for the trained classifier.")],
    settings: Annotated[Path | None, typer.Option(help="A YAML file of training settings.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: a.b=c.")] = None,
) -> None:
    """Train the classifier of sentences that must not be joked about."""
    if output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty.", "Name a new folder.")
    from quipwright.core.config_files import override, read_yaml, validate
    from quipwright.data.care.training import CareTraining
    from quipwright.data.care.training import train_care as train

    tree = override(read_yaml(settings, "Care settings") if settings else {}, assign or ())
    classifier = train(validate(CareTraining, tree, "Care settings"), settings.parent if settings else None)
    classifier.save(output)
    print(f"threshold {classifier.card.threshold:g}")
    for name, value in classifier.card.figures.items():
        print(f"{name} {value:g}")


def measure_care(
    sentences: Annotated[list[str], typer.Argument(help="Files of labelled sentences; their heldout rows are used.")],
    literals: Annotated[
        list[str] | None,
        typer.Option(help="Files whose literals, but for their train split, are harmless; repeatable."),
    ] = None,
    folder: Annotated[str, typer.Option(help="A trained classifier, or none: the word list alone.")] = "bundled:care",
    mistakes: Annotated[bool, typer.Option("--mistakes", help="Show every sentence that was read wrong.")] = False,
) -> None:
    """Recall and false alarms on held-out sentences, with their 95 % intervals."""
    from quipwright.core.paths import resolve
    from quipwright.data.care.classifier import CareClassifier
    from quipwright.data.care.judgment import Care, word_list
    from quipwright.data.care.measure import measure
    from quipwright.data.care.rows import other_literals, read_care_rows

    classifier = None if folder == "none" else CareClassifier.load(resolve(folder, "Classifier"))
    rows = [row for reference in sentences for row in read_care_rows(resolve(reference, "Sentences"))]
    more = [row for reference in literals or () for row in other_literals(resolve(reference, "Literals"), rows)]
    held = [row for row in rows if row.split == "heldout"] + more
    figures = measure(Care(classifier, word_list()), held)
    print("\n".join(figures.lines()))
    if mistakes:
        for row, kind in figures.mistakes:
            print(f"{row.label}, read as {kind or 'harmless'}: {row.text}")
