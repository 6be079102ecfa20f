"""Candidates: three ways to draw them, duplicates kept on record with their reason, what is missing drawn again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import RecipeError
from quipwright.core.records import DiverseBeams, Example, Response, Sampling
from quipwright.pipeline.recipe import Recipe
from quipwright.students.base import Generated
from quipwright.training.preference.candidates import (
    AnyCandidates,
    DecodeSettings,
    DiverseBeamSettings,
    MixedSettings,
    SampleSettings,
    sampled,
)

EXAMPLES = [Example(text=f"My train number {i} was late.") for i in range(5)]


class Script:
    """A student whose nucleus samples tell their seed and number, every second one cut off, and whose beams repeat one
    another. It finishes the prompts in the order of their last letters."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, Sampling | DiverseBeams, int]] = []

    def write(
        self, prompts: Sequence[str], how: Sampling | DiverseBeams, k: int = 1
    ) -> Iterator[tuple[int, list[Generated]]]:
        self.calls.append((len(prompts), how, k))
        for number in sorted(range(len(prompts)), key=lambda i: prompts[i][::-1]):
            if isinstance(how, DiverseBeams):
                yield number, [Generated(f"Beam {i // 2} of {prompts[number]}.", False) for i in range(k)]
            else:
                numbers = range(how.index, how.index + k)
                yield (
                    number,
                    [Generated(f"Sample {how.seed} {i} of {prompts[number]}.", i % 2 == 1) for i in numbers],
                )


def draw(settings: AnyCandidates | DecodeSettings, start: int = 0) -> tuple[list[list[Response]], Script]:
    script = Script()
    chunks = sampled(lambda: script, "student:x", lambda t: t, EXAMPLES, settings, 3, "sample")  # type: ignore[arg-type,return-value]
    return [list(chunk) for chunk in chunks(start)], script


def test_nucleus_draws_k_and_keeps_the_truncated_on_record() -> None:
    chunks, script = draw(SampleSettings(k=3))
    assert [len(chunk) for chunk in chunks] == [3] * 5
    assert script.calls == [(5, Sampling(temperature=0.8, top_p=0.95, max_tokens=48, seed=3), 3)]
    assert [r.status for r in chunks[2]] == ["ok", "truncated", "ok"]
    assert [r.sampling.index for r in chunks[2] if r.sampling] == [0, 1, 2]


def test_examples_are_stored_longest_first_however_they_end() -> None:
    examples = [Example(text=f"It rained {'very ' * i}much in {place}.") for i, place in enumerate("xaby")]
    chunks = sampled(Script, "student:x", lambda t: t, examples, SampleSettings(k=1), 3, "sample")  # type: ignore[arg-type]
    assert [[r.example_id for r in chunk] for chunk in chunks(0)] == [[e.id] for e in examples[::-1]]


def test_what_is_finished_is_given_before_the_others_are_written() -> None:
    begun: list[int] = []

    class Slow(Script):
        def write(self, prompts: Sequence[str], how: Any, k: int = 1) -> Iterator[tuple[int, list[Generated]]]:
            for number, texts in enumerate([Generated("Ha.", False)] * k for _ in prompts):
                begun.append(number)
                yield number, texts

    chunks = sampled(Slow, "student:x", lambda t: t, EXAMPLES, SampleSettings(k=2), 3, "sample")  # type: ignore[arg-type]
    assert len(next(iter(chunks(0)))) == 2
    assert begun == [0]


def test_diverse_beams_are_deduplicated_and_topped_up_to_k() -> None:
    chunks, script = draw(DiverseBeamSettings(k=4))
    assert [r.status for r in chunks[0]] == ["ok", "duplicate", "ok", "duplicate", "ok", "truncated"]
    assert script.calls == [
        (5, DiverseBeams(groups=4, penalty=1.0, max_tokens=48), 4),
        (5, Sampling(temperature=0.8, top_p=0.95, max_tokens=48, seed=3, index=4), 2),
    ]
    assert [r.sampling.index for r in chunks[0] if r.sampling] == [0, 1, 2, 3, 4, 5]


