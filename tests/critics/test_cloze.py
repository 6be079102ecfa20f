"""The cloze critic: perplexities by hand, copies, the templates of its questions, and scores that are no numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from quipwright.core.config_files import validate
from quipwright.core.errors import CriticError, DataError
from quipwright.critics.base import BuildContext
from quipwright.critics.cloze import Cloze, ClozeCritic, ClozeReader
from quipwright.data.task import Task, fill
from quipwright.llm.types import Failure, Score
from quipwright.testing.asking import comparison
from quipwright.testing.critics import LengthScorer, ScriptedModel

TASK = Task.load()


def test_cloze_compares_perplexities_and_copies_lose() -> None:
    critic = ClozeCritic(LengthScorer(), TASK, ClozeReader(scope="paraphrase"))
    judged = critic.judge([
        comparison("so wet", "extraordinarily precipitous"),
        comparison("It rained!", "cats and dogs"),
        comparison("...", "..."),
    ])  # fmt: skip
    assert [j.verdict for j in judged] == ["A", "B", "tie"]
    assert judged[0].p_a == pytest.approx(1 / (1 + math.exp(3.0 - 13.5)))
    assert judged[0].reason.startswith("perplexity 20.1 against")
    assert judged[1].reason == "rule: a copy of the literal loses"
    with pytest.raises(CriticError, match="cannot score a text"):
        ClozeCritic(ScriptedModel(lambda r: ""), TASK)


def test_a_cloze_reads_the_template_of_its_question() -> None:
    asked = comparison()
    read = []
    for question in ("overall", "humour"):
        scorer = LengthScorer()
        (judged,) = ClozeCritic(scorer, TASK, ClozeReader(question=question)).judge([asked])
        assert judged.question == question
        read += ["".join(text) for text in scorer.read]
    templates = [TASK.template("overall"), TASK.template("humour")]
    assert read == [fill(form, literal=asked.literal, text=text) for form in templates for text in (asked.a, asked.b)]
    assert TASK.template("overall") != TASK.template("humour")
    plain = TASK.model_copy(update={"cloze": "{literal}: {text}"})
    assert plain.template() == "{literal}: {text}"
    with pytest.raises(DataError, match=r"task humour has no cloze of the question 'humour'. It has: overall"):
        ClozeCritic(LengthScorer(), plain, ClozeReader(question="humour"))


@pytest.mark.parametrize("score", [Score(math.nan, 3), Score(-math.inf, 3), Score(-1.0, 0), Failure("no answer")])
def test_a_score_that_is_no_number_is_unread(score: Score | Failure) -> None:
    class Broken(LengthScorer):
        def score_many(self, texts: Sequence[tuple[str, str]]) -> list[Score | Failure]:
            return [score for _ in texts]

    (judged,) = ClozeCritic(Broken(), TASK).judge([comparison()])
    assert (judged.p_a, judged.verdict, judged.answered) == (None, "unparsed", not isinstance(score, Failure))


def test_a_cloze_is_identified_by_its_settings_and_the_template_of_its_question() -> None:
    usual, named = (
        validate(Cloze, {"model": {"kind": "local"}, "question": q}, "critic") for q in ("overall", "humour")
    )
    keys = [critic.identity(BuildContext(None, TASK)) for critic in (usual, named)]
    assert [key[-1] for key in keys] == [TASK.template("overall"), TASK.template("humour")]
    assert keys[0] != keys[1]
