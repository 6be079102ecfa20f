"""Example -> k attempts of the student, deduplicated, with whatever is unusable kept on record and its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pydantic import Field

from understudy.progress import bar
from understudy.records import Example, Response, Sampling
from understudy.settings import Settings
from understudy.store import Chunks
from understudy.students import Generated, Student
from understudy.text import degenerate, normalise


class SampleSettings(Settings):
    """k candidates by nucleus sampling (Ravi et al. 2024 sec. 3.2: k = 6). ``rows`` prompts share a batch."""

    k: int = Field(6, ge=1)
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(48, ge=1)
    rows: int = Field(16, ge=1)


class DecodeSettings(Settings):
    """How a student writes its one answer: beam search (Ravi et al. 2024 sec. 4: 5 beams); ``beams`` 1 is greedy."""

    beams: int = Field(5, ge=1)
    max_tokens: int = Field(48, ge=1)
    rows: int = Field(16, ge=1)


def sampled(
    student: Callable[[], Student],
    author: str,
    prompt: Callable[[str], str],
    examples: Sequence[Example],
    settings: SampleSettings | DecodeSettings,
    seed: int,
    stage: str,
) -> Chunks:
    """Chunks of responses to ``examples`` for :meth:`RunFolder.rows`; each chunk has its own seed, so that a resumed
    run draws what the uninterrupted one would. Like lengths share a batch, to waste little padding."""
    ordered = sorted(examples, key=lambda e: (len(e.text), e.id))
    parts = [ordered[i : i + settings.rows] for i in range(0, len(ordered), settings.rows)]

    def chunks(start: int) -> Iterator[list[Response]]:
        with bar(stage, len(ordered), "literals", done=sum(map(len, parts[:start]))) as step:
            for number in range(start, len(parts)):
                how, k = _sampling(settings, seed * 100_003 + number)
                texts = student().generate([prompt(e.text) for e in parts[number]], how, k)
                yield [r for e, row in zip(parts[number], texts, strict=True) for r in _responses(e, row, author, how)]
                step(len(parts[number]))

    return chunks


def _sampling(settings: SampleSettings | DecodeSettings, seed: int) -> tuple[Sampling, int]:
    if isinstance(settings, DecodeSettings):
        return Sampling(beams=settings.beams, max_tokens=settings.max_tokens, seed=seed), 1
    return Sampling(
        temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens, seed=seed
    ), settings.k


def _responses(example: Example, texts: Sequence[Generated], author: str, how: Sampling) -> Iterator[Response]:
    seen: set[str] = set()
    for index, generated in enumerate(texts):
        key = normalise(generated.text).casefold()
        reason = degenerate(generated.text, example.text) or ("truncated" if generated.truncated else "")
        if not reason and key in seen:
            reason = "duplicate"
        seen.add(key)
        sampling = how.model_copy(update={"index": index})
        yield Response(example_id=example.id, text=generated.text, author=author, sampling=sampling, dropped=reason)
