"""Attempts -> the pairs worth a judgment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quipwright.core.records import Example, Grade, Pair, Response, Status, content_hash, ids_hash
from quipwright.core.storage.stage_cache import StageKey, single_chunk
from quipwright.critics.by_grades import scores_of
from quipwright.pipeline.context import Context
from quipwright.training.preference.pairs import AnySelector, acceptance, copies_last
from quipwright.training.preference.pairs import select as select_pairs

_REMEDIES = {
    Status.TRUNCATED: "Train the imitation student longer, or raise candidates.max_tokens.",
    Status.DUPLICATE: "Raise candidates.temperature, or sample more candidates.",
}


@dataclass(frozen=True)
class Selection:
    """The chosen pairs, and what the selector let through (see :func:`acceptance`)."""

    pairs: Sequence[Pair]
    acceptance: Mapping[str, int]


def select(
    ctx: Context,
    round: int,
    selector: AnySelector,
    examples: Sequence[Example],
    attempts: Mapping[str, Sequence[Response]],
    grades: Mapping[str, Grade],
    *,
    copies_lose: bool,
) -> Selection:
    """The pairs that ``selector`` picks among ``attempts`` (by example id); ``copies_lose``: it sees copies last."""
    length = ctx.task.length
    graded = scores_of(grades.values())
    scores = copies_last(graded, examples, attempts) if copies_lose else graded

    def pick() -> list[Pair]:
        asked = scores if selector.needs_scores else None
        return select_pairs(selector, examples, attempts, asked, length, round=round, seed=ctx.seed)

    sampled = ids_hash(response for responses in attempts.values() for response in responses)
    key = StageKey("select", str(round), (selector, length, round, ctx.seed, sampled, content_hash(scores)))
    pairs = ctx.cache.rows(key, Pair, single_chunk(pick))
    return Selection(pairs, acceptance(attempts, pairs, length))


def nothing_selected(selection: Selection, responses: Collection[Response]) -> tuple[str, str]:
    """Why no pair was selected among ``responses``, and what to do about it, in words for people."""
    statuses = Counter(response.status for response in responses)
    counts = ", ".join(f"{count} {status.value}" for status, count in statuses.most_common())
    reason = f"no pair was selected among {len(responses)} texts ({counts})"
    pairs, within = selection.acceptance["pairs"], selection.acceptance["within"]
    if not pairs:
        reason += ", for no literal has two usable ones"
    elif not within:
        reason += "; those of one literal differ too much in length"
    faults = [status for status, _ in statuses.most_common() if status is not Status.OK]
    if faults and (not pairs or statuses[faults[0]] > statuses[Status.OK]):
        return reason, _REMEDIES.get(faults[0], "Train the imitation student longer.")
    if pairs and not within:
        return reason, "Lower length.minimum of the task, or sample more candidates."
    return reason, "Sample more literals (feedback_examples) or more candidates."