def test_topping_up_goes_on_as_often_as_asked_and_asks_for_what_is_missing() -> None:
    chunks, script = draw(DiverseBeamSettings(k=4, top_up=3))
    assert sum(r.usable for r in chunks[0]) == 4
    assert [(k, how.index) for _, how, k in script.calls] == [(4, 0), (2, 4), (1, 8)]


def test_each_example_gets_as_many_as_it_lacks() -> None:
    class Uneven(Script):
        def write(self, prompts: Sequence[str], how: Any, k: int = 1) -> Iterator[tuple[int, list[Generated]]]:
            for number, texts in super().write(prompts, how, k):
                first = how.index == 0 and "number 1" in prompts[number]
                yield number, [Generated("Same.", False)] * k if first else texts

    script = Uneven()
    chunks = sampled(lambda: script, "x", lambda t: t, EXAMPLES[:2], SampleSettings(k=4, top_up=1), 3, "sample")  # type: ignore[arg-type,return-value]
    given = {chunk[0].example_id: [r.usable for r in chunk] for chunk in chunks(0)}
    assert given[EXAMPLES[0].id] == [True, False, True, False, True, False]  # two were missing
    assert given[EXAMPLES[1].id] == [True, False, False, False, True, False, True]  # three were
    assert [(count, k) for count, _, k in script.calls] == [(2, 4), (1, 2), (1, 3)]


def test_nothing_is_topped_up_where_nothing_is_missing() -> None:
    _, script = draw(SampleSettings(k=1, top_up=5))
    assert len(script.calls) == 1


def test_mixed_is_some_of_each() -> None:
    _, script = draw(MixedSettings(k=5, beams=2, top_up=0))
    assert [(type(how).__name__, k) for _, how, k in script.calls] == [("DiverseBeams", 2), ("Sampling", 3)]


@pytest.mark.parametrize("settings", [SampleSettings(), DiverseBeamSettings(k=3), MixedSettings(), DecodeSettings()])
def test_a_resumed_run_draws_what_the_uninterrupted_one_would(settings: AnyCandidates | DecodeSettings) -> None:
    whole = draw(settings)[0]
    for start in range(6):
        assert draw(settings, start)[0] == whole[start:]


def test_a_finished_run_opens_no_student() -> None:
    assert draw(SampleSettings(), 5)[1].calls == []


def test_decoding_is_one_text_by_beams() -> None:
    chunks, script = draw(DecodeSettings(beams=5))
    assert [len(chunk) for chunk in chunks] == [1] * 5
    assert script.calls == [(5, Sampling(beams=5, max_tokens=48), 1)]


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.8), DiverseBeams(groups=3, penalty=0.5), None])
def test_a_response_comes_back_with_how_it_was_drawn(sampling: Sampling | DiverseBeams | None) -> None:
    response = Response(example_id="e", text="t", author="student:x", sampling=sampling)
    again = Response.from_line(response.to_line())
    assert again == response
    assert type(again.sampling) is type(sampling)


def test_recipes_name_the_kind_and_nucleus_is_the_default() -> None:
    def candidates(tree: dict[str, object]) -> AnyCandidates:
        return validate(Recipe, {"name": "r", "candidates": tree}, "Recipe").candidates

    assert candidates({"k": 4}) == SampleSettings(k=4)
    assert candidates({"kind": "diverse_beam", "penalty": 0.5}) == DiverseBeamSettings(penalty=0.5)
    assert candidates({"kind": "mixed", "beams": 2}) == MixedSettings(beams=2)
    with pytest.raises(RecipeError, match=r"candidates\.kind is 'greedy'"):
        candidates({"kind": "greedy"})
    with pytest.raises(RecipeError, match="more than k"):
        candidates({"kind": "mixed", "k": 2, "beams": 3})
    with pytest.raises(RecipeError, match=r"unknown key 'candidates.penality', the nearest valid one is 'penalty'"):
        candidates({"kind": "diverse_beam", "penality": 3})
