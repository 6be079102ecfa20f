"""Responses -> grades: a critic's absolute reading of each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from quipwright.core.progress import bar
from quipwright.core.records import Example, Grade, Response, ids_hash
from quipwright.core.storage.shares import Parts
from quipwright.core.storage.stage_cache import StageKey
from quipwright.llm.request_batching import CHUNK, chunks, some_answered
from quipwright.pipeline.context import Context
from quipwright.pipeline.runtime import GradingCritic
from quipwright.pipeline.stages.teach import by_example

Grades = dict[str, Grade]
"""Grades by response id."""


def grade(
    ctx: Context, part: str, grader: GradingCritic, examples: Mapping[str, Example], responses: Sequence[Response]
) -> Grades:
    """The grade of each of ``responses``, by response id; ``examples`` are by id. Those of one example are read together.

    Raises :class:`~quipwright.core.errors.QuipwrightError` where no question at all was answered.
    """
    lists = list(by_example(responses).values())
    example_of = {r.id: r.example_id for r in responses}

    def read(chosen: Sequence[Sequence[Response]]) -> Iterator[list[Grade]]:
        if not chosen:
            return
        opened = grader.open()
        ctx.calls.note_capabilities()

        def ask(part: Sequence[Sequence[Response]]) -> list[Grade]:
            texts = [r for own in part for r in own]
            return opened.grade([examples[r.example_id].text for r in texts], texts)

        with bar(f"grade-{part}", len(lists), "literals", done=len(lists) - len(chosen)) as step:
            yield from chunks(
                chosen,
                0,
                ask,
                lambda own: own[0].example_id,
                lambda g: example_of[g.response_id],
                step,
                grader.window,
            )

    parts = Parts.of(lists, CHUNK, read)
    made = parts if grader.local else parts.__call__  # a model's answers are asked for by one process
    key = StageKey("grade", part, (grader.key, ids_hash(responses), ids_hash(examples.values()), CHUNK))
    return {grade.response_id: grade for grade in ctx.cache.rows(key, Grade, made, check=some_answered)}
