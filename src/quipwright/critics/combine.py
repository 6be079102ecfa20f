"""What a pair's judgments add up to: votes, verdicts, both presentation orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from quipwright.core.errors import CriticError
from quipwright.core.records import Judgment, Verdict
from quipwright.core.statistics import sign

UNREAD_REMEDY = (
    "Look at its answers; then try another reading (reason_then_answer, sampled), more reason_tokens, a lower coverage, "
    "or another model."
)
_VERDICTS: dict[int, Verdict] = {1: "A", 0: "tie", -1: "B"}


def vote_share(labels: Sequence[str | None]) -> float | None:
    """P(first) from sampled answers, ``(n1 + 1/2) / (n1 + n2 + 1)``; ``None`` where none was valid."""
    first, second = labels.count("1"), labels.count("2")
    return (first + 0.5) / (first + second + 1) if first + second else None


def verdict_of(p_a: float | None, tie: float = 0.0) -> Verdict:
    """Who wins at P(A better): nobody within ``tie`` of one half, rounding forgiven. What is unread is unparsed."""
    return "unparsed" if p_a is None else _VERDICTS[sign(p_a, tie)]


def by_pair(judgments: Iterable[Judgment]) -> dict[str, list[Judgment]]:
    """The judgments of each pair by its id, in order."""
    grouped: dict[str, list[Judgment]] = {}
    for judgment in judgments:
        grouped.setdefault(judgment.pair_id, []).append(judgment)
    return grouped


def combined(judgments: Sequence[Judgment]) -> float | None:
    """P(A better): the mean over a pair's judgments, which for a positional judge are both orders.

    ``None`` unless all of them are readable: a pair that was read in one order only carries that order's position bias.
    From 0.75 (AB) and 0.375 (BA) it is 0.5625 (Ravi et al. 2024 sec. 3.2).
    """
    credits = [judgment.credit for judgment in judgments]
    read = [p for p in credits if p is not None]
    return sum(read) / len(read) if read and len(read) == len(credits) else None


def combined_by_pair(judgments: Iterable[Judgment]) -> Mapping[str, float | None]:
    """:func:`combined` of each pair, by its id."""
    return {pair_id: combined(own) for pair_id, own in by_pair(judgments).items()}


def unread(judgments: Sequence[Judgment]) -> str:
    """Which judge could not be read how often, and what most often stood in the way, in words for people."""
    lost = [judgment for judgment in judgments if judgment.verdict == "unparsed"]
    if not lost:
        return "every judgment was read"
    (judge, _), (reason, count) = (
        Counter(values).most_common(1)[0] for values in ([j.judge for j in lost], [j.reason for j in lost])
    )
    return f"{judge} could not be read in {len(lost)} of {len(judgments)} judgments ({count} times: {reason[:120]})"


def require_readable(judgments: Sequence[Judgment]) -> None:
    """Raises :class:`CriticError`, naming the judge, where none of ``judgments`` can be read."""
    if judgments and all(judgment.verdict == "unparsed" for judgment in judgments):
        raise CriticError(f"Critic {unread(judgments)}.", UNREAD_REMEDY)
