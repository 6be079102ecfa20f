"""Whole runs of several rounds: references, kept pairs, early stopping, and a scorer beside the critic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quipwright.core.errors import DataError
from quipwright.core.records import Example, Response, ids_hash
from quipwright.core.storage.stage_cache import StageKey
from quipwright.llm.request_batching import CHUNK
from quipwright.pipeline.recipe import load_recipe
from quipwright.pipeline.rounds import rank_attempts
from quipwright.serving.writer import Writer
from quipwright.students.base import Prompted
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.recipes import write_recipe
from quipwright.testing.runs import run_context
from tests.pipeline.results import LEARN, RANDOM, Run


def test_the_reference_stays_the_initial_student_where_the_recipe_says_so(run: Run) -> None:
    previous = run(LEARN, "rounds=2", RANDOM)
    assert previous.training["preference-2"].losses[0] == pytest.approx(0.69315, abs=1e-4)
    initial = run(LEARN, "rounds=2", RANDOM, "reference=initial", folder="initial")
    assert initial.training["preference-2"].losses[0] != pytest.approx(0.69315, abs=1e-4)
    # the two share every arrow up to there, and no more
    assert initial.checkpoints["round-1"] == previous.checkpoints["round-1"]
    assert initial.checkpoints["feedback"].weights_hash != previous.checkpoints["feedback"].weights_hash
    stages = [*previous.stages, *initial.stages]
    assert [len({s.folder for s in stages if s.name == f"preference-{i}"}) for i in (1, 2)] == [1, 2]


def test_lambda_is_of_the_run_and_on_record_with_each_round(run: Run, tmp_path: Path, corpus_file: Path) -> None:
    training = run("learn.objective={kind: brio}", "rounds=2", RANDOM).training
    texts = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    student = Writer.of_run(tmp_path / "run").student
    taught = [Prompted("", tuple(t["humorous"])) for t in texts if t["split"] == "train"]
    lengths = [len(student.response_ids(text)) for row in taught for text in row.responses]
    mean = pytest.approx(sum(lengths) / len(lengths), abs=1e-4)
    assert training["preference-1"].mean_length == training["preference-2"].mean_length == mean
    assert training["sft-imitation"].mean_length is None


def test_a_judge_of_pairs_learns_and_evaluates_by_the_best_of_n_of_its_scorer(run: Run, tiny_critic: Path) -> None:
    with FaultyServer(lambda body: "Answer: 1") as server:
        summary = run(
            "learn={objective: {kind: mle}, source: best_of_n}",
            f"critic={{kind: multiple_choice, model: {{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}}}",
            f"scorer={{path: {tiny_critic}, floor: 0.5}}",
            "evaluate.best_of=2",
            "rounds=1",
        )
    assert {"imitation-best-of-2", "feedback-best-of-2"} <= {q.system for q in summary.quality}
    assert all(q.levels is not None for q in summary.quality)
    assert {w.judge for w in summary.pairwise} == {summary.critic["name"]}
    assert summary.critic["name"].startswith("multiple_choice-")


def test_a_scorers_grades_choose_pairs_and_its_critic_judges_them(
    tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path
) -> None:
    path = write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)
    example = Example(text="The cat ate my sandwich before lunch.")
    attempts = [
        Response(example_id=example.id, text=f"The cat {verb} my sandwich.", author="s")
        for verb in ("sued", "ate", "hid")
    ]

    def graded(folder: str, *sets: str) -> tuple[str, list[str]]:
        """Whose grades chose the pairs, and who judged the best against the worst."""
        recipe, base = load_recipe(str(path), ["select={kind: best_worst}", *sets])
        with run_context(recipe, tmp_path / folder, base) as ctx:
            ranked = rank_attempts(
                ctx, recipe, 1, recipe.select, [example], {example.id: attempts}, ctx.judges.of(recipe.critic)
            )
            assert ranked.selection is not None
            assert ranked.selection.acceptance == {"pairs": 3, "within": 3, "literals": 1, "paired": 1}
            critic_key = ctx.judges.of(recipe.critic).key
            by_critic = StageKey("grade", "1", (critic_key, ids_hash(attempts), ids_hash([example]), CHUNK)).folder
            (stage,) = ctx.cache.folder.glob("grade-1-*")
            return "its grades" if stage.name == by_critic else "a scorer's", [j.judge for j in ranked.judgments]

    scorer = f"scorer={{path: {tiny_critic}, floor: 0.4}}"
    assert graded("alone") == ("its grades", ["reward:critic0"])
    assert graded("same", scorer)[0] == "its grades"  # of the same files: read once
    with FaultyServer(lambda body: "Answer: 1") as server:
        model = f"{{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}"
        name, judges = graded("two", scorer, f"critic={{kind: multiple_choice, model: {model}}}")
        assert name == "a scorer's"
        assert len(judges) == 2
        assert all(judge.startswith("multiple_choice-") for judge in judges)
        assert server.heads


def test_kept_pairs_are_trained_on_again(run: Run) -> None:
    dropped = run(LEARN, "rounds=2", RANDOM)
    kept = run(LEARN, "rounds=2", RANDOM, "keep_pairs=true", folder="kept")
    first, second = kept.counts.rankings
    assert kept.training["preference-2"].rows == first + second
    assert dropped.training["preference-2"].rows == dropped.counts.rankings[1]


def test_an_early_stopped_run_keeps_its_best_round(run: Run, tmp_path: Path) -> None:
    summary = run(LEARN, "rounds=3", RANDOM, "early_stopping={patience: 1}")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    rates = {p["round"]: p["values"]["against-teacher/win_tie_rate"] for p in lines if p["stage"] == "validate"}
    assert list(rates) in ([1, 2], [1, 2, 3])
    sound = {n for n in rates if not any(str(w).startswith(f"Round {n} degenerates") for w in summary.warnings)}
    best = max(rates[n] for n in sound or rates)
    assert summary.checkpoints["feedback"].round == min(n for n in sound or rates if rates[n] == best)


def test_a_round_is_watched_epoch_by_epoch(run: Run) -> None:
    sets = (LEARN, "learn.train.epochs=4", "early_stopping={each: epoch, patience: 1}")
    summary = run(*sets)
    steps = [reading.number for reading in summary.training["preference-1"].readings]
    assert 2 <= len(steps) <= 4
    judged = [s.name for s in summary.stages if s.name.startswith("judge-validate-")]
    assert judged == [*(f"judge-validate-1.{step}" for step in steps), "judge-validate-1"]
    again = run(*sets)
    assert all(stage.skipped for stage in again.stages)
    assert again.warnings == summary.warnings


def test_a_watch_needs_validation_literals(run: Run) -> None:
    with pytest.raises(
        DataError,
        match=r"no literal of split 'valid', which early_stopping needs; it has 8 of train, 2 of test, 0 of ood",
    ):
        run(LEARN, "early_stopping={}", "data.valid=0")
