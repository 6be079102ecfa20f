"""The loop's laws: micro-batches do not matter, a killed run ends as the uninterrupted one, and NaN stops it."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quipwright.core.errors import RecipeError, TrainingError
from quipwright.students.base import LoRA, Prompted
from quipwright.students.scoring import Reference, mle_loss, score_rows
from quipwright.testing.objectives import OBJECTIVES, learns
from quipwright.testing.tiny_models import ROWS, CharacterTask, causal_student, seq2seq_student
from quipwright.training.early_stopping import EarlyStopping, ValidationCallback, ValidationPoint
from quipwright.training.loop import measured, train
from quipwright.training.objectives import BRIO, DPO, MLE, AnyObjective, SimPO
from quipwright.training.resume import TrainLog
from quipwright.training.settings import TrainSettings, total_steps

TASK = CharacterTask.rows


def needed(student: Any, rows: tuple[Prompted, ...], objective: AnyObjective) -> Reference | None:
    return score_rows(student, rows, 4) if objective.needs_reference else None


def weights(student: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in student.trainable().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# --- one step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [causal_student, seq2seq_student], ids=["causal", "seq2seq"])
@pytest.mark.parametrize("name", ["mle", "dpo", "ipo", "simpo", "brio"])
def test_two_by_four_is_eight(
    name: str, opened: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # plain gradient descent: Adam's first step would be the gradient's sign, which hides its size
    monkeypatch.setattr("torch.optim.AdamW", lambda groups, lr: torch.optim.SGD(groups, lr))
    logs, ends = [], []
    for micro in (8, 2, 3):
        student, objective = opened(), OBJECTIVES[name]
        settings = TrainSettings(
            epochs=2, batch_size=8, micro_batch_size=micro, lr=3e-3, warmup_ratio=0, max_grad_norm=1e9
        )
        reference = needed(student, TASK, objective)
        logs.append(train(student, TASK, objective, settings, tmp_path / str(micro), seed=1, reference=reference))
        ends.append(weights(student))
    for log, end in zip(logs[1:], ends[1:], strict=True):
        for key in ("loss", "grad_norm"):
            assert [s[key] for s in log.steps] == pytest.approx([s[key] for s in logs[0].steps], rel=1e-4, abs=1e-5)
        assert all(torch.allclose(end[n], ends[0][n], atol=1e-5) for n in end)


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4, dropout=0.3)])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_dropout_is_really_off_the_first_dpo_loss_is_ln_2(family: str, tuning: LoRA | str, tmp_path: Path) -> None:
    student = causal_student(family, dropout=0.3, tuning=tuning)
    reference = score_rows(student, ROWS, 2)
    settings = TrainSettings(epochs=1, batch_size=3, micro_batch_size=2, lr=1e-3, warmup_ratio=0)
    log = train(student, ROWS, DPO(), settings, tmp_path, seed=1, reference=reference)
    assert log.steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_dropout_on_is_on(tmp_path: Path) -> None:
    student = causal_student("gpt2", dropout=0.3)
    settings = TrainSettings(epochs=1, batch_size=3, lr=1e-3, warmup_ratio=0, dropout=True)
    log = train(student, ROWS, DPO(), settings, tmp_path, seed=1, reference=score_rows(student, ROWS, 3))
    assert log.steps[0]["loss"] != pytest.approx(math.log(2), abs=1e-3)


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_falls_and_the_order_becomes_right(name: str, tmp_path: Path) -> None:
    learns(causal_student(), OBJECTIVES[name], 24, tmp_path)


def test_list_wise_brio_orders_three(tmp_path: Path) -> None:
    rows = tuple(
        Prompted(f"q{c}", (f"{c} {c}", f"{d} {d} {d}", f"{e}"))
        for c, d, e in zip("abcdef", "bcdefa", "cdefab", strict=True)
    )
    student = causal_student()
    settings = TrainSettings(epochs=40, batch_size=6, micro_batch_size=6, lr=0.01)
    train(student, rows, BRIO(mean_length=4), settings, tmp_path, seed=1)
    after = score_rows(student, rows, 6)
    mean = after.total / after.tokens
    assert (mean[:, 0] > mean[:, 1]).all()
    assert (mean[:, 1] > mean[:, 2]).all()


def test_validation_is_read_at_every_epoch(tmp_path: Path) -> None:
    student = causal_student()
    settings = TrainSettings(epochs=3, batch_size=4, lr=0.01)
    log = train(student, TASK, MLE(), settings, tmp_path, seed=1, validation=TASK[:2])
    assert len(log.validation) == 3
    assert log.validation[-1] == pytest.approx(mle_loss(student, TASK[:2], 4))
    assert log.validation[-1] < log.validation[0]


# --- resuming --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process died here."""


HOW = TrainSettings(epochs=3, batch_size=4, micro_batch_size=2, lr=0.01, save_every=2, dropout=True)


