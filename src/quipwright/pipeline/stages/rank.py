"""Judgments -> rankings; ties and weak margins stay on record as judgments only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quipwright.core.records import Grade, Judgment, Pair, Ranking, ids_hash
from quipwright.core.storage.stage_cache import StageKey, single_chunk
from quipwright.critics.combine import by_pair, require_readable
from quipwright.pipeline.context import Context
from quipwright.training.preference.ranking import REMEDIES, RankRule, chained, unranked
from quipwright.training.preference.ranking import rank as rank_pair


def rank(
    ctx: Context,
    round: int,
    rule: RankRule,
    pairs: Sequence[Pair],
    judgments: Sequence[Judgment],
    grades: Mapping[str, Grade],
) -> list[Ranking]:
    """The order that ``judgments`` imply for each of ``pairs``; ``grades`` (by response id) may veto a winner.

    Raises :class:`~quipwright.core.errors.CriticError` where no judgment at all can be read.
    """
    require_readable(judgments)
    of_pair = by_pair(judgments)
    graded = [grades[i] for pair in pairs for i in (pair.a_id, pair.b_id) if i in grades]

    def order() -> list[Ranking]:
        ordered = [rank_pair(pair, of_pair.get(pair.id, []), rule, grades) for pair in pairs]
        rankings = [ranking for ranking in ordered if ranking is not None]
        return chained(rankings) if pairs and pairs[0].selector == "list" else rankings

    key = StageKey("rank", str(round), (rule, ids_hash(pairs), ids_hash(judgments), ids_hash(graded)))
    return ctx.cache.rows(key, Ranking, single_chunk(order))


def nothing_ranked(
    rule: RankRule, pairs: Sequence[Pair], judgments: Sequence[Judgment], grades: Mapping[str, Grade]
) -> tuple[str, str]:
    """Why none of ``pairs`` has an order, and what to do about the commonest reason, in words for people."""
    reasons = unranked(pairs, by_pair(judgments), rule, grades).most_common()
    return f"of {len(pairs)}, " + ", ".join(f"{count} {reason}" for reason, count in reasons), REMEDIES[reasons[0][0]]
