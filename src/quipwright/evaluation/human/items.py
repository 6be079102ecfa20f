"""The pairs that people are asked to rate: made of a run's outputs, with attention checks strewn in."""

from __future__ import annotations

from collections.abc import Sequence

from quipwright.core.errors import RunError
from quipwright.core.records import Pair, Record, content_hash
from quipwright.core.results import Sample
from quipwright.data.task import OVERALL
from quipwright.evaluation.pairwise import SELECTOR

CHECK = "check"


class Item(Record):
    """A pair to rate: text A of ``candidate`` and text B of ``baseline``, with the ``questions`` asked about it, in order.

    Authors are named as in ``Response`` where the run knows them, else by system; a page must never show them. The text
    B of an attention ``check`` is known to be worse.
    """

    pair: Pair
    literal: str
    a: str
    b: str
    candidate: str
    baseline: str
    author_a: str
    author_b: str
    questions: tuple[str, ...]
    split: str = ""
    check: bool = False


def items_of_run(
    samples: Sequence[Sample],
    systems: Sequence[str],
    questions: Sequence[str],
    limit: int | None = None,
    checks: int = 0,
) -> list[Item]:
    """Pairs to rate: each system but the last against the last one, on a run's evaluation inputs.

    Identical answers are left out: there is nothing to choose. ``limit`` inputs, spread by a hash so that several
    invocations choose alike; ``checks`` attention checks are added. ``questions`` are the task's. Raises
    :class:`RunError` for an unknown system.
    """
    known = list(dict.fromkeys(name for sample in samples for name in sample.answers))
    for name in systems:
        if name not in known:
            raise RunError(f"This run has no answers of {name!r}.", f"It has: {', '.join(known)}.")
    *candidates, baseline = systems
    chosen = sorted(samples, key=lambda s: content_hash("rate", s.literal))[:limit]
    pairs = [(sample, name) for sample in chosen for name in candidates]
    items = [
        _item(sample, name, baseline, questions)
        for sample, name in pairs
        if {name, baseline} <= sample.answers.keys()
        and sample.answers[name].strip() != sample.answers[baseline].strip()
    ]
    return items + [_check(item) for item in items[:checks]]


def _item(sample: Sample, candidate: str, baseline: str, questions: Sequence[str]) -> Item:
    ids, authors, texts = sample.response_ids, sample.authors, sample.answers
    pair = Pair(
        example_id=sample.example_id,
        a_id=ids.get(candidate) or content_hash(sample.example_id, candidate, texts[candidate]),
        b_id=ids.get(baseline) or content_hash(sample.example_id, baseline, texts[baseline]),
        selector=SELECTOR,
    )
    return Item(
        pair=pair,
        literal=sample.literal,
        a=texts[candidate],
        b=texts[baseline],
        candidate=candidate,
        baseline=baseline,
        author_a=authors.get(candidate, candidate),
        author_b=authors.get(baseline, baseline),
        questions=tuple(questions),
        split=sample.split,
    )


def _check(item: Item) -> Item:
    """A check from a real item: text B is its A with the words in the wrong order."""
    garbled = " ".join(reversed(item.a.split()))
    pair = item.pair.model_copy(update={"b_id": content_hash(garbled), "selector": CHECK})
    return item.model_copy(
        update={
            "pair": pair, "b": garbled, "author_a": item.candidate, "author_b": CHECK, "baseline": CHECK,
            "questions": (OVERALL,), "split": "", "check": True,
        }
    )  # fmt: skip
