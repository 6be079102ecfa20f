"""Judgments against a baseline -> win rates with intervals, and what the outputs look like beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pydantic import Field, field_validator

from quipwright.core.records import Comparison, Example, Grade, Pair, Quality, Response, Status, WinRate
from quipwright.core.settings import Settings
from quipwright.core.statistics import RESAMPLES
from quipwright.core.text import distinct_n, is_copy, repetition, word_count
from quipwright.critics.config import CriticConfig, refuse_untrained
from quipwright.evaluation.diversity import self_bleu
from quipwright.evaluation.pairwise import Contest, Duel
from quipwright.training.preference.candidates import DecodeSettings


class EvaluateSettings(Settings):
    """How students are compared. ``splits`` of the data; ``tie``: |s - 1/2| within it is a tie; ``best_of``: how many
    samples the best-of-N baselines draw (0 leaves them out); ``base``: also ask the untrained weights; ``students``: which
    of the run's students are evaluated (unset: all, each round's too); ``judges``: who judges beside the training critic."""

    splits: tuple[str, ...] = ("test",)
    students: tuple[str, ...] | None = Field(None, min_length=1, exclude_if=lambda chosen: chosen is None)
    decode: DecodeSettings = DecodeSettings()
    tie: float = Field(0.05, ge=0, lt=0.5)
    best_of: int = Field(6, ge=0)
    base: bool = True
    resamples: int = Field(RESAMPLES, ge=100)
    judges: tuple[CriticConfig, ...] = ()

    @field_validator("judges")
    @classmethod
    def _ready(cls, judges: tuple[CriticConfig, ...]) -> tuple[CriticConfig, ...]:
        for judge in judges:
            refuse_untrained(judge)
        return judges


class Difference(Settings):
    """Paired difference of two students' mean scores against one opponent, over the same inputs.

    ``mean`` is candidate minus baseline of s in [0, 1] with its paired-bootstrap 95 % interval. ``judge`` is empty in
    summaries that are older than it.
    """

    candidate: str
    baseline: str
    opponent: str
    split: str
    n: int
    mean: float | None
    low: float | None
    high: float | None
    judge: str = ""


System = Mapping[str, Response]
"""A system's one answer by example id."""
Scores = Mapping[str, float | None]
"""s by example id (see :func:`~quipwright.evaluation.pairwise.scores_by_input`)."""


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


def win_rate(found: Contest) -> WinRate:
    """The headline of a contest: its tolerant reading, with the length-controlled rate beside it.

    Ties count for both sides (Ravi et al. 2024 sec. 4), so A against B and B against A do not sum to 1.
    """
    counts = found.reading("tolerant")
    rate = counts.rate
    return WinRate(
        candidate=found.candidate,
        baseline=found.baseline,
        judge=found.judge,
        split=found.split,
        wins=int(counts.wins),
        ties=int(counts.ties),
        losses=int(counts.losses),
        unparsed=found.unparsed,
        rate=rate.value or 0.0,
        low=rate.low or 0.0,
        high=1.0 if rate.high is None else rate.high,
        length_controlled=found.length_controlled.value,
        length_ratio=found.length_ratio,
    )


def difference(found: Duel) -> Difference:
    """The headline of a duel."""
    return Difference(
        candidate=found.candidate,
        baseline=found.other,
        opponent=found.baseline,
        split=found.split,
        n=found.n,
        mean=found.difference.value,
        low=found.difference.low,
        high=found.difference.high,
        judge=found.judge,
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
        truncated=share(r.status is Status.TRUNCATED for _, r in answered),
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
