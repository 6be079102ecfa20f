"""Selectors: which pairs of candidates the critic compares. Pure: no model is called here."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quipwright.core.records import Example, Pair, Response, content_hash
from quipwright.core.settings import Settings
from quipwright.core.text import is_copy, n_dist, words
from quipwright.data.task import LengthRule

Scores = Mapping[str, float]


class Diverse(Settings):
    """The most distant pair by N-DIST over words (Ravi et al. 2024 sec. 3.2: "largest n-gram edit distance").

    ``length_rule``: ``before`` choosing the pair, or ``after``, as the paper words it, which loses an input whose most
    distant pair is unequal in length.
    """

    kind: Literal["diverse"] = "diverse"
    n: int = Field(2, ge=1, le=5)
    length_rule: Literal["before", "after"] = "before"
    needs_scores: ClassVar[bool] = False

    def __call__(
        self, responses: Sequence[Response], scores: Scores | None, length: LengthRule, seed: int
    ) -> list[tuple[str, str]]:
        """At most one (a_id, b_id); ties in distance go to the earlier pair."""
        pairs = list(combinations(responses, 2))
        if self.length_rule == "before":
            pairs = [(a, b) for a, b in pairs if length.passes(a.text, b.text)]
        if not pairs:
            return []
        a, b = max(pairs, key=lambda pair: n_dist(words(pair[0].text), words(pair[1].text), self.n))
        return [(a.id, b.id)] if length.passes(a.text, b.text) else []


class Random(Settings):
    """A pair drawn at random among those within the length rule: the control for every cleverer selector."""

    kind: Literal["random"] = "random"
    needs_scores: ClassVar[bool] = False

    def __call__(
        self, responses: Sequence[Response], scores: Scores | None, length: LengthRule, seed: int
    ) -> list[tuple[str, str]]:
        """At most one (a_id, b_id), the same for the same seed and responses."""
        pairs = [(a.id, b.id) for a, b in combinations(responses, 2) if length.passes(a.text, b.text)]
        return [random.Random(content_hash(seed, pairs)).choice(pairs)] if pairs else []


class BestWorst(Settings):
    """The critic's best of the k against its worst, within the length rule: the widest margin k samples can buy.

    ``pairs`` > 1 adds the best against the next worse ones.
    """

    kind: Literal["best_worst"] = "best_worst"
    pairs: int = Field(1, ge=1)
    needs_scores: ClassVar[bool] = True

    def __call__(
        self, responses: Sequence[Response], scores: Scores | None, length: LengthRule, seed: int
    ) -> list[tuple[str, str]]:
        """Up to ``pairs`` (best, worse) ids, the widest margin first."""
        if scores is None:
            raise ValueError("best_worst needs a critic that scores each candidate alone")
        margins = [
            (scores[a.id] - scores[b.id], a.id, b.id)
            for a in responses
            for b in responses
            if scores[a.id] > scores[b.id] and length.passes(a.text, b.text)
        ]
        if not margins:
            return []
        winner = max(margins, key=lambda m: (scores[m[1]], m[0]))[1]
        return [(a, b) for _, a, b in sorted(margins, reverse=True) if a == winner][: self.pairs]


class DiverseQuality(Settings):
    """A varied good response against a common bad one (after DivPO, arXiv 2501.18101).

    Of the ``share`` best by the critic the one farthest from the other responses, against the one nearest to them of
    the ``share`` worst; distance is the mean N-DIST to all others. Where the length rule forbids that pair, the next.
    """

    kind: Literal["diverse_quality"] = "diverse_quality"
    share: float = Field(0.5, gt=0, le=0.5)
    n: int = Field(2, ge=1, le=5)
    needs_scores: ClassVar[bool] = True

    def __call__(
        self, responses: Sequence[Response], scores: Scores | None, length: LengthRule, seed: int
    ) -> list[tuple[str, str]]:
        """At most one (good, bad) of ids; the good one's score is the higher."""
        if scores is None:
            raise ValueError("diverse_quality needs a critic that scores each candidate alone")
        ordered = sorted(responses, key=lambda r: -scores[r.id])
        size = max(1, int(self.share * len(ordered)))
        far = {r.id: self._distance(r, responses) for r in responses}
        good = sorted(ordered[:size], key=lambda r: -far[r.id])
        bad = sorted(ordered[-size:], key=lambda r: far[r.id])
        allowed = ((g, b) for g in good for b in bad if scores[g.id] > scores[b.id] and length.passes(g.text, b.text))
        return [(g.id, b.id) for g, b in allowed][:1]

    def _distance(self, response: Response, responses: Sequence[Response]) -> float:
        others = [n_dist(words(response.text), words(r.text), self.n) for r in responses if r.id != response.id]
        return sum(others) / len(others) if others else 0.0