def run(folder: Path, objective: AnyObjective, tuning: LoRA | str, die_at: int | None = None) -> tuple[Any, TrainLog]:
    torch.manual_seed(5)
    student = causal_student("gpt2", dropout=0.1, tuning=tuning)
    done = 0

    def step_done(units: int = 1, note: str = "") -> None:
        nonlocal done
        done += units
        if done == die_at:
            raise Killed

    reference = needed(student, TASK, objective)
    log = train(
        student, TASK, objective, HOW, folder, seed=3, reference=reference, validation=TASK[:2], step_done=step_done
    )
    return student, log


@pytest.mark.parametrize("tuning", ["full", LoRA(rank=2, alpha=4)])
@pytest.mark.parametrize("die_at", [1, 2, 3, 4, 5])
def test_killed_at_any_step_it_ends_as_the_uninterrupted_run(die_at: int, tuning: LoRA | str, tmp_path: Path) -> None:
    straight, log = run(tmp_path / "straight", DPO(), tuning)
    with pytest.raises(Killed):
        run(tmp_path / "killed", DPO(), tuning, die_at)
    resumed, again = run(tmp_path / "killed", DPO(), tuning)
    assert same(weights(straight), weights(resumed))
    assert again == log


def test_killed_twice(tmp_path: Path) -> None:
    straight, log = run(tmp_path / "straight", BRIO(), "full")
    for die_at in (3, 5):
        with pytest.raises(Killed):
            run(tmp_path / "killed", BRIO(), "full", die_at)
    resumed, again = run(tmp_path / "killed", BRIO(), "full")
    assert same(weights(straight), weights(resumed))
    assert again == log


@pytest.mark.parametrize("victim", ["student.safetensors", "optimiser.safetensors", "state.json", "sha256.json"])
def test_a_truncated_state_falls_back_to_the_one_before(victim: str, tmp_path: Path) -> None:
    straight, log = run(tmp_path / "straight", MLE(), "full")
    with pytest.raises(Killed):
        run(tmp_path / "killed", MLE(), "full", 5)
    states = sorted((tmp_path / "killed" / "resume").glob("step-*"))
    assert [s.name for s in states] == ["step-0000002", "step-0000004"]
    torn = states[-1] / victim
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    resumed, again = run(tmp_path / "killed", MLE(), "full")
    assert same(weights(straight), weights(resumed))
    assert again == log


def test_killed_while_saving_it_goes_on_from_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, _ = run(tmp_path / "straight", MLE(), "full")
    replace: Callable[..., None] = os.replace

    def die(source: Path, target: Path) -> None:
        if str(target).endswith("step-0000004"):
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(Killed):
        run(tmp_path / "killed", MLE(), "full")
    monkeypatch.undo()
    assert (tmp_path / "killed" / "resume" / "partial").exists()
    resumed, _ = run(tmp_path / "killed", MLE(), "full")
    assert same(weights(straight), weights(resumed))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_within_one_step(tmp_path: Path) -> None:
    student = causal_student()
    steps = 0

    def poison(units: int = 1, note: str = "") -> None:
        nonlocal steps
        steps += units
        if steps == 3:
            next(iter(student.trainable().values())).data.fill_(math.nan)

    settings = TrainSettings(epochs=4, batch_size=4, lr=0.01, save_every=2)
    with pytest.raises(TrainingError, match=r"Step 4 of 8: loss nan.*step-0000002") as error:
        train(student, TASK, MLE(), settings, tmp_path, seed=1, step_done=poison)
    assert error.value.exit_code == 8
    assert steps == 3


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = causal_student()
    next(iter(student.trainable().values())).register_hook(lambda g: g * math.inf)
    with pytest.raises(TrainingError, match=r"Step 1 of 2: loss .* gradient norm (nan|inf); training stopped"):
        train(student, TASK, MLE(), TrainSettings(epochs=1, batch_size=4), tmp_path, seed=1)


def test_nothing_to_train_on_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="0 rows"):
        train(causal_student(), [], MLE(), TrainSettings(), tmp_path, seed=1)


def test_a_preference_needs_two_responses_and_its_reference(tmp_path: Path) -> None:
    student, single = causal_student(), [Prompted("a", ("b",))]
    with pytest.raises(RecipeError, match="needs 2 responses"):
        train(student, single, SimPO(), TrainSettings(), tmp_path, seed=1)
    with pytest.raises(TrainingError, match="do not match the rows"):
        train(student, TASK, DPO(), TrainSettings(), tmp_path, seed=1, reference=score_rows(student, TASK[:2], 2))


