"""Commands that use or take away a trained student: ``write`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quipwright.core.errors import DataError, RecipeError


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(write)
    app.command()(export)


def write(
    sentence: Annotated[str | None, typer.Argument(help="A plain sentence.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=50, help="How many paraphrases.")] = 1,
    best_of: Annotated[int, typer.Option(min=0, max=100, help="Draw this many and let the critic choose.")] = 0,
    run: Annotated[
        str | None, typer.Option(help="A run, an export folder or a hub id; the shipped student if left out.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="Which student of the run (default: the last).")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="A file of sentences: lines, .jsonl or .csv.")] = None,
    target: Annotated[Path | None, typer.Option("--output", help="Where to write: lines, .jsonl or .csv.")] = None,
    column: Annotated[str | None, typer.Option(help="The column or field of the sentences.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
) -> None:
    """Paraphrase SENTENCE, or every row of a file, in the way the student was taught."""
    example = 'For example: quipwright write "I am late."'
    if (sentence is None) == (source is None):
        raise DataError("write takes a sentence or --input FILE, one of them.", example)
    if sentence is not None and not any(character.isalpha() for character in sentence):
        raise DataError(f"There is no sentence in {sentence!r}.", example)
    if source is not None and not source.exists():
        raise DataError(f"Input {source} does not exist.", "Check the path.")
    from quipwright.serving.batch_files import write_file
    from quipwright.serving.writer import SHIPPED, Writer

    writer = Writer.load(run or SHIPPED, student)
    writer.seed = seed
    if sentence is not None:
        print("\n".join(writer.write(sentence, n=n, best_of=best_of)))
    elif source is not None:
        done, failed = write_file(writer, source, target, column, n, best_of)
        from quipwright.core.progress import console

        console.print(f"{done} sentences written" + (f", {failed} left out with their reason" if failed else "") + ".")


def export(
    run: Annotated[str, typer.Argument(help="A finished run folder.")],
    target: Annotated[Path, typer.Argument(help="A new folder for the student.")],
    student: Annotated[str | None, typer.Option(help="Which student (default: the last trained).")] = None,
    form: Annotated[str, typer.Option("--to", help="adapter (small), or hf (merged weights any tool loads).")] = "hf",
) -> None:
    """Take a trained student out of RUN, with a model card."""
    if form not in ("adapter", "hf"):
        raise RecipeError(f"--to got {form!r}.", "Use adapter or hf.")
    from quipwright.serving.export import export as run_export

    print(run_export(Path(run), target, student, "adapter" if form == "adapter" else "hf"))