class Listed(Settings):
    """``size`` responses spread evenly from the critic's best to its worst, compared neighbour by neighbour: the
    verdicts make one list of more than two (see :func:`~quipwright.training.preference.ranking.chained`). The length
    rule is not used."""

    kind: Literal["list"] = "list"
    size: int = Field(4, ge=3)
    needs_scores: ClassVar[bool] = True

    def __call__(
        self, responses: Sequence[Response], scores: Scores | None, length: LengthRule, seed: int
    ) -> list[tuple[str, str]]:
        """Neighbours (better, worse) of the list, best first."""
        if scores is None:
            raise ValueError("list needs a critic that scores each candidate alone")
        ordered = sorted(responses, key=lambda r: -scores[r.id])
        size = min(self.size, len(ordered))
        chosen = [ordered[round(i * (len(ordered) - 1) / (size - 1))] for i in range(size)] if size > 1 else []
        return [(a.id, b.id) for a, b in pairwise(chosen)]


class TeacherMix(Settings):
    """In the first ``rounds`` a ``share`` of the inputs pairs a teacher's response with one of the student's, drawn at
    random within the length rule; all others are as ``otherwise`` picks. Off-policy pairs may help early on and hurt
    later (arXiv 2508.10530)."""

    kind: Literal["teacher_mix"] = "teacher_mix"
    share: float = Field(0.5, ge=0, le=1)
    rounds: int = Field(1, ge=1)
    otherwise: Annotated[Diverse | Random | BestWorst | DiverseQuality, Field(discriminator="kind")] = Diverse()

    @property
    def needs_scores(self) -> bool:
        """True where the inner selector needs them."""
        return self.otherwise.needs_scores

    def __call__(
        self, responses: Sequence[Response], scores: Scores | None, length: LengthRule, seed: int
    ) -> list[tuple[str, str]]:
        """Ids of a teacher's and a student's response, or what ``otherwise`` picks among the student's."""
        written = [r for r in responses if not r.author.startswith("teacher:")]
        taught = [r for r in responses if r.author.startswith("teacher:")]
        rng = random.Random(content_hash("teacher_mix", seed, [r.id for r in responses]))
        if rng.random() < self.share:
            mixed = [(t.id, r.id) for t in taught for r in written if length.passes(t.text, r.text)]
            if mixed:
                return [rng.choice(mixed)]
        return self.otherwise(written, scores, length, seed)


AnySelector = Diverse | Random | BestWorst | DiverseQuality | Listed | TeacherMix
Selector = Annotated[AnySelector, Field(discriminator="kind")]


def copies_last(
    scores: Mapping[str, float], examples: Iterable[Example], responses: Mapping[str, Sequence[Response]]
) -> dict[str, float]:
    """``scores`` with every copy of its literal below all else: a selector that took a copy for the best would have
    the rule against copies make a winner of the worst."""
    lowest = min(scores.values(), default=0.0) - 1.0
    copies = {r.id for e in examples for r in responses.get(e.id, ()) if r.id in scores and is_copy(r.text, e.text)}
    return {response_id: lowest if response_id in copies else score for response_id, score in scores.items()}


def select(
    selector: AnySelector,
    examples: Iterable[Example],
    responses: Mapping[str, Sequence[Response]],
    scores: Scores | None,
    length: LengthRule,
    *,
    round: int,
    seed: int,
) -> list[Pair]:
    """The pairs that ``selector`` picks among each example's usable responses (``responses`` is by example id); where it
    goes by ``scores``, among those that have one."""
    picked = []
    if isinstance(selector, TeacherMix) and round > selector.rounds:
        selector = selector.model_copy(update={"share": 0.0})
    for example in examples:
        usable = [r for r in responses.get(example.id, ()) if r.usable]
        if selector.needs_scores and scores is not None:
            usable = [r for r in usable if r.id in scores]
        for a, b in selector(usable, scores, length, seed):
            picked.append(Pair(example_id=example.id, a_id=a, b_id=b, selector=selector.kind, round=round))
    return picked


def acceptance(
    responses: Mapping[str, Sequence[Response]], picked: Sequence[Pair], length: LengthRule
) -> dict[str, int]:
    """What selection let through: ``pairs`` of usable responses to one literal and how many of those are ``within`` the
    length rule, then ``literals`` that have such pairs at all and how many of those were ``paired``."""
    usable = [[r for r in own if r.usable] for own in responses.values()]
    pairs = [pair for own in usable for pair in combinations(own, 2)]
    return {
        "pairs": len(pairs),
        "within": sum(length.passes(a.text, b.text) for a, b in pairs),
        "literals": sum(len(own) > 1 for own in usable),
        "paired": len({pair.example_id for pair in picked}),
    }
