"""The critic of recorded grades: any two grades are a verdict, ranks break ties where wanted, nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quipwright.core.records import Response
from quipwright.critics.base import BuildContext
from quipwright.critics.recorded_grades import RecordedGrades, RecordedGradesCritic
from quipwright.data.task import Task
from quipwright.evaluation.audit import audit_critic
from quipwright.evaluation.human.labels import read_labels
from quipwright.testing.asking import comparison

LITERAL = "It rained."
ROWS = [
    {"text": "It rained cats.", "grade": 3, "second": 1, "rank": 0},
    {"text": "It rained on me.", "grade": "funny", "second": 2, "rank": 1},
    {"text": "Rain fell.", "grade": 1, "rank": 2},
    {"text": "Wet it was.", "grade": 1, "rank": 3},
    {"text": "Rain it me.", "grade": 0, "rank": 4},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "grades.jsonl"
    path.write_text("\n".join(json.dumps({"literal": LITERAL, "style": "tag", **row}) for row in ROWS))
    return path


def critic(path: Path | list[Path], grades: tuple[str, ...] | None = None, **settings: object) -> RecordedGradesCritic:
    names = [str(p) for p in path] if isinstance(path, list) else str(path)
    task = Task.load()
    if grades:
        task = task.model_copy(update={"grades": grades})
    return RecordedGrades.model_validate({"path": names, **settings}).build(BuildContext(None, task))


def verdicts(judge: RecordedGradesCritic, *pairs: tuple[int, int]) -> list[tuple[float | None, str]]:
    compared = [comparison(str(ROWS[a]["text"]), str(ROWS[b]["text"]), LITERAL) for a, b in pairs]
    return [(j.p_a, j.verdict) for j in judge.judge(compared)]


def test_any_two_grades_are_a_verdict(file: Path) -> None:
    # sigmoid(1), sigmoid(-2), sigmoid(3)
    assert verdicts(critic(file), (1, 2), (4, 1), (0, 4)) == [(0.731059, "A"), (0.119203, "B"), (0.952574, "A")]
    assert verdicts(critic(file), (2, 3)) == [(0.5, "tie")]


def test_the_readers_order_breaks_a_tie_where_wanted(file: Path) -> None:
    # ranks 2 and 3 of five lift by 0.5 * 3/5 and 0.5 * 2/5: sigmoid(0.1)
    assert verdicts(critic(file, ties="rank"), (2, 3), (3, 2)) == [(0.524979, "A"), (0.475021, "B")]
    assert verdicts(critic(file, ties="rank"), (1, 2)) == [(0.750260, "A")]  # sigmoid(1 + 0.1)


def test_what_is_not_on_file_is_unparsed(file: Path) -> None:
    judgment = critic(file).judge([comparison("It rained cats.", "New.", LITERAL)])[0]
    assert (judgment.p_a, judgment.verdict, judgment.reason, judgment.answered) == (
        None,
        "unparsed",
        "not recorded",
        True,
    )
    # the second reader read two texts only
    assert verdicts(critic(file, reader="second"), (0, 1), (1, 2)) == [(0.268941, "B"), (None, "unparsed")]
    assert critic(file, reader="second").name == "recorded_grades:grades:second"


def test_levels_are_those_of_the_task_and_the_best_takes_what_is_above(file: Path) -> None:
    texts = [*(str(row["text"]) for row in ROWS), "New."]
    responses = [Response(example_id="e", text=text, author="x") for text in texts]
    three = critic(file).grade([LITERAL] * 6, responses)
    assert [grade.levels for grade in three] == [(0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 1, 0), (1, 0, 0), None]
    assert [grade.score for grade in three] == [3, 2, 1, 1, 0, None]
    four = critic(file, ("broken", "plain", "funny", "really")).grade([LITERAL] * 2, responses[:2])
    assert [grade.levels for grade in four] == [(0, 0, 0, 1), (0, 0, 1, 0)]
    assert critic(file).recorded_grades([LITERAL] * 6, responses).keys() == {r.id for r in responses[:5]}


def test_a_text_in_two_files_has_its_mean_grade(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "more.jsonl"
    other.write_text(json.dumps({"literal": LITERAL, "text": "Rain fell.", "grade": 2}))
    judge = critic([file, other])
    (grade,) = judge.grade([LITERAL], [Response(example_id="e", text="Rain fell.", author="x")])
    assert (judge.name, grade.score, grade.levels) == ("recorded_grades:grades+more", 1.5, (0, 0.5, 0.5))


def test_one_reader_is_audited_by_the_other(file: Path) -> None:
    pairs = read_labels(file)
    votes = {(pair.a, pair.b): pair.votes["overall"] for pair in pairs}
    assert len(pairs) == 9  # ten pairs, of which one has equal grades
    assert votes["It rained cats.", "It rained on me."] == {"reader": "A"}
    assert votes["Rain fell.", "Rain it me."] == {"reader": "A"}
    assert audit_critic(critic(file), pairs).agreement.value == 1
    second = audit_critic(critic(file, reader="second"), pairs)  # read one pair, and took the other text
    assert (second.agreement.value, second.agreement.n, second.audits["overall"].unparsed) == (0, 1, 8)
