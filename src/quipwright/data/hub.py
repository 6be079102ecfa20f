"""Literals from hub datasets: pure cleaners for EmpatheticDialogues and SAMSum, and the one place that asks the hub.

Both yield clean single sentences of 5 to 30 words, as Ravi et al. (2024, sec. 4) take them from conversations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.text import normalise, word_count
from quipwright.core.text_files import lines

HUB = "hub:"
LEAST_WORDS, MOST_WORDS = 5, 30
_SPLITS = {"test": "test", "validation": "valid", "valid": "valid", "train": "train"}
_INNER_END = re.compile(r"""[.!?…]["')\]]*\s+\S""")
_OUTSIDE = re.compile(r"<[^>]*>|https?://|www\.|\S+@\S+\.\S+|[\U0001F000-\U0001FAFF\u2600-\u27BF]")
_SMILEY = re.compile(r"(?:^|\s)[:;=8][-'o^]?[)(\]\[DPp3/\\|*<>]+(?=\s|$)|(?:^|\s)(?:xD|XD|<3|\^\^)(?=\s|$)")


def single_sentence(text: str) -> str | None:
    """``text`` normalised, or ``None`` where it is not one sentence of 5 to 30 words with letters and without markup."""
    text = normalise(text)
    if _OUTSIDE.search(text) or not LEAST_WORDS <= word_count(text) <= MOST_WORDS or _INNER_END.search(text):
        return None
    return text if (text[0].isalnum() or text[0] in "\"'") and any(map(str.isalpha, text)) else None


def empathetic_turn(row: Mapping[str, Any]) -> str | None:
    """The literal of a row of EmpatheticDialogues (``utterance``, ``utterance_idx`` from 1), or ``None``.

    Odd turns are the speaker's, who tells what happened; the listener's are replies. ``_comma_`` stands for a comma.
    Raises :class:`DataError` where ``utterance_idx`` is no number.
    """
    try:
        replies = int(row["utterance_idx"]) % 2 == 0
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"utterance_idx is {row['utterance_idx']!r}, not a number.", "Name data.column.") from None
    if replies or not isinstance(row["utterance"], str):
        return None
    return single_sentence(re.sub(r"\s*_comma_\s*", ", ", row["utterance"]).replace(" ,", ","))


def samsum_turns(row: Mapping[str, Any]) -> Iterator[str]:
    """The literals of a row of SAMSum: its ``dialogue`` has one ``Name: message`` a line; names and smileys go."""
    for _, line in lines(str(row["dialogue"] or "")):
        name, colon, message = line.partition(":")
        if colon and len(name) <= 40 and (text := single_sentence(_SMILEY.sub(" ", message))):
            yield text


def literals(row: Mapping[str, Any], column: str | None) -> Iterator[str]:
    """The literals of one hub row, by what columns it has; none where its text is null or no sentence we take.

    Raises :class:`DataError` where it has no column we know.
    """
    name = column if column is not None and column in row else None
    if name is None and "utterance" in row and "utterance_idx" in row:
        if text := empathetic_turn(row):
            yield text
        return
    if name is None and "dialogue" in row:
        yield from samsum_turns(row)
        return
    if name is None and column is None:
        name = next((known for known in ("literal", "text") if known in row), None)
    if name is None:
        lacking = f"column {column!r}" if column is not None else "text column"
        raise DataError(f"The data set has no {lacking}; it has {', '.join(row)}.", "Name one with data.column.")
    if isinstance(row[name], str):
        yield row[name]


@dataclass(frozen=True)
class HubRow:
    """One literal of a hub data set; ``dropped`` says why it is left out (``""``: it is used)."""

    text: str
    split: str
    dropped: str = ""


def clean_hub_rows(splits: Mapping[str, Iterable[Mapping[str, Any]]], column: str | None) -> Iterator[HubRow]:
    """The literals of a whole data set. Those that cannot be used are marked: nobody can mend a data set there.

    What stands in two splits is kept for evaluation, because test and validation are read first. Raises
    :class:`DataError` where no split or no column is one we know.
    """
    seen: set[str] = set()
    order = [name for name in _SPLITS if name in splits]
    if not order:
        raise DataError(f"The data set has splits {', '.join(splits)}.", "It needs train, validation or test.")
    for name in order:
        for row in splits[name]:
            texts = list(literals(row, column))
            if not texts:
                yield HubRow("", _SPLITS[name], "no text that is one clean sentence")
            for text in texts:
                yield HubRow(text, _SPLITS[name], _flaw(text, seen))
                seen.add(text.casefold())


def _flaw(text: str, seen: set[str]) -> str:
    if not any(map(str.isalpha, text)):
        return "no letter in it"
    return "repeats another literal" if text.casefold() in seen else ""


def hub_splits(reference: str) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """The splits of ``hub:OWNER/NAME[@REVISION]``. Raises :class:`DataError` in one line when they cannot be had."""
    name, _, revision = reference.removeprefix(HUB).partition("@")
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError("Hub data sets need the package datasets.", "Install it: pip install datasets.") from None
    try:
        splits: Mapping[str, Iterable[Mapping[str, Any]]] = load_dataset(name, revision=revision or None)
    except Exception as error:  # the hub's errors have no common base
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"Data set {name!r} could not be loaded: {reason}.", "Check name and network.") from None
    return splits
