"""The command ``push``: a student, a critic or a folder of data to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from quipwright.cli.write import run_export


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(push)


def push(
    source: Annotated[
        str, typer.Argument(metavar="RUN", help="shipped, a run, an export; or the folder of a critic or of data.")
    ],
    repo: Annotated[str, typer.Option(help="Where to: OWNER/NAME.")],
    student: Annotated[str | None, typer.Option(help="Which student of the run (default: the last).")] = None,
    form: Annotated[str, typer.Option("--to", help="The student's form: hf, peft, gguf or adapter.")] = "hf",
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; show what would be sent.")] = False,
) -> None:
    """Send a student of RUN, or a folder, to the Hugging Face Hub with its card. Without a token nothing is sent."""
    from quipwright.serving.export.push import check_repo, kind_of_folder
    from quipwright.serving.export.push import push as send

    check_repo(repo)
    with tempfile.TemporaryDirectory() as place:
        folder, kind = Path(source), kind_of_folder(Path(source))
        if kind is None:
            folder, kind = run_export(source, Path(place) / "export", student, form, repo), "model"
        pushed = send(folder, repo, kind, private=private, dry_run=dry_run)
    for name, size in pushed.files:
        print(f"{size:>12,}  {name}")
    if pushed.address is None:
        print(f"Nothing was sent to {repo}: " + ("a dry run." if dry_run else "there is no token (HF_TOKEN)."))
    else:
        print(pushed.address)
