"""Judgments against a baseline -> win rates with intervals, and what the outputs look like beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pydantic import Field

from understudy.critic import Comparison
from understudy.diversity import self_bleu
from understudy.records import Example, Grade, Judgment, Pair, Quality, Response, WinRate
from understudy.sample import DecodeSettings
from understudy.settings import Settings
from understudy.statistics import paired_bootstrap, wilson
from understudy.text import distinct_n, is_copy, repetition, word_count


class EvaluateSettings(Settings):
    """How students are compared. ``splits`` of the data; ``tie``: |s - 1/2| within it is a tie; ``best_of``: how many
    samples the best-of-N baselines draw (0 leaves them out); ``base``: also ask the untrained weights; ``students``: which
    of the run's students are evaluated (unset: all, each round's too)."""

    splits: tuple[str, ...] = ("test",)
    students: tuple[str, ...] | None = Field(None, min_length=1, exclude_if=lambda chosen: chosen is None)
    decode: DecodeSettings = DecodeSettings()
    tie: float = Field(0.05, ge=0, lt=0.5)
    best_of: int = Field(6, ge=0)
    base: bool = True
    resamples: int = Field(10_000, ge=100)


class Difference(Settings):
    """Paired difference of two students' mean scores against one opponent, over the same inputs.

    ``mean`` is candidate minus baseline of s in [0, 1] with its paired-bootstrap 95 % interval.
    """

    candidate: str
    baseline: str
    opponent: str
    split: str
    n: int
    mean: float | None
    low: float | None
    high: float | None


System = Mapping[str, Response]
"""A system's one answer by example id."""
Scores = Mapping[str, float | None]
"""s by example id (see :func:`item_scores`)."""


def contests(systems: Mapping[str, System], opponents: Sequence[str], feedback: Sequence[str]) -> list[tuple[str, str]]:
    """Who meets whom: each student against every opponent, and each later student against the imitation student."""
    against = [(name, other) for other in opponents for name in systems if name not in opponents]
    return against + [(name, "imitation") for name in feedback if name != "imitation"]


def comparisons(
    candidate: str, baseline: str, systems: Mapping[str, System], examples: Sequence[Example]
) -> list[Comparison]:
    """One comparison an example both systems answered; the candidate is A."""
    mine, theirs = systems[candidate], systems[baseline]
    return [
        Comparison(
            Pair(example_id=e.id, a_id=mine[e.id].id, b_id=theirs[e.id].id, selector=f"{candidate}:{baseline}"),
            e.text,
            mine[e.id].text,
            theirs[e.id].text,
        )
        for e in examples
        if e.id in mine and e.id in theirs
    ]


def item_scores(compared: Sequence[Comparison], judgments: Iterable[Judgment]) -> dict[str, float | None]:
    """s by example id: the probability that A is better, averaged over its showings; ``None`` if unreadable."""
    by_pair: dict[str, list[float]] = {}
    for judgment in judgments:
        if judgment.verdict != "unparsed":
            hard = {"A": 1.0, "B": 0.0, "tie": 0.5}[judgment.verdict]
            by_pair.setdefault(judgment.pair_id, []).append(hard if judgment.p_a is None else judgment.p_a)
    return {c.pair.example_id: fmean(by_pair[c.pair.id]) if c.pair.id in by_pair else None for c in compared}


def win_rate(
    names: tuple[str, str],
    judge: str,
    split: str,
    compared: Sequence[Comparison],
    scores: Scores,
    tie: float,
) -> WinRate:
    """WTR of ``names[0]`` against ``names[1]``: the share of inputs with s at least 1/2 - ``tie``, Wilson interval.

    Ties count for both sides (Ravi et al. 2024 sec. 4), so A against B and B against A do not sum to 1.
    """
    read = [s for s in scores.values() if s is not None]
    wins = sum(s > 0.5 + tie for s in read)
    losses = sum(s < 0.5 - tie for s in read)
    ties = len(read) - wins - losses
    low, high = wilson(wins + ties, len(read))
    words_a, words_b = (
        sum(word_count(text) for text in texts) for texts in zip(*((c.a, c.b) for c in compared), strict=True)
    )
    return WinRate(
        candidate=names[0],
        baseline=names[1],
        judge=judge,
        split=split,
        wins=wins,
        ties=ties,
        losses=losses,
        unparsed=len(scores) - len(read),
        rate=(wins + ties) / len(read) if read else 0.0,
        low=low,
        high=high,
        length_ratio=words_a / words_b if words_b else 0.0,
    )


def difference(
    names: tuple[str, str],
    opponent: str,
    split: str,
    mine: Scores,
    theirs: Scores,
    resamples: int,
) -> Difference:
    """``names[0]`` minus ``names[1]``, both judged against ``opponent`` on the inputs both answered."""
    both = [(a, b) for e, a in mine.items() if a is not None and (b := theirs.get(e)) is not None]
    result = paired_bootstrap([a for a, _ in both], [b for _, b in both], resamples=resamples)
    return Difference(
        candidate=names[0],
        baseline=names[1],
        opponent=opponent,
        split=split,
        n=len(both),
        mean=result.value,
        low=result.low,
        high=result.high,
    )


def quality(
    name: str,
    split: str,
    system: System,
    examples: Sequence[Example],
    grades: Mapping[str, Grade],
    meaning: Mapping[str, float] | None = None,
) -> Quality:
    """What the outputs look like: copies, empties, length, diversity, and mean grade probabilities where there are any.

    ``meaning``: by response id, how much of its literal's meaning an output keeps, where that was measured.
    """
    answered = [(e, system[e.id]) for e in examples if e.id in system]
    texts = [response.text for _, response in answered]
    n = len(texts)
    graded = [grades[r.id] for _, r in answered if r.id in grades and grades[r.id].funny is not None]

    known = [meaning[r.id] for _, r in answered if meaning and r.id in meaning]

    def share(values: Iterable[bool]) -> float:
        return sum(values) / n if n else 0.0

    def mean_grade(field: str) -> float | None:
        return fmean(float(getattr(g, field)) for g in graded) if graded else None

    return Quality(
        system=name,
        split=split,
        n=n,
        copy_rate=share(is_copy(r.text, e.text) for e, r in answered),
        empty=share(not text.strip() for text in texts),
        truncated=share(r.dropped == "truncated" for _, r in answered),
        words=fmean(map(word_count, texts)) if texts else 0.0,
        length_ratio=sum(map(word_count, texts)) / max(1, sum(word_count(e.text) for e, _ in answered)),
        distinct_2=distinct_n(texts),
        broken=mean_grade("broken"),
        plain=mean_grade("plain"),
        funny=mean_grade("funny"),
        repetition=fmean(map(repetition, texts)) if texts else None,
        self_bleu=self_bleu(texts),
        meaning=fmean(known) if known else None,
    )
