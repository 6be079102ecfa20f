"""Judgments become rankings: when a pair has a winner, how neighbours join into lists, and pairs against copies."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from quipwright.core.records import Example, Grade, Judgment, Pair, Ranking, Response, content_hash
from quipwright.core.settings import Settings
from quipwright.core.statistics import sign
from quipwright.core.text import is_copy

REMEDIES = {
    "unread": "Look at the critic's answers, or try another reading or model.",
    "won by another text in either order": "This critic goes by position: use another one, or another reading.",
    "a tie": "Use a critic that tells the texts apart, or more varied candidates.",
    "weaker than rank.strength": "Lower rank.strength.",
    "won by a broken text": "Train the imitation student longer, or raise rank.broken.",
}
"""Why a pair has no order, and what to do where that is so of most."""


class RankRule(Settings):
    """When judgments order a pair. ``tie`` and below ``strength`` the pair stays on record and out of training.

    ``strength``: the mean probability of the winner over the showings must reach this; two showings that name
    different winners are a tie. ``broken``: a winner whose grade gives it more than this chance of being broken is no
    example to follow, though it beat something worse; winners without a grade pass.
    """

    tie: float = Field(0.05, ge=0, lt=0.5)
    strength: float = Field(0.6, ge=0.5, lt=1)
    broken: float = Field(1.0, gt=0, le=1)


def rank(
    pair: Pair, judgments: Sequence[Judgment], rule: RankRule, grades: Mapping[str, Grade] | None = None
) -> Ranking | None:
    """The order that ``judgments`` of ``pair`` imply. ``None`` for a tie, a weak margin, a judgment that could not be
    read (one order alone carries that order's position bias) or a winner that its grade (by response id) calls broken.
    """
    outcome = _outcome(pair, judgments, rule, grades)
    return outcome if isinstance(outcome, Ranking) else None


def unranked(
    pairs: Sequence[Pair],
    judgments: Mapping[str, Sequence[Judgment]],
    rule: RankRule,
    grades: Mapping[str, Grade] | None = None,
) -> Counter[str]:
    """How many of ``pairs`` have no order, by reason: a key of :data:`REMEDIES`. ``judgments`` by pair id."""
    outcomes = (_outcome(pair, judgments.get(pair.id, ()), rule, grades) for pair in pairs)
    return Counter(outcome for outcome in outcomes if isinstance(outcome, str))


def _outcome(
    pair: Pair, judgments: Sequence[Judgment], rule: RankRule, grades: Mapping[str, Grade] | None
) -> Ranking | str:
    """See :func:`rank`; where there is no order, why."""
    credits = [j.credit for j in judgments]
    read = [p for p in credits if p is not None]
    if not read or len(read) < len(credits):
        return "unread"
    p = sum(read) / len(read)
    verdicts = {j.verdict for j in judgments if j.verdict != "tie"}
    agreement = None if len(read) < 2 else len(verdicts) == 1
    strength = max(p, 1 - p)
    if len(verdicts) == 2:
        return "won by another text in either order"
    if len(verdicts) != 1 or sign(p, rule.tie) == 0:
        return "a tie"
    if not strength >= rule.strength:
        return "weaker than rank.strength"
    order = (pair.a_id, pair.b_id) if p > 0.5 else (pair.b_id, pair.a_id)
    grade = (grades or {}).get(order[0])
    if grade is not None and grade.levels is not None and grade.levels[0] > rule.broken:
        return "won by a broken text"
    return Ranking(
        example_id=pair.example_id,
        best_first=order,
        strength=strength,
        agreement=agreement,
        judgment_ids=tuple(j.id for j in judgments),
    )


def chained(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Rankings of neighbours joined into lists: a over b and b over c make a over b over c of the weaker's strength.

    A neighbour pair that had no clear winner, or whose verdict turned it round, ends a list there.
    """
    lists: list[Ranking] = []
    for ranking in rankings:
        last = lists[-1] if lists else None
        if last and last.example_id == ranking.example_id and last.best_first[-1] == ranking.best_first[0]:
            lists[-1] = _joined(last, ranking)
        else:
            lists.append(ranking)
    return lists


def _joined(first: Ranking, then: Ranking) -> Ranking:
    known = [a for a in (first.agreement, then.agreement) if a is not None]
    return Ranking(
        example_id=first.example_id,
        best_first=first.best_first + then.best_first[1:],
        strength=min(first.strength, then.strength),
        agreement=all(known) if known else None,
        judgment_ids=first.judgment_ids + then.judgment_ids,
    )


def copy_losers(
    rankings: Sequence[Ranking], examples: Mapping[str, Example], texts: Mapping[str, Response], share: float, seed: int
) -> tuple[list[Ranking], list[Response]]:
    """Extra rankings in which the chosen response beats the literal itself, for ``share`` of ``rankings``.

    A verbatim copy is coherent and true, so a critic that rewards those first teaches copying; here it is told apart
    for certain and without a call. Winners that are near-copies themselves are passed over.
    """
    honest = [r for r in rankings if not is_copy(texts[r.best_first[0]].text, examples[r.example_id].text)]
    drawn = random.Random(content_hash("copies", seed)).sample(honest, round(share * len(honest)))
    extra, literals = [], []
    for ranking in drawn:
        literal, style = examples[ranking.example_id].text, texts[ranking.best_first[0]].style
        copy = Response(example_id=ranking.example_id, text=literal, author="rule:copy", style=style)
        literals.append(copy)
        extra.append(Ranking(example_id=ranking.example_id, best_first=(ranking.best_first[0], copy.id), strength=1.0))
    return extra, literals
