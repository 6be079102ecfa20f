"""A pair of texts with what people, or a model, said of it."""

from __future__ import annotations

from typing import Literal

from quipwright.core.records import Comparison, Example, Pair, Record, Response
from quipwright.core.statistics import Choice

Labellers = Literal["people", "a model", ""]
"""Who gave labels; empty is unknown."""


class LabelledPair(Record):
    """Two texts with verdicts: ``votes[question][annotator]`` is ``A``, ``B`` or ``tie``.

    ``literal`` is ``None`` where the texts stand alone; authors are named as in ``Response`` where known. ``labelled_by``: who
    gave the verdicts.
    """

    literal: str | None
    a: str
    b: str
    votes: dict[str, dict[str, Choice]]
    author_a: str = ""
    author_b: str = ""
    split: str = ""
    labelled_by: Labellers = ""

    def comparison(self) -> Comparison:
        """The pair as a critic is shown it."""
        literal = self.literal or ""
        example = Example(text=literal, split="test", source="labels")
        a, b = (
            Response(example_id=example.id, text=text, author=author or "unknown")
            for text, author in ((self.a, self.author_a), (self.b, self.author_b))
        )
        pair = Pair(example_id=example.id, a_id=a.id, b_id=b.id, selector="labels")
        return Comparison(pair, literal, self.a, self.b)
