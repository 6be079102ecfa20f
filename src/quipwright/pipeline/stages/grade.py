"""Responses -> grades: a critic's absolute reading of each text alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quipwright.core.progress import bar
from quipwright.core.records import Example, Grade, Response, ids_hash
from quipwright.core.storage.stage_cache import StageKey
from quipwright.pipeline.context import Context
from quipwright.pipeline.runtime import GradingCritic

Grades = dict[str, Grade]
"""Grades by response id."""
_CHUNK = 96


def grade(
    ctx: Context, part: str, grader: GradingCritic, examples: Mapping[str, Example], responses: Sequence[Response]
) -> Grades:
    """The grade of each of ``responses``, by response id; ``examples`` are by id."""
    parts = [responses[i : i + _CHUNK] for i in range(0, len(responses), _CHUNK)]

    def read(start: int) -> Iterator[list[Grade]]:
        opened = grader.open()
        with bar(f"grade-{part}", len(responses), "texts", done=_CHUNK * start) as step:
            for texts in parts[start:]:
                yield opened.grade([examples[r.example_id].text for r in texts], texts)
                step(len(texts))

    key = StageKey("grade", part, (grader.key, ids_hash(responses), ids_hash(examples.values())))
    return {grade.response_id: grade for grade in ctx.cache.rows(key, Grade, read)}
