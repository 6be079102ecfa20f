"""Example -> k attempts of the student, deduplicated, with whatever is unusable kept on record and its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from quipwright.core.progress import bar
from quipwright.core.records import DiverseBeams, Example, Response, Sampling, Status
from quipwright.core.settings import Settings
from quipwright.core.storage.stage_cache import Chunks
from quipwright.core.text import degenerate, normalise
from quipwright.students.base import Generated, Student


class SampleSettings(Settings):
    """k candidates by nucleus sampling (Ravi et al. 2024 sec. 3.2: k = 6). ``rows`` prompts share a batch.

    ``top_up``: how often new samples replace those that were duplicates or unusable, at most.
    """

    kind: Literal["nucleus"] = "nucleus"
    k: int = Field(6, ge=1)
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(48, ge=1)
    rows: int = Field(16, ge=1)
    top_up: int = Field(0, ge=0, le=10)


class DiverseBeamSettings(Settings):
    """k candidates by diverse beam search (the paper's other way), one beam a group, ``penalty`` nats a vote.

    Beams repeat one another, so nucleus samples (``temperature``, ``top_p``) top up what is missing to k.
    """

    kind: Literal["diverse_beam"] = "diverse_beam"
    k: int = Field(6, ge=1)
    penalty: float = Field(1.0, ge=0)
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(48, ge=1)
    rows: int = Field(16, ge=1)
    top_up: int = Field(1, ge=0, le=10)


class MixedSettings(Settings):
    """k candidates of which ``beams`` are diverse beams and the rest nucleus samples."""

    kind: Literal["mixed"] = "mixed"
    k: int = Field(6, ge=1)
    beams: int = Field(3, ge=1)
    penalty: float = Field(1.0, ge=0)
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(48, ge=1)
    rows: int = Field(16, ge=1)
    top_up: int = Field(1, ge=0, le=10)

    @model_validator(mode="after")
    def _some_of_k(self) -> MixedSettings:
        if self.beams > self.k:
            raise ValueError(f"beams is {self.beams}, more than k = {self.k}; use at most k")
        return self


AnyCandidates = SampleSettings | DiverseBeamSettings | MixedSettings
Candidates = Annotated[AnyCandidates, Field(discriminator="kind")]


class DecodeSettings(Settings):
    """How a student writes its one answer: beam search (Ravi et al. 2024 sec. 4: 5 beams); ``beams`` 1 is greedy."""

    beams: int = Field(5, ge=1)
    max_tokens: int = Field(48, ge=1)
    rows: int = Field(16, ge=1)


def round_seed(seed: int, round: int) -> int:
    """The seed of round ``round`` (from 1) in a run of ``seed``: the run's own in the first, and far from the seeds of
    all chunks and top-ups of earlier rounds in each later one, so that every round draws fresh numbers."""
    return seed + (round - 1) * 10**9


def sampled(
    student: Callable[[], Student],
    author: str,
    prompt: Callable[[str], str],
    examples: Sequence[Example],
    settings: AnyCandidates | DecodeSettings,
    seed: int,
    stage: str,
) -> Chunks[Response]:
    """Chunks of responses to ``examples`` for :meth:`RunFolder.rows`; each chunk has its own seed, so that a resumed
    run draws what the uninterrupted one would. Like lengths share a batch, to waste little padding."""
    ordered = sorted(examples, key=lambda e: (len(e.text), e.id))
    parts = [ordered[i : i + settings.rows] for i in range(0, len(ordered), settings.rows)]

    def chunks(start: int) -> Iterator[list[Response]]:
        with bar(stage, len(ordered), "literals", done=sum(map(len, parts[:start]))) as step:
            for number in range(start, len(parts)):
                batch = _Batch(student, author, parts[number], [prompt(e.text) for e in parts[number]])
                for how, k in _draws(settings, seed * 100_003 + number):
                    batch.draw(how, k)
                if not isinstance(settings, DecodeSettings):
                    for attempt in range(1, settings.top_up + 1):
                        # far from every chunk's own seed
                        batch.top_up(settings, settings.k, seed * 100_003 + number + attempt * 10**12)
                yield [response for own in batch.found for response in own]
                step(len(parts[number]))

    return chunks


def _draws(settings: AnyCandidates | DecodeSettings, seed: int) -> list[tuple[Sampling | DiverseBeams, int]]:
    """How the texts of a chunk are drawn, and how many each way."""
    if isinstance(settings, DecodeSettings):
        return [(Sampling(beams=settings.beams, max_tokens=settings.max_tokens, seed=seed), 1)]
    if isinstance(settings, SampleSettings):
        return [(_nucleus(settings, seed), settings.k)]
    groups = settings.k if isinstance(settings, DiverseBeamSettings) else min(settings.beams, settings.k)
    beams = DiverseBeams(groups=groups, penalty=settings.penalty, max_tokens=settings.max_tokens)
    return [(beams, groups), *([(_nucleus(settings, seed), settings.k - groups)] if groups < settings.k else [])]


def _nucleus(settings: AnyCandidates, seed: int) -> Sampling:
    return Sampling(temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens, seed=seed)


class _Batch:
    """The responses to one chunk's examples as they come in; what repeats or is unusable keeps its reason."""

    def __init__(
        self, student: Callable[[], Student], author: str, examples: Sequence[Example], prompts: Sequence[str]
    ) -> None:
        self.student, self.author, self.examples, self.prompts = student, author, examples, prompts
        self.found: list[list[Response]] = [[] for _ in examples]
        self.seen: list[set[str]] = [set() for _ in examples]

    def draw(self, how: Sampling | DiverseBeams, k: int) -> None:
        """``k`` more texts an example."""
        for row, texts in enumerate(self.student().generate(self.prompts, how, k)):
            for generated in texts:
                self._add(row, generated, how)

    def top_up(self, settings: AnyCandidates, k: int, seed: int) -> None:
        """Samples for the examples with fewer than ``k`` usable texts, as many as each lacks."""
        lacking = {row: k - sum(r.usable for r in own) for row, own in enumerate(self.found)}
        rows = [row for row, missing in lacking.items() if missing > 0]
        if not rows:
            return
        how = _nucleus(settings, seed)
        drawn = self.student().generate([self.prompts[row] for row in rows], how, max(lacking.values()))
        for row, texts in zip(rows, drawn, strict=True):
            for generated in texts[: lacking[row]]:
                self._add(row, generated, how)

    def _add(self, row: int, generated: Generated, how: Sampling | DiverseBeams) -> None:
        example, key = self.examples[row], normalise(generated.text).casefold()
        fault = degenerate(generated.text, example.text)
        status = Status(fault) if fault else Status.TRUNCATED if generated.truncated else Status.OK
        if status is Status.OK and key in self.seen[row]:
            status = Status.DUPLICATE
        self.seen[row].add(key)
        sampling = how.model_copy(update={"index": len(self.found[row])})
        self.found[row].append(
            Response(example_id=example.id, text=generated.text, author=self.author, sampling=sampling, status=status)
        )
