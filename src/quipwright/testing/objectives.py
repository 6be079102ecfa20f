"""Settings of every objective, and a check that a student learns by one."""

from __future__ import annotations

from pathlib import Path

from quipwright.students.base import Prompted, Student
from quipwright.students.scoring import score_rows
from quipwright.testing.tiny_models import CharacterTask
from quipwright.training.loop import train
from quipwright.training.objectives import BRIO, DPO, KTO, MLE, AnyObjective, SimPO
from quipwright.training.settings import TrainSettings

OBJECTIVES: dict[str, AnyObjective] = {
    "mle": MLE(),
    "mle-smoothed": MLE(label_smoothing=0.1),
    "dpo": DPO(),
    "cdpo": DPO(label_smoothing=0.1),
    "robust": DPO(loss="robust", label_smoothing=0.1),
    "hinge": DPO(loss="hinge"),
    "ipo": DPO(loss="ipo"),
    "ipo-sum": DPO(loss="ipo_sum"),
    "sigmoid-norm": DPO(loss="sigmoid_norm", beta=1.0),
    "dpo-anchored": DPO(nll_weight=0.2),
    "simpo": SimPO(),
    "kto": KTO(),
    "brio": BRIO(),
    "brio-official": BRIO(reduction="brio", margin="constant", alpha=2.0, rank_weight=10, mle_weight=0.1),
}


def learns(student: Student, objective: AnyObjective, epochs: int, folder: Path) -> None:
    """Fails unless the loss falls and each good response gets ahead of its bad one."""
    rows = CharacterTask.rows
    if isinstance(objective, MLE):
        rows = tuple(Prompted(row.prompt, row.responses[:1]) for row in CharacterTask.rows)
    before = score_rows(student, CharacterTask.rows, 8)
    settings = TrainSettings(epochs=epochs, batch_size=8, micro_batch_size=8, lr=0.01, warmup_ratio=0.1)
    log = train(student, rows, objective, settings, folder, seed=1, reference=before)
    assert log.steps[-1]["loss"] < 0.9 * log.steps[0]["loss"]
    after = score_rows(student, CharacterTask.rows, 8)
    if isinstance(objective, DPO | KTO):  # what it promises: more preferred than by the reference
        gain = after.total - before.total
        if isinstance(objective, DPO) and objective.loss in ("ipo", "sigmoid_norm"):
            gain = gain / after.tokens
        assert (gain[:, 0] > gain[:, 1]).all()
    else:
        mean = after.total / after.tokens
        assert (mean[:, 0] > mean[:, 1]).all()
