"""Whole runs on tiny weights: the files of a run, the stages that a rerun skips, and the judges that join it later."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest
import torch

from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.text import degenerate, is_copy
from quipwright.critics.base import BuildContext
from quipwright.critics.config import outsiders
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.data.examples import load_examples
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import Task, task_path
from quipwright.evaluation.report import words
from quipwright.evaluation.report.pages import report_run
from quipwright.pipeline.context import Context
from quipwright.pipeline.distil import distil
from quipwright.pipeline.recipe import load_recipe
from quipwright.pipeline.stages.teach import teach
from quipwright.pipeline.stages.train import train_sft
from quipwright.serving.writer import Writer
from quipwright.testing.runs import run, run_context
from quipwright.testing.tiny_models import causal_network, chat_tokenizer
from tests.pipeline.results import result

STAGES = [
    "teach", "sft-imitation", "sample-1", "select-1", "judge-1", "rank-1", "reference-1", "preference-1",
    "decode-imitation-test", "decode-feedback-test", "best_of-imitation-test", "grade-best-imitation-test",
    "best_of-feedback-test", "grade-best-feedback-test", "decode-base-test", "grade-test", "judge-test", "judge-test-twice",
    "harm-test",
]  # fmt: skip
CARD = {"agreement": 0.7, "low": 0.6, "high": 0.8, "n": 50}


def test_a_run_leaves_what_it_promises(straight: tuple[Path, Path, RunSummary]) -> None:
    _, folder, summary = straight
    stored = json.loads((folder / "summary.json").read_text())
    assert stored == summary.model_dump(mode="json")
    assert [stage.name for stage in summary.stages] == STAGES
    assert summary.counts.literals == {"train": 8, "valid": 2, "test": 2}
    assert (summary.counts.teacher, summary.counts.untaught) == (12 * 3, 0)
    assert (summary.training["sft-imitation"].rows, len(summary.training["sft-imitation"].losses)) == (8, 24 * 8 / 4)
    assert {name: summary.critic[name] for name in ("agreement", "low", "high", "n")} == CARD
    assert [rule.rule for rule in summary.pairwise[0].rules] == ["per order", "strict", "tolerant", "verdict"]
    authors = stored["samples"][0]["authors"]
    assert authors["teacher"].startswith("teacher:")
    assert authors["feedback"] == f"student:{summary.checkpoints['feedback'].id}"
    floors = {w.candidate: w.noise_floor for w in summary.pairwise}
    assert all(floors[name] and 0 <= floors[name].value <= 1 for name in ("imitation", "feedback"))
    assert floors["imitation-best-of-3"] is None
    met = {(w.candidate, w.baseline) for w in summary.pairwise}
    assert {("imitation", "teacher"), ("feedback", "teacher"), ("imitation", "base"), ("feedback", "imitation")} <= met
    assert ("imitation-best-of-3", "imitation") in met
    assert summary.checkpoints["feedback"].parent_id == summary.checkpoints["imitation"].id
    page = report_run(folder).read_text()
    assert "<script" not in page
    assert "Content-Security-Policy" in page


def preference(critic: RewardModelCritic, literal: str, a: str, b: str) -> float:
    """P(a is better): by the rules against broken texts and copies, else by the critic's two scores."""
    for faulty in (lambda text: degenerate(text, literal) is not None, lambda text: is_copy(text, literal)):
        if faulty(a) or faulty(b):
            return (1 + faulty(b) - faulty(a)) / 2
    first, second = critic.scores([literal] * 2, [a, b])
    return 1 / (1 + math.exp(second - first))


def test_scores_and_rates_are_those_of_the_critic_by_hand(
    straight: tuple[Path, Path, RunSummary], tiny_critic: Path
) -> None:
    summary, critic = straight[2], RewardModelCritic.load(tiny_critic)
    checked = []
    for scores in summary.scores:
        names = scores.candidate, scores.baseline
        if not set(names) <= summary.samples[0].answers.keys():
            continue
        by_hand = {
            s.example_id: preference(critic, s.literal, *(s.answers[name] for name in names)) for s in summary.samples
        }
        assert scores.scores == pytest.approx(by_hand, abs=1e-4)
        (met,) = (w for w in summary.pairwise if (w.candidate, w.baseline) == names)
        assert met.n == 2
        assert met.score.value == pytest.approx(fmean(by_hand.values()), abs=1e-4)
        assert met.headline.rate.value == fmean(p >= 0.45 for p in by_hand.values())
        checked.append(names)
    assert {("imitation", "teacher"), ("feedback", "teacher"), ("feedback", "imitation")} <= set(checked)


