"""What small encoders read in the answers of an evaluation: how much of the meaning is kept, and whether it may hurt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quipwright.core.records import Example, Response, ids_hash
from quipwright.core.storage.stage_cache import StageKey, single_chunk
from quipwright.data.care.judgment import care_identity
from quipwright.evaluation.harm import Harm, harm
from quipwright.evaluation.similarity import PACKAGE, Kept, Meaning, packaged
from quipwright.pipeline.context import Context


def similarity(
    ctx: Context, split: str, examples: Mapping[str, Example], answers: Sequence[Response]
) -> dict[str, float]:
    """How much of its literal's meaning each answer keeps, by response id; nothing without the optional encoder."""
    if packaged() is None:
        return {}

    def measured() -> list[Kept]:
        encoder = Meaning.installed()
        return encoder.kept(answers, [examples[r.example_id].text for r in answers]) if encoder else []

    key = StageKey("similarity", split, (PACKAGE, ids_hash(answers), ids_hash(examples.values())))
    return {kept.response_id: kept.cosine for kept in ctx.cache.rows(key, Kept, single_chunk(measured))}


def harmful(ctx: Context, split: str, answers: Sequence[Response]) -> dict[str, str]:
    """What each answer that may hurt is about, by response id; "" for the others."""
    key = StageKey("harm", split, (care_identity(), ids_hash(answers)))
    return {read.response_id: read.kind for read in ctx.cache.rows(key, Harm, single_chunk(lambda: harm(answers)))}