def test_lambda_is_the_mean_length_in_tokens_end_included() -> None:
    student = causal_student()
    brio = measured(BRIO(), student, ROWS)
    lengths = [len(student.response_ids(text)) for row in ROWS for text in row.responses]
    assert isinstance(brio, BRIO)
    assert brio.mean_length == pytest.approx(sum(lengths) / len(lengths), abs=1e-5)
    assert measured(BRIO(mean_length=3), student, ROWS) == BRIO(mean_length=3)
    assert measured(MLE(), student, ROWS) == MLE()


@pytest.mark.parametrize(
    ("rows", "epochs", "expected"),
    [(8, 1, 2), (9, 1, 3), (9, 2, 6), (5, 10, 20), (8, 0.5, 1), (8, 0.1, 1), (8, 2.5, 5)],
)
def test_an_epoch_is_every_row_once_also_where_batches_do_not_divide_it(
    rows: int, epochs: float, expected: int
) -> None:
    assert total_steps(rows, TrainSettings(epochs=epochs, batch_size=4)) == expected


def test_scores_are_those_of_each_row_alone() -> None:
    student = causal_student()
    together, shapes = score_rows(student, ROWS, 2), []
    for i, row in enumerate(ROWS):
        alone = score_rows(student, [row], 1)
        shapes.append(alone.total.shape)
        torch.testing.assert_close(together.total[i : i + 1], alone.total, atol=1e-4, rtol=0)
        assert torch.equal(together.tokens[i : i + 1], alone.tokens)
    assert shapes == [(1, 2)] * 3


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Any:
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


def callback(rates: dict[int, float], seen: dict[int, dict[str, Tensor]], **watch: Any) -> ValidationCallback:
    def read(student: Any, step: int) -> ValidationPoint:
        seen[step] = weights(student)
        return ValidationPoint(step, rates[step], ("copies",) if rates[step] > 0.9 else ())

    return ValidationCallback(read, EarlyStopping(each="epoch", **watch), [])


def test_early_stopping_stops_training_and_keeps_the_best_sound_epoch(tmp_path: Path) -> None:
    rows = tuple(Prompted(row.prompt, row.responses[:1]) for row in TASK)
    settings = TrainSettings(epochs=8, batch_size=4, micro_batch_size=4, lr=0.01, save_every=1)  # 2 steps an epoch
    rates = {2: 0.2, 4: 0.6, 6: 0.95, 8: 0.5, 10: 0.4}
    student, seen = causal_student(), {}
    log = train(student, rows, MLE(), settings, tmp_path / "a", seed=1, callback=callback(rates, seen, patience=3))
    assert [p.number for p in log.points] == [2, 4, 6, 8, 10]
    assert all(torch.equal(value, seen[4][name]) for name, value in weights(student).items())
    # killed after the third epoch, it goes on to the same end and asks for no epoch twice
    resumed, asked = causal_student(), {}
    limited = {**rates, 8: None}
    with pytest.raises(TypeError):
        train(resumed, rows, MLE(), settings, tmp_path / "b", seed=1, callback=callback(limited, asked, patience=3))
    again: dict[int, dict[str, Tensor]] = {}
    resumed = causal_student()
    log = train(resumed, rows, MLE(), settings, tmp_path / "b", seed=1, callback=callback(rates, again, patience=3))
    assert (list(again), len(log.points)) == ([8, 10], 5)
    assert all(torch.equal(value, seen[4][name]) for name, value in weights(resumed).items())
    last = causal_student()
    train(
        last, rows, MLE(), settings, tmp_path / "c", seed=1, callback=callback(rates, {}, patience=3, keep_best=False)
    )
    assert all(torch.equal(value, seen[10][name]) for name, value in weights(last).items())


def test_states_are_written_and_read_without_taking_the_wrapper_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    wrappers: list[torch.nn.Module] = []

    class Wrapper(torch.nn.Module):  # stands for DistributedDataParallel, whose forward pass keeps processes in step
        def __init__(self, module: torch.nn.Module) -> None:
            super().__init__()
            self.module, self.passes = module, 0
            wrappers.append(self)

        def forward(self, *args: Any) -> Any:
            self.passes += 1
            return self.module(*args)

    monkeypatch.setattr(Accelerator, "prepare", lambda self, module, optimiser: (Wrapper(module), optimiser))
    monkeypatch.setattr(Accelerator, "unwrap_model", lambda self, module: module.module)
    rows = tuple(Prompted(row.prompt, row.responses[:1]) for row in TASK)
    settings = TrainSettings(epochs=3, batch_size=8, micro_batch_size=8, lr=0.01, save_every=1)
    student = causal_student()
    bare = student.module
    train(student, rows, MLE(), settings, tmp_path, seed=1)
    assert wrappers[0].passes == 3
    assert student.module is bare
    shutil.rmtree(tmp_path / "resume" / "step-0000002")
    train(student, rows, MLE(), settings, tmp_path, seed=1)  # goes on from the state after the first step
    assert wrappers[1].passes == 2