def test_the_reference_is_the_imitation_student_and_the_first_loss_is_ln_2(
    straight: tuple[Path, Path, RunSummary],
) -> None:
    _, folder, summary = straight
    rows = next((folder / "stages").glob("reference-1-*")) / "rows.jsonl"
    checkpoints = {
        json.loads(line)["checkpoint_id"] for line in rows.read_text().splitlines() if "checkpoint_id" in line
    }
    assert checkpoints == {summary.checkpoints["imitation"].id}
    assert summary.training["preference-1"].losses[0] == pytest.approx(0.69315, abs=1e-4)


def test_imitation_lowers_the_loss(straight: tuple[Path, Path, RunSummary]) -> None:
    losses = straight[2].training["sft-imitation"].losses
    assert losses[-1] < losses[0] - 0.5


def test_a_second_run_repeats_nothing(straight: tuple[Path, Path, RunSummary]) -> None:
    recipe, folder, summary = straight
    again = run(recipe, folder)
    assert all(stage.skipped for stage in again.stages)
    assert result(again) == result(summary)


def test_the_manifest_says_how_students_write(straight: tuple[Path, Path, RunSummary]) -> None:
    manifest = json.loads((straight[1] / "manifest.json").read_text())
    assert list(manifest["students"].values()) == [{"mode": "mixed", "reason": ""}]


def test_a_judge_is_added_to_a_finished_run_and_changes_nothing_that_was_there(
    straight: tuple[Path, Path, RunSummary], tiny_weights: Path, tmp_path: Path
) -> None:
    recipe, folder, before = straight
    shutil.copytree(folder, tmp_path / "run")
    model = f"{{kind: local, weights: {tiny_weights}}}"
    after = run(recipe, tmp_path / "run", f"evaluate.judges=[{{kind: multiple_choice, model: {model}}}]")
    assert [s.name for s in after.stages if not s.skipped] == [
        "judge-test-multiple_choice",
        "judge-test-multiple_choice-twice",
    ]
    critic, judge = dict.fromkeys(w.judge for w in after.pairwise)
    assert judge.startswith("multiple_choice-")
    for name in ("pairwise", "differences"):
        old, new = getattr(before, name), getattr(after, name)
        # Holm's adjustment is over more results now
        assert [x.model_copy(update={"p_holm": None}) for x in new if x.judge == critic] == [
            x.model_copy(update={"p_holm": None}) for x in old
        ]
        assert len([x for x in new if x.judge == judge]) == len(old) > 0
    assert (after.scores, after.samples) == (before.scores, before.samples)
    assert any("only judge" in str(warning) for warning in before.warnings)
    assert not any("only judge" in str(warning) for warning in after.warnings)
    page = report_run(tmp_path / "run").read_text()
    assert f'class="t">{words.judge(judge)}</td>' in page
    points = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert f"by-{judge}/against-base/win_tie_rate" in points


def test_a_judge_that_shares_a_model_with_the_critic_is_no_outside_judge(
    straight: tuple[Path, Path, RunSummary],
) -> None:
    one, other = (f"{{kind: multiple_choice, model: {{kind: local, weights: {name}}}}}" for name in ("a", "b"))
    panel = f"{{kind: panel, critics: [{one}, {{kind: reward}}]}}"
    for critic in (one, panel, f"{{kind: active_labelling, from: {one}}}"):
        sets = (f"critic={critic}", f"evaluate.judges=[{one}, {panel}, {other}]", "select={kind: random}")
        recipe, _ = load_recipe(str(straight[0]), sets)
        context = BuildContext(None, Task.load())
        assert outsiders(recipe.critic, recipe.evaluate.judges, context) == [recipe.evaluate.judges[2]]


