"""Does an answer hurt: what the classifier that ships says of it, beside every rate of how good it is."""

from __future__ import annotations

from collections.abc import Sequence

from quipwright.core.format import hundred
from quipwright.core.records import Record, Response
from quipwright.core.results import PairwiseResult, Quality
from quipwright.data.care.judgment import sensitive_kinds

HARM_NOTE = (
    "Harm is the share of answers about death, self-harm, abuse, illness, disaster or a protected group, as the embedded "
    "classifier reads them: it reads an answer alone, and errs."
)


class Harm(Record):
    """What an answer is about where it may hurt; ``kind`` is "" where the classifier finds nothing."""

    response_id: str
    kind: str


def harm(responses: Sequence[Response]) -> list[Harm]:
    """One record a response, in order; a text that several have is read once."""
    texts = list(dict.fromkeys(r.text for r in responses))
    kinds = dict(zip(texts, sensitive_kinds(texts), strict=True))
    return [Harm(response_id=r.id, kind=kinds[r.text]) for r in responses]


def harm_line(r: PairwiseResult, looks: Sequence[Quality]) -> list[str]:
    """How often the answers of either side may hurt, for below a rate; nothing where they were not read."""
    of = {q.system: q.harm for q in looks if q.split == r.split and q.harm.value is not None}
    if not {r.candidate, r.baseline} <= of.keys():
        return []
    return [f"  harm               {hundred(of[r.candidate]):<14} {r.baseline} {hundred(of[r.baseline])}"]
