"""Candidates: three ways to draw them, duplicates kept on record with their reason, what is missing drawn again."""

from __future__ import annotations

from collections.abc import Sequence

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
    """A student whose every nucleus sample is new by seed, and whose beams repeat one another."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, Sampling | DiverseBeams, int]] = []

    def generate(self, prompts: Sequence[str], how: Sampling | DiverseBeams, k: int = 1) -> list[list[Generated]]:
        self.calls.append((len(prompts), how, k))
        if isinstance(how, DiverseBeams):
            return [[Generated(f"Beam {i // 2} of {p}.", False) for i in range(k)] for p in prompts]
        return [[Generated(f"Sample {how.seed % 997} {i} of {p}.", i == 1) for i in range(k)] for p in prompts]


def draw(settings: AnyCandidates | DecodeSettings, start: int = 0) -> tuple[list[list[Response]], Script]:
    script = Script()
    chunks = sampled(lambda: script, "student:x", lambda t: t, EXAMPLES, settings, 3, "sample")  # type: ignore[arg-type,return-value]
    return [list(chunk) for chunk in chunks(start)], script


def test_nucleus_draws_k_and_keeps_the_truncated_on_record() -> None:
    chunks, script = draw(SampleSettings(k=3, rows=2))
    assert [len(chunk) for chunk in chunks] == [6, 6, 3]
    assert [call[::2] for call in script.calls] == [(2, 3), (2, 3), (1, 3)]
    assert [r.status for r in chunks[2]] == ["ok", "truncated", "ok"]
    assert [r.sampling.index for r in chunks[2] if r.sampling] == [0, 1, 2]


def test_diverse_beams_are_deduplicated_and_topped_up_to_k() -> None:
    (chunk,), script = draw(DiverseBeamSettings(k=4, rows=9))
    own = [r for r in chunk if r.example_id == EXAMPLES[0].id]
    assert [r.status for r in own] == ["ok", "duplicate", "ok", "duplicate", "ok", "truncated"]
    assert [type(how).__name__ for _, how, _ in script.calls] == ["DiverseBeams", "Sampling"]
    assert script.calls[0][1] == DiverseBeams(groups=4, penalty=1.0, max_tokens=48)
    assert own[0].sampling == DiverseBeams(groups=4, penalty=1.0, max_tokens=48, index=0)


def test_topping_up_goes_on_as_often_as_asked_and_asks_for_what_is_missing() -> None:
    (chunk,), script = draw(DiverseBeamSettings(k=4, rows=9, top_up=3))
    usable = [r for r in chunk if r.example_id == EXAMPLES[0].id and r.usable]
    assert len(usable) == 4
    assert [k for _, _, k in script.calls] == [4, 2, 1]
    assert len({how.seed for _, how, _ in script.calls if isinstance(how, Sampling)}) == 2


def test_nothing_is_topped_up_where_nothing_is_missing() -> None:
    _, script = draw(SampleSettings(k=1, rows=9, top_up=5))
    assert len(script.calls) == 1


def test_mixed_is_some_of_each() -> None:
    _, script = draw(MixedSettings(k=5, beams=2, rows=9, top_up=0))
    assert [(type(how).__name__, k) for _, how, k in script.calls] == [("DiverseBeams", 2), ("Sampling", 3)]


@pytest.mark.parametrize("settings", [SampleSettings(rows=2), DiverseBeamSettings(rows=2, k=3), MixedSettings(rows=2)])
def test_chunks_are_the_same_from_wherever_they_start(settings: AnyCandidates) -> None:
    assert draw(settings, 1)[0] == draw(settings)[0][1:]


def test_decoding_is_one_text_by_beams() -> None:
    (chunk,), script = draw(DecodeSettings(rows=9, beams=5))
    assert len(chunk) == 5
    assert script.calls == [(5, Sampling(beams=5, max_tokens=48, seed=3 * 100_003), 1)]


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
