"""Which votes count: those of attentive raters, on the systems that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from quipwright.core.errors import RunError
from quipwright.evaluation.human.ratings import Ratings

ATTENTIVE = 0.8
"""The least share of attention checks that a rater passes whose votes count."""


def careless(ratings: Ratings) -> dict[str, tuple[int, int]]:
    """The judges who passed too few attention checks: passed and asked."""
    return {judge: counts for judge, counts in ratings.checks().items() if counts[0] < ATTENTIVE * counts[1]}


def kept(ratings: Ratings, systems: Sequence[str] = (), *, leave_out: Collection[str] | None = None) -> Ratings:
    """What counts of ``ratings``, to be looked at: the votes of all but the judges in ``leave_out`` (default: the careless
    ones), and of ``systems`` only, each against the last one, where any are named.

    Raises :class:`RunError` where the votes are of no such systems.
    """
    known = dict.fromkeys((i.candidate, i.baseline) for i in ratings.items.values() if not i.check)
    wanted = [(name, systems[-1]) for name in systems[:-1]] if systems else list(known)
    for candidate, baseline in wanted:
        if (candidate, baseline) not in known:
            had = ", ".join(f"{one} against {other}" for one, other in known) or "none"
            raise RunError(f"{ratings.folder} has no pairs of {candidate} against {baseline}.", f"It has: {had}.")
    candidates = {candidate for candidate, _ in wanted}
    items = {
        pair: item
        for pair, item in ratings.items.items()
        if (item.candidate in candidates if item.check else (item.candidate, item.baseline) in wanted)
    }
    left_out = careless(ratings) if leave_out is None else leave_out
    order = [key for key in ratings.order if key[0] in items and key[1] not in left_out]
    return Ratings(ratings.folder, items, {key: ratings.votes[key] for key in order}, order)
