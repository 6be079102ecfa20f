"""Pure text measures: words, N-DIST, length ratio, copies, diversity. One definition for training and reports."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

# Control characters, half surrogates, line and paragraph separators, and marks that reorder what is shown.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def printable(text: str) -> str:
    """``text`` as one harmless line of a terminal: tabs and line ends become spaces, other control characters, half
    surrogates and marks that reorder text become escapes such as ``\\x1b``."""
    return _HARMFUL.sub(lambda mark: " " if mark[0] in "\t\n\r" else ascii(mark[0])[1:-1], text)


def normalise(text: str) -> str:
    """NFKC, single spaces, no outer blanks, straight apostrophes and quotes."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("“", '"').replace("”", '"')
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """Lower-cased words and punctuation marks, each its own item."""
    return _WORD.findall(normalise(text).lower())


def word_count(text: str) -> int:
    """Number of words, punctuation left out: the unit of every length in reports and filters."""
    return sum(1 for word in words(text) if word[0].isalnum() or word[0] == "_")


def n_dist(a: Sequence[str], b: Sequence[str], n: int = 2) -> float:
    """N-DIST, the n-gram edit distance of Kondrak (2005), in [0, 1], over any two sequences of items.

    Both sequences are affixed with n - 1 start symbols; substituting one positional n-gram for another costs the
    fraction of their positions that differ; the total is divided by the longer length. n = 1 is Levenshtein / max.
    Both empty is 0, one empty is 1. Ravi et al. (2024) select the pair of largest "n-gram-based edit distance"
    without naming a formula; this one does not saturate as edit distance over n-gram tuples does.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not a or not b:
        return 0.0 if len(a) == len(b) else 1.0
    start: list[str | None] = [None] * (n - 1)
    left, right = [*start, *a], [*start, *b]
    previous = [float(j) for j in range(len(b) + 1)]
    for i in range(1, len(a) + 1):
        current = [float(i)]
        for j in range(1, len(b) + 1):
            differing = sum(left[i - 1 + t] != right[j - 1 + t] for t in range(n))
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + differing / n))
        previous = current
    return previous[-1] / max(len(a), len(b))


def length_ratio(a: str, b: str) -> float:
    """Shorter over longer word count, in [0, 1] and symmetric: 1 is equal length."""
    short, long = sorted((word_count(a), word_count(b)))
    return 1.0 if long == 0 else short / long


def is_copy(text: str, literal: str, threshold: float = 0.15) -> bool:
    """True where ``text`` repeats ``literal`` word for word or nearly so.

    Near means: word-level Levenshtein over punctuation-free words at most ``threshold`` of the longer text, so that
    one swapped word in a sentence of seven is still a copy.
    """
    from rapidfuzz.distance import Levenshtein  # takes a while to import

    ours, theirs = ([word for word in words(t) if word[0].isalnum()] for t in (text, literal))
    return Levenshtein.normalized_distance(ours, theirs) <= threshold


def distinct_n(texts: Iterable[str], n: int = 2) -> float:
    """Distinct n-grams over all n-grams of all texts (Li et al. 2016); 0 where there is none."""
    grams = [gram for text in texts for gram in _grams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def stock_turns(texts: Iterable[str], n: int = 3) -> float | None:
    """Share of ``texts`` whose last ``n`` words end another one too, punctuation and case apart: turns of phrase that fit
    anything. A text of fewer words has no such end. ``None`` where there is no text."""
    ends = [tuple(word for word in words(text) if word[0].isalnum())[-n:] for text in texts]
    counts = Counter(end for end in ends if len(end) == n)
    return sum(counts[end] > 1 for end in ends) / len(ends) if ends else None


def repetition(text: str, n: int = 3) -> float:
    """Share of a text's n-grams that already stood in it: 0 is none."""
    grams = list(_grams(words(text), n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _grams(items: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(items[i:] for i in range(n)), strict=False)


def degenerate(text: str, literal: str, *, max_ratio: float = 4.0) -> str | None:
    """Why ``text`` is no usable attempt at paraphrasing ``literal``, or ``None`` if it is one.

    Reasons: ``empty``, ``symbols`` (no letter), ``repeats`` (a third of its trigrams are repeats), ``too long``
    (more than ``max_ratio`` times the literal's words).
    """
    if not text.strip():
        return "empty"
    if not any(character.isalpha() for character in text):
        return "symbols"
    if repetition(text) > 1 / 3:
        return "repeats"
    if word_count(text) > max_ratio * max(word_count(literal), 4):
        return "too long"
    return None
