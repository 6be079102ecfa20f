"""Several runs beside one another: their students paired on the inputs they share, and some of their texts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from quipwright.core.results import PairedDifference
from quipwright.evaluation.pairwise import adjusted, paired_difference, scores_between
from quipwright.evaluation.report.view import headline
from quipwright.evaluation.systems import key

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary

Named = Sequence[tuple[str, "RunSummary"]]
SHOWN = 10


def differences(runs: Named) -> list[PairedDifference]:
    """Students of one name in two runs, the earlier named minus the later, Holm-adjusted over all of them.

    Only what the same judge said against the very same text of the opponent is paired.
    """
    paired = []
    for (one, first), (other, second) in combinations(runs, 2):
        if _judge(first) != _judge(second):
            continue
        for mine in first.scores:
            candidate, opponent, split = mine.candidate, mine.baseline, mine.split
            theirs = scores_between(second.scores, candidate, opponent, split)
            if theirs is None:
                continue
            same = _texts(first, opponent, split).items() & _texts(second, opponent, split).items()
            scores = ({i: pair.scores.get(i) for i, _ in same} for pair in (mine, theirs))
            tie = (first.recipe.get("evaluate") or {}).get("tie", 0.05)
            names = (f"{one}: {candidate}", f"{other}: {candidate}")
            made = paired_difference(names, opponent, str(first.critic.get("name")), split, *scores, tie=tie)
            if made.n:
                paired.append(made)
    return adjusted(paired)


def examples(runs: Named) -> list[tuple[str, list[tuple[str, str]]]]:
    """Some inputs that every run answered, drawn by a fixed seed: the literal, and each run's student with its text."""
    answers: list[Mapping[str, tuple[str, str]]] = []
    for _, s in runs:
        head = headline(s)
        answers.append({key(x.literal): (x.literal, x.answers[head]) for x in s.samples if head in x.answers})
    shared = [name for name in answers[0] if all(name in own for own in answers)] if answers else []
    chosen = random.Random(0).sample(shared, min(SHOWN, len(shared)))
    heads = [f"{name}: {headline(s)}" for name, s in runs]
    return [
        (answers[0][name][0], [(head, own[name][1]) for head, own in zip(heads, answers, strict=True)])
        for name in chosen
    ]


def _judge(s: RunSummary) -> tuple[Any, Any]:
    return s.critic.get("name"), s.recipe.get("copies_lose")


def _texts(s: RunSummary, system: str, split: str) -> dict[str, str]:
    return {x.example_id: x.answers[system] for x in s.samples if x.split == split and system in x.answers}