def test_rounds_zero_is_imitation_alone(straight: tuple[Path, Path, RunSummary], tmp_path: Path) -> None:
    summary = run(straight[0], tmp_path / "run", "rounds=0", "evaluate.best_of=0", "evaluate.base=false")
    assert [(w.candidate, w.baseline) for w in summary.pairwise] == [("imitation", "teacher")]


def test_two_rounds_train_from_one_another(straight: tuple[Path, Path, RunSummary], tmp_path: Path) -> None:
    summary = run(
        straight[0], tmp_path / "run", "rounds=2", "evaluate.best_of=0", "evaluate.base=false", "select={kind: random}"
    )
    assert list(summary.checkpoints) == ["imitation", "round-1", "feedback"]
    assert summary.checkpoints["feedback"].parent_id == summary.checkpoints["round-1"].id


def test_a_chat_student_runs_the_whole_flow_and_is_used_without_its_task_file(
    straight: tuple[Path, Path, RunSummary], tmp_path: Path
) -> None:
    words = chat_tokenizer(" ")
    words.save_pretrained(tmp_path / "weights")
    causal_network("llama", len(words)).save_pretrained(tmp_path / "weights")
    task = task_path("humour").read_text().replace("zero_shot:", "student_chat: true\n\nzero_shot:", 1)
    (tmp_path / "chatty.yaml").write_text(task)
    sets = (
        f"task={tmp_path / 'chatty.yaml'}",
        f"student.weights={tmp_path / 'weights'}",
        "evaluate.best_of=0",
        "select={kind: random}",
    )
    summary = run(straight[0], tmp_path / "run", *sets)
    assert {(w.candidate, w.baseline) for w in summary.pairwise} >= {("feedback", "teacher"), ("imitation", "base")}
    (tmp_path / "chatty.yaml").unlink()
    writer = Writer.of_run(tmp_path / "run")
    assert writer.student.prompt_ids("x") == words.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, return_dict=False
    )
    assert len(writer.write("I missed the bus.")) == 1


def test_the_student_without_a_checkpoint_is_untrained_even_after_training(
    straight: tuple[Path, Path, RunSummary], tmp_path: Path
) -> None:
    recipe, base = load_recipe(str(straight[0]), ["imitation.train.epochs=1"])

    def weights(ctx: Context) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in ctx.students.load(None).trainable().items()}

    with run_context(recipe, tmp_path / "run", base) as ctx:
        start = weights(ctx)
        examples = load_examples(recipe.data, base)
        targets = teach(ctx, recipe.teacher, examples).responses
        train_sft(ctx, "imitation", None, recipe.imitation, examples, targets)
        after = weights(ctx)
    assert all(torch.equal(start[name], after[name]) for name in start)


def test_a_distilled_critic_is_kept_and_a_finished_run_is_read_back_without_making_it_again(
    straight: tuple[Path, Path, RunSummary],
    tiny_critic: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def copy(labels: Sequence[object], seed: int, how: object) -> RewardModelCritic:
        made.append(len(labels))
        critic = RewardModelCritic.load(tiny_critic)  # as trained: named by the data it learnt from
        return RewardModelCritic(
            critic.model, critic.card.model_copy(update={"data_hash": "0123456789"}), "reward:01234567"
        )

    monkeypatch.setattr("quipwright.critics.config.copy_critic", copy)
    source = f"{{kind: cloze, model: {{kind: local, weights: {tiny_weights}}}}}"
    recipe, base = load_recipe(
        str(straight[0]),
        [f"critic={{kind: active_labelling, from: {source}, budget: 10, floor: 0}}", "evaluate.base=false"],
    )
    shutil.copytree(straight[1] / "stages", tmp_path / "stages")  # the student and its attempts are there

    def again() -> RunSummary:
        opened = RunFolder.open(tmp_path / "run", recipe.model_dump(mode="json"), shared=tmp_path / "stages")
        with opened as folder:
            return distil(recipe, folder, base)

    first = again()
    assert len(made) == 1
    assert {s.stage for s in first.spent} <= {"label"}
    assert all(s.cost is None and s.money == "unknown" for s in first.spent)
    card = RewardModelCritic.load(tmp_path / "run" / "critic").card
    assert (card.agreement, card.n) == (first.critic["agreement"], first.critic["n"])
    assert result(again()) == result(first)
    assert len(made) == 1
