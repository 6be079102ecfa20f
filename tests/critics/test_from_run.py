"""A critic that learns from the judgments of a run: which of them, under whose names, and what it prints."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DataError, RunError
from quipwright.core.records import Example, Judgment, Response
from quipwright.core.storage.seals import check_seal
from quipwright.core.storage.stage_cache import StageCache
from quipwright.critics.from_run import verdicts_of_run
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.data.examples import DataSettings, load_examples
from quipwright.data.run_summary import read_run
from quipwright.data.verdicts import read_verdicts
from quipwright.llm.http_models import Chat
from quipwright.llm.types import Capabilities
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.rounds import rank_attempts
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.runs import run_context, stored_stage
from quipwright.testing.summaries import made_summary
from quipwright.training.preference.pairs import Diverse


def prefers_the_rumour(body: dict[str, Any]) -> str:
    """The rewrite that tells of a rumour, wherever it stands."""
    first, _ = re.findall(r"Rewrite \d:\n--- begin \w+ ---\n(.*)\n", body["messages"][-1]["content"])
    return f"Answer: {1 if 'rumour' in first else 2}"


def made_run(folder: Path, literals: int) -> Path:
    """A run whose critic, behind HTTP, has judged two attempts at each of so many literals; one attempt is a copy."""
    data = folder / "data.jsonl"
    data.write_text("".join(f'{{"literal": "Bus {i} was late.", "split": "train"}}\n' for i in range(literals)))
    with FaultyServer(prefers_the_rumour) as server:
        model = Chat(model="m", base_url=server.url, capabilities=Capabilities())
        critic = MultipleChoice(model=model, reading="reason_then_answer")
        recipe = Recipe(name="x", data=DataSettings(path="data.jsonl"), select=Diverse(), critic=critic)
        with run_context(recipe, folder / "run", folder) as ctx:
            examples = load_examples(recipe.data, folder)
            attempts = {e.id: _attempts(i, e) for i, e in enumerate(examples)}
            texts = {r.id: r for own in attempts.values() for r in own}
            stored_stage(ctx.cache, "sample", "1", list(texts.values()), Response)
            rank_attempts(ctx, recipe, 1, recipe.select, examples, attempts, ctx.judges.of(recipe.critic))
            facts = {"stages": ctx.cache.times, "recipe": recipe.model_dump(mode="json"), "task": ctx.task.model_dump()}
            summary = made_summary(1).model_copy(update=facts)
    summary.write(folder / "run")
    return folder / "run"


def _attempts(number: int, example: Example) -> list[Response]:
    texts = ["Our bus is a rumour by now.", example.text if number == 0 else f"Late bus {number} was late, bus."]
    return [Response(example_id=example.id, text=text, author="student:s") for text in texts[:: 1 - 2 * (number % 2)]]


def test_the_judgments_of_a_run_become_verdicts_a_fifth_of_them_held_out(tmp_path: Path) -> None:
    rows = verdicts_of_run(made_run(tmp_path, 31))
    assert len(rows) == 30  # what the rule against copies decided is no verdict of the critic's
    assert sum(row.split == "heldout" for row in rows) == 6
    for row in rows:
        assert "rumour" in {"a": row.a, "b": row.b}[row.verdict]
        assert (row.strength, row.author_a, row.author_b) == (3, "student:s", "student:s")
    assert {row.verdict for row in rows} == {"a", "b"}
    assert len({row.literal for row in rows}) == 30


def test_verdicts_come_from_the_stages_that_the_summary_names_also_of_an_experiments_run(tmp_path: Path) -> None:
    run = made_run(tmp_path, 31)
    rows = verdicts_of_run(run)
    judgments = read_run(run).stage_rows(run, Judgment, "judge")
    shutil.move(run / "stages", tmp_path / "stages")  # where an experiment's runs share them
    assert verdicts_of_run(run) == rows
    against = [
        j if j.judge.startswith("rule:") else j.swapped().model_copy(update={"shown": j.shown}) for j in judgments
    ]
    stored_stage(StageCache(tmp_path / "stages"), "judge", "1", against, Judgment)  # another run's
    assert verdicts_of_run(run) == rows


def test_a_pair_that_was_read_in_one_order_only_gives_no_verdict(tmp_path: Path) -> None:
    run = made_run(tmp_path, 31)
    summary = read_run(run)
    judgments = summary.stage_rows(run, Judgment, "judge")
    lost = next(j for j in judgments if j.shown == "ba")
    half_read = [j.model_copy(update={"p_a": None, "verdict": "unparsed"}) if j == lost else j for j in judgments]
    stored = stored_stage(StageCache(run / "stages"), "judge", "1", half_read, Judgment)
    summary.model_copy(update={"stages": [*(t for t in summary.stages if t.stage != "judge"), stored]}).write(run)
    assert len(verdicts_of_run(run)) == 29


def test_a_run_without_verdicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        verdicts_of_run(tmp_path)
    with pytest.raises(DataError, match="on 3 literals"):
        verdicts_of_run(made_run(tmp_path, 4))


def test_the_command_trains_on_a_run_and_writes_its_verdicts(
    tmp_path: Path, tiny_weights: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    run, verdicts = made_run(tmp_path, 31), tmp_path / "verdicts.jsonl"
    sets = (f"architecture={{weights: '{tiny_weights}', layers: 2, first_layer: 0}}", "epochs=1", "lr=0.01")
    wanted = [part for one in sets for part in ("--set", one)]
    command = ("train-critic", "--run", str(run), "--export", str(verdicts))
    code, out, err = quipwright(*command, "--output", str(tmp_path / "critic"), *wanted)
    assert (code, err) == (0, "")
    assert re.search(r"^agreement .* of 6 held-out verdicts$", out, re.MULTILINE)
    assert (tmp_path / "critic" / "critic.json").exists()
    assert read_verdicts(verdicts) == verdicts_of_run(run)
    code, _, err = quipwright(*command)
    assert (code, "is there already" in err) == (4, True)
    code, _, err = quipwright("train-critic")
    assert (code, "--output" in err) == (2, True)
    for option in ("--output", "--export"):  # known before anything is trained
        code, _, err = quipwright("train-critic", "--run", str(run), option, str(verdicts / "critic"))
        assert (code, f"{option} {verdicts / 'critic'} cannot be written" in err) == (10, True)
    assert check_seal(tmp_path / "critic") == {}
