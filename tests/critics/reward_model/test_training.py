"""Training a reward model: its loss by hand, its figures, and that every setting is used."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scipy.special import expit

from quipwright.core.records import content_hash
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.figures import component_figures, measure
from quipwright.critics.reward_model.groups import Compared, Graded, Group
from quipwright.critics.reward_model.model import RewardArchitecture, RewardModel
from quipwright.critics.reward_model.training import CriticTraining, group_loss, train_critic
from quipwright.data.task import Task
from quipwright.data.verdicts import read_verdicts
from quipwright.students.base import LoRA

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


def test_group_loss_by_hand(tiny_weights: Path) -> None:
    shape = RewardArchitecture(
        weights=str(tiny_weights), layers=2, first_layer=0, lora=LoRA(rank=2, alpha=4), prompt=PROMPT
    )
    model = RewardModel(shape).eval()
    group = Group(
        LITERAL,
        list(TEXTS),
        ["attempt"] * 3,
        [Compared(0, 1, 1.0, 2.0), Compared(1, 2, 0.5, 1.0)],
        [Graded(0, 2.0, 1.0), Graded(1, 0.5, 0.5)],
    )
    with torch.no_grad():
        s = model(model.rows([LITERAL], [TEXTS]))[0].tolist()
        c = model.cuts.tolist()
        total = float(group_loss(model, model, [group], grade_weight=1.5).mean())
    pairs = 2.0 * -math.log(expit(s[0] - s[1])) + 0.5 * -(math.log(expit(s[1] - s[2])) + math.log(expit(s[2] - s[1])))

    def ordinal(score: float, targets: tuple[float, ...]) -> float:
        return -sum(
            t * math.log(expit(score - cut)) + (1 - t) * math.log(expit(cut - score))
            for t, cut in zip(targets, c, strict=True)
        )

    grades = 1.5 * (ordinal(s[0], (1, 1, 0)) + 0.5 * ordinal(s[1], (0.5, 0, 0))) / 3
    assert total == pytest.approx(pairs + grades, rel=1e-4)
    assert c[0] < c[1] < c[2]


def write_verdicts(path: Path, rows: int = 24) -> Path:
    lines = []
    for i in range(rows):
        row = {
            "literal": f"Sentence number {i} is about the bus.",
            "a": f"Bus {i}, gone again, like my hopes.",
            "b": f"Bus bus {i}.",
        }
        better = "a" if i % 3 else "b"
        grades = {"quality_a": 2 if better == "a" else 0, "quality_b": 0 if better == "a" else 1}
        split = "heldout" if i % 4 == 0 else "train"
        lines.append(json.dumps({**row, **grades, "verdict": better, "strength": 1 + i % 3, "split": split}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_training_from_a_file_to_a_saved_critic_with_figures(tiny_weights: Path, tmp_path: Path) -> None:
    shape = RewardArchitecture(weights=str(tiny_weights), layers=2, first_layer=0, lora=LoRA(rank=2, alpha=4))
    training = CriticTraining(
        verdicts=str(write_verdicts(tmp_path / "v.jsonl")),
        teacher=None,
        architecture=shape,
        epochs=2,
        lr=0.01,
        calibration_share=0.3,
    )
    trained = train_critic(training)
    card = trained.card
    assert (card.n, card.figures["n"]) == (6, 6)
    assert card.low <= card.agreement <= card.high
    trained.save(tmp_path / "critic")
    loaded = RewardModelCritic.load(tmp_path / "critic")
    assert loaded.card == card
    literals, texts = [LITERAL] * 3, list(TEXTS)
    assert loaded.scores(literals, texts) == pytest.approx(trained.scores(literals, texts), abs=0.05)
    rows = [row for row in read_verdicts(tmp_path / "v.jsonl") if row.split == "heldout"]
    parts = component_figures(trained, rows)
    assert parts["whole"][0] == pytest.approx(measure(trained, rows)["agreement"], abs=1e-3)
    assert {"head", "features", "recall"} <= parts.keys()
    mixed = [row.model_copy(update={"author_a": "teacher"}) if i % 2 else row for i, row in enumerate(rows)]
    split = measure(trained, mixed)
    assert (split["n"], split["n_teacher_judged"]) == (3, 3)
    right = split["agreement"] * 3 + split["agreement_teacher"] * 3
    assert right == pytest.approx(6 * measure(trained, rows)["agreement"], abs=1e-2)


@pytest.mark.slow
def test_every_setting_of_the_training_changes_the_critic(
    tiny_weights: Path, tiny_critic: Path, tmp_path: Path
) -> None:
    shape = {"weights": str(tiny_weights), "layers": 2, "first_layer": 0, "lora": {"rank": 2, "alpha": 4}}
    teacher = {"kind": "recorded", "path": str(_taught(tmp_path))}
    usual: dict[str, Any] = {
        "verdicts": str(write_verdicts(tmp_path / "v.jsonl")), "teacher": None, "architecture": shape, "epochs": 1,
        "lr": 0.01, "calibration_share": 0.3,
    }  # fmt: skip
    free = {"teacher": teacher, "free_share": 1.0}
    changes: dict[str, tuple[dict[str, Any], Any]] = {
        "verdicts": ({}, str(write_verdicts(tmp_path / "w.jsonl", 20))), "teacher": ({"teacher_weight": 0.5}, teacher),
        "task": ({}, str(_other_task(tmp_path))), "architecture": ({}, {**shape, "layers": 1}), "epochs": ({}, 2),
        "batch_size": ({}, 3), "lr": ({}, 0.02), "warmup_ratio": ({}, 0.9), "weight_decay": ({}, 0.9),
        "max_grad_norm": ({}, 1e-3), "grade_weight": ({}, 0.0), "unjudged_weight": ({"verdicts": str(_three_texts(tmp_path))}, 5.0),
        "teacher_share": ({"verdicts": str(_with_teacher(tmp_path))}, 1.0), "free_share": ({"teacher": teacher}, 1.0),
        "free_weight": (free, 0.9), "teacher_weight": (free, 0.9), "start": ({}, str(tiny_critic)),
        "features": ({}, False), "feature_literals": ({}, 2), "calibration_share": ({}, 0.2), "seed": ({}, 5),
    }  # fmt: skip
    assert changes.keys() == CriticTraining.model_fields.keys()
    made: dict[str, str] = {}

    def key(settings: dict[str, Any]) -> str:
        name = json.dumps(settings, sort_keys=True)
        if name not in made:
            critic = train_critic(CriticTraining.model_validate(settings))
            tensors = [p.detach().float().cpu().numpy().tobytes() for p in critic.model.trained().values()]
            made[name] = content_hash(critic.card, [hashlib.sha256(t).hexdigest() for t in tensors])
        return made[name]

    for name, (beside, value) in changes.items():
        assert key(usual | beside) != key(usual | beside | {name: value}), name


def _other_task(folder: Path) -> Path:
    task = Task.load()
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({**task.model_dump(mode="json"), "student_prompt": "Say it again: {literal}"}))
    return path


def _taught(folder: Path) -> Path:
    """A teacher's paraphrases of the literals of :func:`write_verdicts`."""
    literals = {json.loads(line)["literal"] for line in write_verdicts(folder / "v.jsonl").read_text().splitlines()}
    rows = [{"literal": literal, "humorous": [f"{literal} Twice, with feeling."]} for literal in sorted(literals)]
    path = folder / "taught.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _three_texts(folder: Path) -> Path:
    """A third text of every literal, which only one of the two others was compared with."""
    path = write_verdicts(folder / "three.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    third = [
        {**row, "a": row["b"], "quality_a": row["quality_b"], "b": "No bus, no hope.", "quality_b": 3, "verdict": "b"}
        for row in rows
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows + third))
    return path


def _with_teacher(folder: Path) -> Path:
    path = write_verdicts(folder / "t.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [{**row, "author_a": "teacher"} if i % 5 == 1 else row for i, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
