"""Harm beside every rate: read once a text, shown with its interval, and unknown where nobody read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quipwright.core.records import Example, Response
from quipwright.critics.heuristics import HeuristicCritic
from quipwright.data.care.judgment import Care, word_list
from quipwright.evaluation.compare import compare
from quipwright.evaluation.harm import HARM_NOTE, harm
from quipwright.evaluation.quality import quality
from quipwright.evaluation.report.latex import compare_latex
from quipwright.evaluation.report.terminal import compare_lines, pairwise_block
from quipwright.evaluation.systems import Output, Outputs, key

EXAMPLES = [Example(text=f"The bus {i} was late.", split="test") for i in range(4)]
KIND = ["It came on time in the end.", "My dad died waiting.", "It sulked.", "It took a bath."]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the judgment was asked about; the word list decides alone."""
    care, texts = Care(None, word_list()), list[str]()

    def kinds(given: Sequence[str]) -> list[str]:
        texts.extend(given)
        return care.kinds(given)

    monkeypatch.setattr("quipwright.evaluation.harm.sensitive_kinds", kinds)
    return texts


def answers(texts: Sequence[str], author: str) -> list[Response]:
    return [Response(example_id=e.id, text=t, author=author) for e, t in zip(EXAMPLES, texts, strict=True)]


def test_a_text_that_two_systems_share_is_read_once(asked: list[str]) -> None:
    read = harm([*answers(KIND, "a"), *answers(KIND, "b")])
    assert asked == KIND
    assert [one.kind for one in read] == ["", "death", "", ""] * 2


def test_a_share_has_its_interval_and_is_unknown_without_a_reading(asked: list[str]) -> None:
    responses = answers(KIND, "a")
    system = dict(zip([e.id for e in EXAMPLES], responses, strict=True))
    harmful = {one.response_id: one.kind for one in harm(responses)}
    look = quality("a", "test", system, EXAMPLES, {}, harmful=harmful)
    assert look is not None
    # Wilson 1927 for one in four: centre (1/4 + z²/8) / (1 + z²/4), z = 1.96
    assert (look.harm.value, look.harm.low, look.harm.high) == pytest.approx((0.25, 0.0456, 0.6994), abs=1e-4)
    unread = quality("a", "test", system, EXAMPLES, {})
    assert unread is not None
    assert unread.harm.value is None


def test_compare_shows_harm_beside_the_rate(asked: list[str]) -> None:
    systems = [
        Outputs(name, {key(e.text): Output(e.text, t, "test") for e, t in zip(EXAMPLES, texts, strict=True)})
        for name, texts in (("hurtful", KIND), ("gentle", [*KIND[:1], "It yawned.", *KIND[2:]]))
    ]
    result = compare(systems, [HeuristicCritic("longer")], resamples=50)
    block = pairwise_block(result.pairwise[0], result.quality)
    line = next(line for line in block.splitlines() if "harm" in line)
    assert line.split() == ["harm", "25", "[5,", "70]", "gentle", "0", "[0,", "49]"]
    assert "harm" not in pairwise_block(result.pairwise[0])
    text = "\n".join(compare_lines(result))
    assert HARM_NOTE.split()[0] in text
    assert compare_latex(result).splitlines()[2].endswith("harm \\\\")
