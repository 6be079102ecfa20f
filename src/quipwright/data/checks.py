"""Checks of a run's data that cost nothing, to be made before the first call that is paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from quipwright.core.errors import DataError
from quipwright.core.records import Example, Split
from quipwright.data.examples import SPLITS, DataSettings, place_of


def check_split(examples: Sequence[Example], split: Split, purpose: str) -> None:
    """Raises :class:`DataError` where no example is of ``split``, which ``purpose`` needs ("training")."""
    if any(example.split == split for example in examples):
        return
    counts = [f"{sum(e.split == name for e in examples)} of {name}" for name in SPLITS if name != split]
    raise DataError(
        f"The data has no literal of split {split!r}, which {purpose} needs; it has {', '.join(counts)}.",
        f"Give some rows split {split!r}, leave the split of all rows open, or check data.{split}.",
    )


def check_lengths(
    examples: Sequence[Example],
    count_tokens: Callable[[str], int],
    most_tokens: int,
    settings: DataSettings,
    recipe_dir: Path | None = None,
) -> None:
    """Raises :class:`DataError` naming file and line of the first literal that the student could not read.

    ``count_tokens`` gives the tokens of a literal's prompt; ``most_tokens`` is what the student's context leaves for it.
    """
    for example in examples:
        tokens = count_tokens(example.text)
        if tokens > most_tokens:
            raise DataError(
                f"{place_of(example.text, settings, recipe_dir)} has a literal whose prompt is {tokens} tokens long; the "
                f"student's context leaves {most_tokens}: {example.text[:60]!r}.",
                "Shorten or remove it, or raise student.context.",
            )
