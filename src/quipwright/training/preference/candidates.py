"""Example -> k attempts of the student, deduplicated, with whatever is unusable kept on record and its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from quipwright.core.progress import bar
from quipwright.core.records import DiverseBeams, Example, Response, Sampling, Status
from quipwright.core.settings import Settings
from quipwright.core.storage.shares import Parts
from quipwright.core.text import degenerate, normalise
from quipwright.students.base import Generated, Student


class SampleSettings(Settings):
    """k candidates by nucleus sampling (Ravi et al. 2024 sec. 3.2: k = 6).

    ``top_up``: how often new samples replace those that were duplicates or unusable, at most.
    """

    kind: Literal["nucleus"] = "nucleus"
    k: int = Field(6, ge=1)
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(48, ge=1)
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


Write = Callable[..., Iterator[tuple[int, list[Generated]]]]
"""``write`` of the ``Student`` protocol."""
DRAWN_TOGETHER = 128
"""Examples that are finished before others begin, where each is drawn for more than once."""


def round_seed(seed: int, round: int) -> int:
    """The seed of round ``round`` (from 1) in a run of ``seed``: the run's own in the first, and far from those of other
    runs in each later one, so that every round draws fresh numbers."""
    return seed + (round - 1) * 10**9


def sampled(
    student: Callable[[], Student],
    author: str,
    prompt: Callable[[str], str],
    examples: Sequence[Example],
    settings: AnyCandidates | DecodeSettings,
    seed: int,
    stage: str,
    style: str = "",
) -> Parts[Response]:
    """The responses to each of ``examples``, longest first: a chunk an example, for ``StageCache.rows``.

    ``prompt`` makes of a literal what the student is shown; ``style`` is the one that it asks for.
    All prompts are handed to the student together. A text depends on ``seed``, its prompt and its sample number alone,
    so a resumed run draws what the uninterrupted one would.
    """
    ordered = sorted(examples, key=lambda e: (-len(e.text), e.id))

    def make(chosen: Sequence[Example]) -> Iterator[list[Response]]:
        if not chosen:
            return
        write = student().write
        together = len(ordered) if _once(settings) else DRAWN_TOGETHER
        with bar(stage, len(ordered), "literals", done=len(ordered) - len(chosen)) as step:
            for begin in range(0, len(chosen), together):
                attempts = [_Attempts(author, e, prompt(e.text), style) for e in chosen[begin : begin + together]]
                for one in _in_order(attempts, _finished(write, attempts, settings, seed)):
                    yield one.responses
                    step(1)

    return Parts.of(ordered, 1, make)


class _Attempts:
    """The responses to one example as they come in; what repeats or is unusable keeps its reason."""

    def __init__(self, author: str, example: Example, prompt: str, style: str) -> None:
        self.author, self.example, self.prompt, self.style = author, example, prompt, style
        self.responses: list[Response] = []
        self._seen: set[str] = set()

    @property
    def usable(self) -> int:
        """How many of them can be used."""
        return sum(response.usable for response in self.responses)

    def add(self, texts: Sequence[Generated], sampling: Sampling | DiverseBeams) -> None:
        """Add ``texts``, the first of which has the number that ``sampling`` says."""
        for number, generated in enumerate(texts, sampling.index):
            key = normalise(generated.text).casefold()
            fault = degenerate(generated.text, self.example.text)
            status = Status(fault) if fault else Status.TRUNCATED if generated.truncated else Status.OK
            if status is Status.OK and key in self._seen:
                status = Status.DUPLICATE
            self._seen.add(key)
            self.responses.append(
                Response(
                    example_id=self.example.id,
                    text=generated.text,
                    author=self.author,
                    style=self.style,
                    sampling=sampling.model_copy(update={"index": number}),
                    status=status,
                )
            )


def _in_order(attempts: Sequence[_Attempts], finished: Iterable[_Attempts]) -> Iterator[_Attempts]:
    """``attempts`` in their own order, each as soon as it and all before it are ``finished``."""
    done: set[int] = set()
    place = 0
    for one in finished:
        done.add(id(one))
        while place < len(attempts) and id(attempts[place]) in done:
            yield attempts[place]
            place += 1


def _finished(
    write: Write, attempts: Sequence[_Attempts], settings: AnyCandidates | DecodeSettings, seed: int
) -> Iterator[_Attempts]:
    """``attempts`` as soon as nothing more will be added to them.

    Top-up t draws sample numbers from t k on, as many as usable texts are missing from k.
    """
    *first, (sampling, count) = _draws(settings, seed)
    for other_sampling, other_count in first:
        for _ in _drawn(write, attempts, other_sampling, other_count):
            pass
    if isinstance(settings, DecodeSettings):
        yield from _drawn(write, attempts, sampling, count)
        return
    wanted, top_ups = settings.k, settings.top_up
    lacking = []
    for one in _drawn(write, attempts, sampling, count):
        if top_ups and one.usable < wanted:
            lacking.append(one)
        else:
            yield one
    for top_up in range(1, top_ups + 1):
        again = _nucleus(settings, seed, top_up * wanted)
        groups = {
            missing: [one for one in lacking if wanted - one.usable == missing] for missing in range(1, wanted + 1)
        }
        lacking = []
        for missing, group in groups.items():
            for one in _drawn(write, group, again, missing):
                if top_up < top_ups and one.usable < wanted:
                    lacking.append(one)
                else:
                    yield one


def _drawn(
    write: Write, attempts: Sequence[_Attempts], sampling: Sampling | DiverseBeams, count: int
) -> Iterator[_Attempts]:
    """``attempts`` with ``count`` more texts each, as they are written."""
    if attempts:
        for number, texts in write([one.prompt for one in attempts], sampling, count):
            attempts[number].add(texts, sampling)
            yield attempts[number]


def _once(settings: AnyCandidates | DecodeSettings) -> bool:
    """Whether no example is drawn for a second time."""
    return len(_draws(settings, 0)) == 1 and (isinstance(settings, DecodeSettings) or not settings.top_up)


def _draws(settings: AnyCandidates | DecodeSettings, seed: int) -> list[tuple[Sampling | DiverseBeams, int]]:
    """How the texts of an example are drawn, and how many each way."""
    if isinstance(settings, DecodeSettings):
        return [(Sampling(beams=settings.beams, max_tokens=settings.max_tokens), 1)]
    if isinstance(settings, SampleSettings):
        return [(_nucleus(settings, seed), settings.k)]
    groups = settings.k if isinstance(settings, DiverseBeamSettings) else min(settings.beams, settings.k)
    beams = DiverseBeams(groups=groups, penalty=settings.penalty, max_tokens=settings.max_tokens)
    return [(beams, groups), *([(_nucleus(settings, seed), settings.k - groups)] if groups < settings.k else [])]


def _nucleus(settings: AnyCandidates, seed: int, first: int = 0) -> Sampling:
    """Samples from number ``first`` on."""
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=seed,
        index=first,
    )
