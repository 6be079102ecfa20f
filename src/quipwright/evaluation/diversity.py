"""How alike a system's outputs are: self-BLEU, in time linear in the text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from quipwright.core.text import words


def self_bleu(texts: Sequence[str], order: int = 4) -> float | None:
    """Mean BLEU of each text against all the others (Zhu et al. 2018, Texygen): 1 is all alike, 0 nothing shared.

    BLEU as Papineni et al. 2002: clipped n-gram precisions up to ``order``, brevity penalty against the reference of
    nearest length. Departures: a precision without a match counts 1 / (2 x its n-grams) instead of sending the whole
    product to 0, and orders for which a text is too short are left out. ``None`` for fewer than two texts.
    """
    tokens = [words(text) for text in texts]
    if len(tokens) < 2:
        return None
    grams = [[_counts(own, n) for own in tokens] for n in range(1, order + 1)]
    most = [_two_largest(counts) for counts in grams]
    lengths = Counter(len(own) for own in tokens)
    return sum(_bleu(i, tokens, grams, most, lengths) for i in range(len(tokens))) / len(tokens)


Grams = Counter[tuple[str, ...]]
Largest = dict[tuple[str, ...], tuple[int, int, int]]


def _bleu(
    i: int, tokens: Sequence[list[str]], grams: list[list[Grams]], most: list[Largest], lengths: Counter[int]
) -> float:
    logs = []
    for counts, largest in zip(grams, most, strict=True):
        total = sum(counts[i].values())
        if not total:
            continue
        matched = sum(min(count, _elsewhere(largest[gram], i)) for gram, count in counts[i].items())
        logs.append(math.log((matched or 0.5) / total))
    if not logs:
        return 0.0
    mine = len(tokens[i])
    others = [length for length, count in lengths.items() if count > (length == mine)]
    nearest = min(others, key=lambda length: (abs(length - mine), length))
    penalty = 1.0 if mine >= nearest else math.exp(1 - nearest / mine)
    return penalty * math.exp(sum(logs) / len(logs))


def _counts(items: Sequence[str], n: int) -> Grams:
    return Counter(zip(*(items[k:] for k in range(n)), strict=False))


def _two_largest(counts: Sequence[Grams]) -> Largest:
    """For each n-gram: the largest count in one text, that text, and the largest count in any other."""
    found: Largest = {}
    for owner, own in enumerate(counts):
        for gram, count in own.items():
            best, holder, second = found.get(gram, (0, -1, 0))
            found[gram] = (count, owner, best) if count > best else (best, holder, max(second, count))
    return found


def _elsewhere(largest: tuple[int, int, int], owner: int) -> int:
    best, holder, second = largest
    return second if holder == owner else best
