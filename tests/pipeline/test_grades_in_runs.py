"""Whole runs by grades: a model that grades lists as the critic, and grades on file under every objective."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError, RecipeError
from quipwright.core.records import Grade
from quipwright.core.storage.stage_cache import read_sealed_rows
from quipwright.data.examples import load_examples
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import Task
from quipwright.pipeline.costs.plan import plan
from quipwright.pipeline.recipe import Recipe
from quipwright.testing.faulty_server import FaultyServer
from tests.pipeline.results import Run


def level_of(text: str) -> int | None:
    """What the grader of the next test thinks of ``text``; ``None``: it says nothing of it."""
    return 0 if not any(c.isalnum() for c in text) else None if len(text) % 5 == 0 else len(text) % 3


def test_a_model_that_grades_lists_is_the_critic_of_a_whole_run(run: Run, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> str:
        blocks = re.findall(r"--- begin (\w+) ---\n(.*?)\n--- end \1 ---", body["messages"][-1]["content"], re.DOTALL)
        named = [(i, level_of(text)) for i, (_, text) in enumerate(blocks[1:], 1)]
        return "\n".join(f"{i}: {('broken', 'plain', 'funny')[level]}" for i, level in named if level is not None)

    with FaultyServer(answer) as server:
        sets = (
            f"critic={{kind: grade, twice: 0.5, model: {{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}}}",
            "select={kind: best_worst, pairs: 2}",
            "early_stopping={measure: mean_grade, each: epoch}",
        )
        summary = run(*sets)
        asked = len(server.bodies)
    recipe = Recipe.model_validate(summary.recipe)
    lines = plan(recipe, Task.load(), load_examples(recipe.data)).lines
    assert {line.role for line in lines} == {"critic, grades"}
    assert 0 < asked <= 2 * sum(line.calls for line in lines)  # what cannot be read is asked for twice
    for look in summary.quality:
        texts = [s.answers[look.system] for s in summary.samples if s.split == look.split]
        levels = [level for level in map(level_of, texts) if level is not None]
        assert look.graded == len(levels)
        shares = tuple(levels.count(level) / len(levels) for level in range(3)) if levels else None
        assert look.levels == (None if shares is None else pytest.approx(shares))
    notes = [str(note) for note in summary.warnings if str(note).startswith("grade:m")]
    assert re.fullmatch(r"grade:m could not grade \d+ of \d+ texts; they have no part in any figure\.", notes[0])
    assert re.fullmatch(
        r"grade:m read (\d+) texts in two orders and gave \1 of them the same grade \(100%, .*\)\.", notes[1]
    )
    assert summary.counts.rankings[0] > 0
    points = summary.training["preference-1"].readings
    assert len(points) == 2
    for point in points:  # each epoch's mean grade of the answers to the validation literals
        (stage,) = (s.folder for s in summary.stages if s.name == f"grade-validate-1.{point.number}")
        scores = [grade.score for grade in read_sealed_rows(tmp_path / "stages" / stage, Grade)]
        read = [score for score in scores if score is not None]
        assert len(scores) == 2
        assert point.rate == pytest.approx(sum(read) / len(read) if read else 0)


def test_grades_on_file_are_learnt_from_as_the_objective_wants(run: Run, tmp_path: Path, corpus_file: Path) -> None:
    literals = [json.loads(line)["literal"] for line in corpus_file.read_text().splitlines()]
    good, plain, broken = "Fate, that old comedian, struck.", "It happened to me once more.", "Nonsense is it of a hat."
    graded, repairs = tmp_path / "graded.jsonl", tmp_path / "repairs.jsonl"
    texts = [(good, "funny"), (plain, "plain"), (broken, 0)]
    rows = [{"literal": x, "text": t, "grade": g, "style": "tag"} for x in literals for t, g in texts]
    graded.write_text("\n".join(map(json.dumps, rows)))
    repairs.write_text(
        json.dumps({"literal": literals[0], "attempt": broken, "repair": "Nonsense is a fine hat on me."})
    )

    def learnt(name: str, **settings: object) -> RunSummary:
        step = {"kind": "grades", "path": str(graded), **settings}
        return run(f"offline_preferences={json.dumps(step)}", "rounds=0", folder=name)

    # eight training literals: a pair with each worse text, and a copy for a quarter of the sixteen
    pairs = learnt("pairs", learn={"objective": {"kind": "dpo"}})
    assert pairs.training["preference-offline"].rows == 16 + 4
    assert pairs.training["preference-offline"].losses[0] == pytest.approx(0.69315, abs=1e-4)
    assert list(pairs.checkpoints) == ["imitation", "feedback"]
    # the repair over its attempt is one pair more
    mended = learnt("mended", repairs=str(repairs), learn={"objective": {"kind": "simpo"}, "copy_share": 0})
    assert mended.training["preference-offline"].rows == 17
    # three texts a literal, and the literal itself for a half of the eight good ones
    single = learnt("single", learn={"objective": {"kind": "kto"}, "copy_share": 0.5})
    assert single.training["preference-offline"].rows == 24 + 4
    # one good text a literal beside the teacher's three
    imitated = learnt("imitated", teacher=True, learn={"objective": {"kind": "mle"}})
    assert imitated.training["sft-offline"].rows == 8
    marks = [s.checkpoints["feedback"] for s in (pairs, mended, single, imitated)]
    assert len({mark.weights_hash for mark in marks}) == 4
    assert [mark.objective for mark in marks] == ["dpo", "simpo", "kto", "mle"]
    with pytest.raises(DataError, match=r"graded.jsonl: no usable good attempt on the training literals"):
        learnt("strict", grade=3, learn={"objective": {"kind": "kto"}})
    with pytest.raises(RecipeError, match="this step learns from its files"):
        learnt("odd", learn={"objective": {"kind": "mle"}, "source": "best_of_n"})
