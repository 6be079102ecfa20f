"""Commands that use or take away a trained student: ``write`` and ``export``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from quipwright.cli.output import JsonFile, check_json, results
from quipwright.core.errors import DataError, RecipeError
from quipwright.core.log import loading


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(write)
    app.command()(export)


def write(
    sentence: Annotated[str | None, typer.Argument(help="A plain sentence.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=50, help="How many paraphrases.")] = 1,
    best_of: Annotated[int, typer.Option(min=0, max=100, help="Draw this many and let the critic choose.")] = 0,
    style: Annotated[str, typer.Option(help="One of the task's styles (default: the task's own choice).")] = "",
    run: Annotated[
        str | None, typer.Option(help="A run, an export folder or a hub id; the shipped student if left out.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="Which student of the run (default: the last).")] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", help="Sentences: lines, .jsonl, .csv, .tsv, .parquet, or - for standard input."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--output", help="Where to write, in such a form too; - is standard output.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column or field of the sentences.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="The form of standard input and output: lines, jsonl, csv or tsv.")
    ] = "lines",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    allow_sensitive: Annotated[
        bool, typer.Option("--allow-sensitive", help="Write on grief, self-harm, abuse and the like too.")
    ] = False,
    json: JsonFile = None,
) -> None:
    """Paraphrase SENTENCE, or every row of a file, in the way the student was taught.

    A sentence that must not be joked about comes back as it is.
    """
    example = 'For example: quipwright write "I am late."'
    if (sentence is None) == (source is None):
        raise DataError("write takes a sentence or --input FILE, one of them.", example)
    if sentence is not None:  # letters that the locale's encoding lacks come as half surrogates
        sentence = os.fsencode(sentence).decode("utf-8", "replace")
    if sentence is not None and not any(character.isalpha() for character in sentence):
        raise DataError(f"There is no sentence in {sentence!r}.", example)
    if form not in ("lines", "jsonl", "csv", "tsv"):
        raise RecipeError(f"--format got {form!r}.", "Use lines, jsonl, csv or tsv.")
    if source not in (None, "-") and not Path(str(source)).exists():
        raise DataError(f"Input {source} does not exist.", "Check the path.")
    check_json(json)
    loading("the student")
    from quipwright.data.care.judgment import DECLINED, REASON, help_for
    from quipwright.serving.batch_files import Job, write_file
    from quipwright.serving.writer import SHIPPED, Declined, Writer

    writer = Writer.load(run or SHIPPED, student, settled=True)
    writer.seed, writer.allow_sensitive = seed, allow_sensitive
    if source is None:
        texts = writer.write(str(sentence), n=n, best_of=best_of, style=style)
        found = {"literal": sentence, "student": writer.name, "texts": texts}
        if isinstance(texts[0], Declined):
            found |= {"declined": REASON, "kind": texts[0].kind}
        results(texts, found, json)
        if isinstance(texts[0], Declined):
            print("\n".join([DECLINED, *help_for(texts[0].kind)]), file=sys.stderr)
        return
    from quipwright.core.progress import console

    with _opened(source, form) as path:
        place = None if target in (None, "-") else Path(str(target))
        done, failed, declined = write_file(writer, path, place, Job(column, n, best_of, style), form)
    if failed and not done:
        raise DataError(
            f"No row of {source} could be used; {failed} left out with their reason.",
            "Read the reasons: in the output, or above.",
        )
    left_out = f", {failed} left out with their reason" if failed else ""
    as_they_came = f", {declined} of them as they came: {DECLINED}" if declined else ""
    console.print(f"{done} rows written{left_out}{as_they_came}.")


@contextmanager
def _opened(source: str, form: str) -> Iterator[Path]:
    """The input as a file: standard input is read to its end first."""
    if source != "-":
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"stdin.{'txt' if form == 'lines' else form}"
        path.write_bytes(sys.stdin.buffer.read())
        yield path


def export(
    source: Annotated[str, typer.Argument(metavar="RUN", help="shipped, a run, an export folder or a hub id.")],
    target: Annotated[Path, typer.Argument(help="A new folder for the student.")],
    student: Annotated[str | None, typer.Option(help="Which student (default: the last trained).")] = None,
    form: Annotated[
        str,
        typer.Option("--to", help="hf (merged weights), peft (adapter), gguf (llama.cpp) or adapter (for recipes)."),
    ] = "hf",
) -> None:
    """Take a trained student out of RUN for other tools, with a model card."""
    loading("the student")
    print(run_export(source, target, student, form))


def run_export(source: str, target: Path, student: str | None, form: str, where: str = ".") -> Path:
    """Export; see :func:`quipwright.serving.export.folder.export`. Raises :class:`RecipeError` for an unknown form."""
    from quipwright.serving.export.card import FORMS
    from quipwright.serving.export.folder import export as write_export

    chosen = next((known for known in FORMS if known == form), None)
    if chosen is None:
        raise RecipeError(f"--to got {form!r}.", f"Use {', '.join(FORMS[:-1])} or {FORMS[-1]}.")
    return write_export(source, target, student, chosen, where)
