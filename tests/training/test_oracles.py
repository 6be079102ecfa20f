"""Independent witnesses: TRL's DPO on a fixed batch, transformers' own loss for imitation, torch for smoothing."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from quipwright.students.base import Prompted
from quipwright.students.scoring import score_rows
from quipwright.testing.tiny_models import CAUSAL, ROWS, causal_student
from quipwright.training.objectives import DPO, MLE


def disturbed(network: Any) -> Any:
    """A copy whose weights differ: the reference."""
    other, noise = copy.deepcopy(network), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise) * 0.05)
    return other


def trl_inputs(student: Any) -> dict[str, torch.Tensor]:
    """The rows as TRL batches them: all chosen, then all rejected, right-padded."""
    texts = [
        (student.prompt_ids(r.prompt), student.response_ids(r.responses[column])) for column in (0, 1) for r in ROWS
    ]
    width = max(len(p) + len(r) for p, r in texts)
    inputs = {key: torch.zeros(len(texts), width, dtype=torch.long) for key in ("input_ids", "attention_mask")}
    inputs["completion_mask"] = torch.zeros(len(texts), width, dtype=torch.long)
    for i, (prompt, response) in enumerate(texts):
        end = len(prompt) + len(response)
        inputs["input_ids"][i, :end] = torch.tensor(prompt + response)
        inputs["attention_mask"][i, :end] = 1
        inputs["completion_mask"][i, len(prompt) : end] = 1
    return inputs


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "ipo", "sigmoid_norm", "robust"])
def test_dpo_is_that_of_trl(loss: str, tmp_path: Path) -> None:
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    student = causal_student()
    reference = disturbed(student.network)
    smoothing = 0.1 if loss == "robust" else 0.0
    config = trl.DPOConfig(
        output_dir=str(tmp_path),
        beta=0.3,
        loss_type=[loss],
        label_smoothing=smoothing,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    rows = datasets.Dataset.from_list(
        [{"prompt": r.prompt, "chosen": " " + r.responses[0], "rejected": " " + r.responses[1]} for r in ROWS]
    )
    trainer = trl.DPOTrainer(
        copy.deepcopy(student.network),
        ref_model=reference,
        args=config,
        train_dataset=rows,
        processing_class=student.tokenizer,
    )
    trainer.model.eval()
    with torch.no_grad():
        theirs = float(trainer.compute_loss(trainer.model, trl_inputs(student)))
    batch = student.collate(ROWS)
    with torch.no_grad():
        policy = student.logprobs(batch)
        student.module.network = student.network = reference
        frozen = student.logprobs(batch)
    ours = DPO(beta=0.3, loss=loss, label_smoothing=smoothing)(policy, frozen, batch.rank).mean()
    assert float(ours) == pytest.approx(theirs, abs=2e-5)
    assert float(ours) != pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("family", CAUSAL)
def test_imitation_is_transformers_own_loss(family: str) -> None:
    student = causal_student(family)
    for row in ROWS:
        one = Prompted(row.prompt, row.responses[:1])
        prompt, response = student.prompt_ids(one.prompt), student.response_ids(one.responses[0])
        labels = torch.tensor([[-100] * len(prompt) + response])
        with torch.no_grad():
            theirs = student.network(input_ids=torch.tensor([prompt + response]), labels=labels).loss
            batch = student.collate([one])
            ours = MLE()(student.logprobs(batch), None, batch.rank)
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_smoothing_is_torchs(smoothing: float) -> None:
    student = causal_student()
    one = Prompted(ROWS[0].prompt, ROWS[0].responses[:1])
    prompt, response = student.prompt_ids(one.prompt), student.response_ids(one.responses[0])
    with torch.no_grad():
        logits = student.network(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        theirs = cross_entropy(logits, torch.tensor(response), label_smoothing=smoothing)
        batch = student.collate([one])
        ours = MLE(label_smoothing=smoothing)(student.logprobs(batch, uniform=True), None, batch.rank)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_scored_rows_are_what_the_reference_is_made_of() -> None:
    student = causal_student()
    scored = score_rows(student, ROWS, 2)
    with torch.no_grad():
        policy = student.logprobs(student.collate(ROWS))
    torch.testing.assert_close(scored.total, policy.total, atol=1e-4, rtol=0)
