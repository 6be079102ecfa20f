"""The critic that prefers what a student is likelier to write."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from quipwright.core.errors import WeightsError
from quipwright.core.records import Comparison, Pair, Response
from quipwright.critics.base import BuildContext, Grader
from quipwright.critics.config import outsiders
from quipwright.critics.likelihood import Likelihood, LikelihoodCritic
from quipwright.data.task import Task
from quipwright.students.base import StudentSettings
from quipwright.students.common import STUDENT_FILE, WEIGHTS_FILE
from quipwright.students.load import open_student

LITERALS = ["I missed the bus.", "The cat ate my lunch.", "I missed the bus."]
TEXTS = ["I missed the bus, again.", "The cat dined.", "Bus gone."]


@pytest.fixture
def settings(tiny_weights: Path, tmp_path: Path) -> Likelihood:
    """Of a student in a folder as an export makes it."""
    student = StudentSettings(weights=str(tiny_weights), precision="fp32", tuning="full", context=300)
    open_student(student).save(tmp_path)
    (tmp_path / STUDENT_FILE).write_text(student.model_dump_json())
    return Likelihood(adapter=str(tmp_path), scale=0.5)


@pytest.fixture
def context() -> BuildContext:
    return BuildContext(None, Task.load())


def _by_hand(critic: LikelihoodCritic, literal: str, text: str) -> float:
    """Mean log-probability of a text's tokens by the network's own forward pass, over the scale."""
    prompt = critic.student.prompt_ids(critic.prompt.replace("{literal}", literal))
    response = critic.student.response_ids(text)
    with torch.no_grad():
        logits = critic.student.network(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    return sum(float(logits[i, token]) for i, token in zip(places, response, strict=True)) / len(response) / 0.5


def test_a_score_is_the_students_mean_log_probability(settings: Likelihood, context: BuildContext) -> None:
    critic = settings.build(context)
    assert isinstance(critic, Grader)
    responses = [Response(example_id="x", text=text, author="a") for text in TEXTS]
    grades = critic.grade(LITERALS, responses)
    expected = [_by_hand(critic, *pair) for pair in zip(LITERALS, TEXTS, strict=True)]
    assert [g.score for g in grades] == pytest.approx(expected, abs=1e-4)
    assert [g.response_id for g in grades] == [r.id for r in responses]
    assert critic.grade([], []) == []


def test_a_pair_goes_to_the_likelier_text_whatever_its_order(settings: Likelihood, context: BuildContext) -> None:
    critic = settings.build(context)
    a, b = (Response(example_id="x", text=text, author="s") for text in (TEXTS[0], TEXTS[2]))
    there = Comparison(
        pair=Pair(example_id="x", a_id=a.id, b_id=b.id, selector="s"), literal=LITERALS[0], a=a.text, b=b.text
    )
    back = Comparison(
        pair=Pair(example_id="x", a_id=b.id, b_id=a.id, selector="s"), literal=LITERALS[0], a=b.text, b=a.text
    )
    (one, other) = critic.judge([there, back])
    difference = _by_hand(critic, LITERALS[0], a.text) - _by_hand(critic, LITERALS[0], b.text)
    assert one.p_a == pytest.approx(1 / (1 + math.exp(-difference)), abs=1e-4)
    assert one.p_a + other.p_a == pytest.approx(1, abs=1e-5)


def test_weights_of_a_relative_folder_lie_beside_the_adapter(settings: Likelihood, context: BuildContext) -> None:
    folder = Path(settings.adapter)
    tree = json.loads((folder / STUDENT_FILE).read_text())
    (folder / "base").symlink_to(tree["weights"])
    before = settings.build(context).scores(LITERALS, TEXTS)
    (folder / STUDENT_FILE).write_text(json.dumps({**tree, "weights": "base"}))
    assert settings.build(context).scores(LITERALS, TEXTS) == before


def test_what_it_reads_with_is_its_student(settings: Likelihood, context: BuildContext) -> None:
    wider = settings.model_copy(update={"scale": 1.0})
    assert settings.identity(context) != wider.identity(context)
    assert outsiders(settings, [wider], context) == []
    with pytest.raises(WeightsError, match=r"nowhere.student\.json tells no student"):
        Likelihood(adapter="nowhere").identity(context)
    (Path(settings.adapter) / WEIGHTS_FILE).unlink()
    with pytest.raises(WeightsError, match=r"student\.safetensors does not exist"):
        settings.identity(context)
