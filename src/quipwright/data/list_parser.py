"""Reading a numbered list out of a large model's answer, however it was written."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from quipwright.core.text_files import split_lines

_NUMBER = r"(?:\(?\d{1,2}\s?[.):\]](?!\d)|#\d{1,2}[.):]?|\[\d{1,2}\]|\d{1,2}\s?[-–—]\s|[①-⑳])"
_BULLET = r"(?:[-*•–—]\s)"
_LABEL = r"(?:(?:paraphrase|version|option|rewrite|variant)\s+(?:#?\s?\d{1,2}|one|two|three|four|five|six)\s?[.):\-–—])"
_ITEM = re.compile(rf"^\W{{0,3}}?(?:\*\*|__)?\s*(?:{_LABEL}|{_NUMBER})(?:\*\*|__)?\s*(?P<text>.*)$", re.IGNORECASE)
_BULLETED = re.compile(rf"^\s*{_BULLET}\s*(?P<text>.*)$")
_MERGED = re.compile(r"(?<=[\s.!?\"”'])\(?(\d{1,2})[.)]\s+(?=\S)")
_SENTENCE = re.compile(r"[.!?…][\"'”’*_)]*$")
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "„": "“", "`": "`", "*": "*", "_": "_"}


@dataclass(frozen=True)
class Listed:
    """The items of a list, and what stood around it (preamble and afterword)."""

    items: tuple[str, ...]
    around: str


def parse_list(answer: str, wanted: int) -> Listed:
    """The list in ``answer``, at most ``wanted`` items; none where there is no list.

    Handles "1.", "1)", "(1)", "[1]", "#1", "**1.**", "1 -", "Version 1:", bullets, items in quotes or bold, a preamble
    and an afterword, an item broken over lines, and several items on one line. Numbered
    items win over bullets. A single bare line counts as a list of one only where one was asked for.
    """
    lines = [line.strip() for line in split_lines(answer)]
    items, around = _collect(lines, _ITEM)
    if len(items) <= 1:
        merged = _collect(_split_merged(lines), _ITEM)
        items, around = merged if len(merged[0]) > len(items) else (items, around)
    if not items:
        items, around = _collect(lines, _BULLETED)
    filled = [line for line in lines if line]
    if not items and wanted == 1 and len(filled) == 1:
        items, around = filled, []
    texts = [text for item in items if (text := tidy(item))]
    return Listed(tuple(texts[:wanted]), "\n".join(around).strip())


def tidy(item: str) -> str:
    """``item`` on one line without the quotes or stars around it, and without control characters."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf") and c != "\u200d" else c for c in item)
    text = " ".join(text.split())
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and _wraps(text):
        text = text[1:-1].strip()
    return text


def _wraps(text: str) -> bool:
    """Whether the outer marks belong together: ``"A," she said, "B."`` has inner ones of the same kind."""
    inner = text[1:-1]
    if text[0] in "*_" and inner[:1] == text[0] and inner[-1:] == text[0]:
        return True
    return text[0] not in inner and (text[-1] not in inner or text[0] == "'" or text[0] == "‘")


def _split_merged(lines: list[str]) -> list[str]:
    """Lines that hold several items, cut before the second, third... number; numbers must count up from the first."""
    result: list[str] = []
    for line in lines:
        start = _ITEM.match(line)
        first = re.search(r"\d+", line[: start.start("text")]) if start else None
        inside = re.search(r"(?:^|[\s:])\(?1[.)]\s", line) if not first else None
        if inside and re.search(r"\(?2[.)]\s", line[inside.end() :]):  # "Sure! 1. … 2. …": the list starts inside
            result.append(line[: inside.start()])
            line, number = line[inside.start() :].strip(), 1
        elif first:
            number = int(first[0])
        else:
            result.append(line)
            continue
        at = 0
        for mark in _MERGED.finditer(line):
            if mark.start() > at and int(mark[1]) == number + 1:
                result.append(line[at : mark.start()].strip())
                at, number = mark.start(), number + 1
        result.append(line[at:].strip())
    return result


def _collect(lines: list[str], pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """Texts of the lines that ``pattern`` begins, each with the lines that carry it on, and the lines around them.

    A blank line ends an item. So does the end of a sentence, for the last item: what follows it is an afterword.
    """
    starts = [number for number, line in enumerate(lines) if pattern.match(line)]
    items: list[str] = []
    around: list[str] = lines[: starts[0]] if starts else list(lines)
    for start, end in pairwise([*starts, len(lines)]):
        match = pattern.match(lines[start])
        text, going_on = (match["text"] if match else ""), True
        for line in lines[start + 1 : end]:
            going_on = going_on and bool(line or not text) and not (end == len(lines) and _SENTENCE.search(text))
            if going_on:
                text = f"{text} {line}".strip()  # the text may stand under its number
            else:
                around.append(line)
        items.append(text)
    return items, around
