"""Literals from hub datasets: pure cleaners for EmpatheticDialogues and SAMSum, and the one door to the hub.

Both yield clean single sentences of 5 to 30 words, as Ravi et al. (2024, sec. 4) take them from conversations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.text import normalise, word_count

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
    """
    if int(row["utterance_idx"]) % 2 == 0:
        return None
    return single_sentence(re.sub(r"\s*_comma_\s*", ", ", str(row["utterance"])).replace(" ,", ","))


def samsum_turns(row: Mapping[str, Any]) -> Iterator[str]:
    """The literals of a row of SAMSum: its ``dialogue`` has one ``Name: message`` a line; names and smileys go."""
    for line in str(row["dialogue"] or "").splitlines():
        name, colon, message = line.partition(":")
        if colon and len(name) <= 40 and (text := single_sentence(_SMILEY.sub(" ", message))):
            yield text


def literals(row: Mapping[str, Any], column: str | None) -> Iterator[str]:
    """The literals of one hub row, by what columns it has. Raises :class:`DataError` where it has none we know."""
    if column is not None and isinstance(row.get(column), str):
        yield str(row[column])
    elif "utterance" in row and "utterance_idx" in row:
        if text := empathetic_turn(row):
            yield text
    elif "dialogue" in row:
        yield from samsum_turns(row)
    elif isinstance(text := row.get("literal", row.get("text")), str):
        yield text
    else:
        raise DataError(f"The data set has no text column; it has {', '.join(row)}.", "Name one with data.column.")


def cleaned(splits: Mapping[str, Iterable[Mapping[str, Any]]], column: str | None) -> Iterator[tuple[str, str]]:
    """(literal, split) of a whole data set without duplicates and texts without a letter, which nobody can remove there:
    what stands in two splits is kept for evaluation."""
    seen: set[str] = set()
    order = [name for name in _SPLITS if name in splits]
    if not order:
        raise DataError(f"The data set has splits {', '.join(splits)}.", "It needs train, validation or test.")
    for name in order:
        for row in splits[name]:
            for text in literals(row, column):
                if text.casefold() not in seen and any(map(str.isalpha, text)):
                    seen.add(text.casefold())
                    yield text, _SPLITS[name]


def hub_splits(reference: str) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """The splits of ``hub:OWNER/NAME[@REVISION]``. Raises :class:`DataError` in one line when they cannot be had."""
    name, _, revision = reference.removeprefix(HUB).partition("@")
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError("Hub data sets need the package datasets.", "Install it: pip install datasets.") from None
    try:
        found: Mapping[str, Iterable[Mapping[str, Any]]] = load_dataset(name, revision=revision or None)
    except Exception as error:  # the hub's errors have no common base
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"Data set {name!r} could not be loaded: {reason}.", "Check name and network.") from None
    return found
