"""The noise floor of a win rate: how often a student wins or ties against its own second sample, by the same judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quipwright.core.records import Comparison, Example, Judgment, Response
from quipwright.core.results import Figure
from quipwright.evaluation.pairwise import comparisons, pairwise_result
from quipwright.pipeline.context import Context
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.runtime import Judge
from quipwright.pipeline.stages.judge import judge

Twice = Mapping[str, Sequence[Comparison]]
"""By student, its first sample against its second, an input at a time."""


def sampled_twice(drawn: Mapping[str, Mapping[str, Sequence[Response]]], examples: Sequence[Example]) -> Twice:
    """The first two usable samples of each student in ``drawn`` (responses by example id), as comparisons.

    They come from the draws of the best-of-N baselines where there are any.
    """
    result = {}
    for name, texts in drawn.items():
        usable = {e: [r for r in responses if r.usable][:2] for e, responses in texts.items()}
        whole = {e: two for e, two in usable.items() if len(two) == 2}
        halves = {"first": {e: a for e, (a, _) in whole.items()}, "second": {e: b for e, (_, b) in whole.items()}}
        if pairs := comparisons("first", "second", halves, examples):
            result[name] = pairs
    return result


def samples(twice: Twice, drawn: Mapping[str, Mapping[str, Sequence[Response]]]) -> list[Response]:
    """The responses that stand in ``twice``."""
    wanted = {text for pairs in twice.values() for c in pairs for text in (c.pair.a_id, c.pair.b_id)}
    return [r for texts in drawn.values() for own in texts.values() for r in own if r.id in wanted]


def noise_floors(
    ctx: Context, recipe: Recipe, part: str, reader: Judge, twice: Twice, judgments: dict[str, list[Judgment]]
) -> dict[str, Figure]:
    """The win-tie rate of each student against itself by ``reader``; its judgments are added to ``judgments``."""
    pairs = [c for own in twice.values() for c in own]
    if not pairs:
        return {}
    said = judge(ctx, f"{part}-twice", reader, pairs, copies_lose=recipe.copies_lose)
    judgments[f"judge-{part}-twice"] = said
    tie = recipe.evaluate.tie
    results = {
        name: pairwise_result((name, name), reader.name, part, own, said, tie=tie, resamples=100)
        for name, own in twice.items()
    }
    return {name: r.headline.rate for name, r in results.items() if r.n}
