"""Plain features by hand, and the fit of their weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from quipwright.critics.reward_model.features import FeatureReader, fit_features, lexical
from quipwright.critics.reward_model.model import RewardArchitecture

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


def test_features_by_hand() -> None:
    recall, distance, length, novel, repeats = lexical("The cat ate my fish", "The cat stole my fish today")
    assert recall == pytest.approx(4 / 5)
    assert novel == pytest.approx(2 / 6)
    assert length == pytest.approx(math.log(7 / 6))
    assert 0 < distance < 1
    assert repeats == 0
    assert lexical("a b", "a b")[:2] == (1.0, 0.0)


def test_plain_likelihood_features_are_the_models_own(tiny_weights: Path) -> None:
    shape = RewardArchitecture(prompt=PROMPT)
    reader = FeatureReader(str(tiny_weights), None, shape.prompt, shape.backward)
    features = reader.read([LITERAL, LITERAL], [TEXTS[0], TEXTS[2]])
    again = reader.read([LITERAL], [TEXTS[2]])
    assert features[1] == pytest.approx(again[0], abs=0.02)
    assert (features[:, 0] < 0).all()
    weights = fit_features(features, [(0, 1, 1.0, 1.0)])
    assert weights.score(features)[0] > weights.score(features)[1]


def test_the_prompt_of_a_critic_is_a_setting_and_its_other_direction_follows(tiny_weights: Path) -> None:
    assert RewardArchitecture(prompt=PROMPT).backward == "Funny: {text}\nPlain:"
    vivid = RewardArchitecture(prompt="Plain: {literal}\nVivid:")
    assert vivid.backward == "Vivid: {text}\nPlain:"
    with pytest.raises(ValueError, match=r"slot \{literal\} once"):
        RewardArchitecture(prompt="Vivid:")
    read = [
        FeatureReader(str(tiny_weights), None, s.prompt, s.backward) for s in (RewardArchitecture(prompt=PROMPT), vivid)
    ]
    funny, other = (reader.read([LITERAL], TEXTS[:1])[0] for reader in read)
    assert (funny[:2] != other[:2]).all()
    assert (funny[2:] == other[2:]).all()
