"""What a system's outputs look like: copies, length, diversity, self-BLEU and the critic's grades."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from quipwright.core.records import Example, Grade, Response, Status
from quipwright.core.results import Figure, Quality
from quipwright.core.statistics import proportion, share
from quipwright.core.text import distinct_n, is_copy, repetition, stock_turns, word_count, words

UNREAD = Figure(value=None, low=None, high=None)
System = Mapping[str, Response]
"""A system's one answer by example id."""


def quality(
    name: str,
    split: str,
    system: System,
    examples: Sequence[Example],
    grades: Mapping[str, Grade],
    meaning: Mapping[str, float] | None = None,
    harmful: Mapping[str, str] | None = None,
) -> Quality | None:
    """What the outputs of ``system`` look like; ``None`` where it answered none of ``examples``.

    ``grades``, ``meaning`` (cosine of output and literal) and ``harmful`` (what an output that may hurt is about, "" for
    any other) are by response id, for the outputs that have them.
    """
    answered = [(e, system[e.id]) for e in examples if e.id in system]
    if not answered:
        return None
    texts = [response.text for _, response in answered]
    graded = [grades[r.id] for _, r in answered if r.id in grades]
    levels = [grade.levels for grade in graded if grade.levels is not None]
    each_level = [share(values) for values in zip(*levels, strict=True)]
    hurts = [bool(harmful[r.id]) for _, r in answered if harmful and r.id in harmful]
    cosines = [meaning[r.id] for _, r in answered if meaning and r.id in meaning]
    return Quality(
        system=name,
        split=split,
        n=len(texts),
        copy_rate=_share(is_copy(r.text, e.text) for e, r in answered),
        empty=_share(not text.strip() for text in texts),
        truncated=_share(r.status is Status.TRUNCATED for _, r in answered),
        words=fmean(map(word_count, texts)),
        length_ratio=sum(map(word_count, texts)) / max(1, sum(word_count(e.text) for e, _ in answered)),
        distinct_2=distinct_n(texts),
        stock_turns=stock_turns(texts),
        levels=tuple(one.value or 0.0 for one in each_level) or None,
        level_ranges=tuple((one.low or 0.0, 1.0 if one.high is None else one.high) for one in each_level),
        graded=len(levels),
        graded_by=next((grade.judge for grade in graded if grade.levels is not None), ""),
        repetition=fmean(map(repetition, texts)),
        self_bleu=self_bleu(texts),
        meaning=fmean(cosines) if cosines else None,
        harm=Figure.of(proportion(sum(hurts), len(hurts))) if hurts else UNREAD,
    )


def _share(values: Iterable[bool]) -> float:
    return fmean(map(float, values))


def self_bleu(texts: Sequence[str], order: int = 4) -> float | None:
    """Mean BLEU of each text against all the others (Zhu et al. 2018, Texygen): 1 is all alike, 0 nothing shared.

    BLEU as Papineni et al. 2002: clipped n-gram precisions up to ``order``, brevity penalty against the reference of
    nearest length. Departures: a precision without a match counts 1 / (2 x its n-grams) instead of sending the whole
    product to 0, and orders for which a text is too short are left out. ``None`` for fewer than two texts. Takes time
    linear in the length of the texts.
    """
    tokens = [words(text) for text in texts]
    if len(tokens) < 2:
        return None
    grams = [[_ngram_counts(own, n) for own in tokens] for n in range(1, order + 1)]
    most = [_two_largest(counts) for counts in grams]
    lengths = Counter(len(own) for own in tokens)
    return sum(_bleu(i, tokens, grams, most, lengths) for i in range(len(tokens))) / len(tokens)


NgramCounts = Counter[tuple[str, ...]]
Largest = dict[tuple[str, ...], tuple[int, int, int]]


def _bleu(
    i: int, tokens: Sequence[list[str]], grams: list[list[NgramCounts]], most: list[Largest], lengths: Counter[int]
) -> float:
    """BLEU of text ``i`` against all others."""
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


def _ngram_counts(items: Sequence[str], n: int) -> NgramCounts:
    return Counter(zip(*(items[k:] for k in range(n)), strict=False))


def _two_largest(counts: Sequence[NgramCounts]) -> Largest:
    """For each n-gram: the largest count in one text, that text, and the largest count in any other."""
    result: Largest = {}
    for owner, own in enumerate(counts):
        for gram, count in own.items():
            best, holder, second = result.get(gram, (0, -1, 0))
            result[gram] = (count, owner, best) if count > best else (best, holder, max(second, count))
    return result


def _elsewhere(largest: tuple[int, int, int], owner: int) -> int:
    best, holder, second = largest
    return second if holder == owner else best
