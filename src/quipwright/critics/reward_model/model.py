"""The reward model: a scalar head with LoRA on small weights, which reads a literal and one response at a time.

Each response is scored alone, so position bias is zero by construction; P(A better than B) = s(s_A - s_B)
(Bradley and Terry 1952). The same scalar carries absolute grades through ordered cut points c1 < c2 < c3:
P(grade >= g) = s(score - c_g), with grades 0 to 3, worst first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, softplus

from quipwright.core.errors import CriticError
from quipwright.core.settings import Settings
from quipwright.students.base import LoRA, Prompted
from quipwright.students.batches import RankedBatch
from quipwright.students.causal import collate
from quipwright.students.common import add_lora
from quipwright.students.policy import run
from quipwright.students.precision import frozen_dtype, multiplies_bfloat16
from quipwright.students.probe import scoring_path
from quipwright.students.prompt_format import Plain
from quipwright.students.trained_file import restore, write_trained
from quipwright.students.weights import device, load, load_network, weights_identity

MODEL_FILE = "critic.safetensors"


class RewardArchitecture(Settings):
    """Shape of a reward model. It reads the first ``layers`` layers of ``weights`` and tunes those from
    ``first_layer`` on; the head sees the response's last hidden state beside the mean over its tokens.

    ``prompt`` is what a response stands behind; "" means the task's ``student_prompt`` in its default style, which
    training fills in.
    """

    weights: str = "embedded"
    revision: str | None = None
    layers: int = Field(24, ge=1)
    first_layer: int = Field(8, ge=0)
    lora: LoRA = LoRA(rank=8, alpha=16, dropout=0.05)
    prompt: str = ""
    context: int = Field(512, ge=16)

    @field_validator("prompt")
    @classmethod
    def _one_slot(cls, prompt: str) -> str:
        if prompt and prompt.count("{literal}") != 1:
            raise ValueError(f"prompt {prompt!r} must have the slot {{literal}} once")
        return prompt

    @property
    def backward(self) -> str:
        """The prompt turned round, which a literal stands behind: ``X {literal} Y`` becomes ``Y {text} X``."""
        before, after = self.prompt.split("{literal}")
        return f"{after.strip()} {{text}}\n{before.strip()}"


class RewardModel(nn.Module):
    """Backbone with adapters, a linear head and three cut points."""

    def __init__(self, architecture: RewardArchitecture, base_dir: Path | None = None) -> None:
        """Load the backbone (in bf16 where that is fast) and add fresh adapters (drawn from torch's seed), on :func:`device`.

        ``base_dir``: where a relative folder of weights starts.
        """
        super().__init__()
        if not architecture.prompt:
            raise CriticError("The reward model has no prompt.", "Set architecture.prompt.")
        from transformers import AutoModel, AutoTokenizer

        weights, revision = architecture.weights, architecture.revision
        backbone = load_network(AutoModel, weights, revision, frozen_dtype("bf16", device()), base_dir, backbone=True)
        self.base_dir, self.base = base_dir, weights_identity(weights, revision, base_dir)
        self.path = scoring_path(backbone)
        depth = min(architecture.layers, backbone.config.num_hidden_layers)
        backbone.layers = backbone.layers[:depth]
        self.architecture = architecture
        self.tokenizer = load(AutoTokenizer, weights, revision, base_dir)
        self.backbone: Any = add_lora(backbone, architecture.lora, architecture.first_layer, depth)
        width = backbone.config.hidden_size
        self.head = nn.Parameter(torch.randn(1, 2 * width) * 0.005)
        self.first_cut = nn.Parameter(torch.tensor(-0.3))
        self.steps = nn.Parameter(torch.tensor([1.5, 2.0]))
        self.to(device())

    @property
    def cuts(self) -> Float[Tensor, " 3"]:
        """c1 < c2 < c3: the steps between them are positive by construction."""
        return torch.cumsum(torch.cat([self.first_cut[None], softplus(self.steps)]), 0)

    def rows(self, literals: Sequence[str], texts: Sequence[Sequence[str]]) -> RankedBatch:
        """Each literal with its responses as a batch."""
        prompts = (self.architecture.prompt.replace("{literal}", literal) for literal in literals)
        return collate(
            Plain(self.tokenizer),
            [Prompted(prompt, tuple(own)) for prompt, own in zip(prompts, texts, strict=True)],
            self.architecture.context,
        )

    def forward(self, batch: RankedBatch) -> Float[Tensor, "batch k"]:
        """Scores in nats of preference; those of absent columns mean nothing."""
        rows, k, _ = batch.response.shape
        layout = self.path.layout(batch)
        count = torch.bincount(layout.slot, minlength=rows * k).clamp(min=1)[:, None]
        place = torch.zeros(rows * k, dtype=torch.long)
        ends = place.scatter_reduce(0, layout.slot, layout.place, "amax")
        row_of = place.scatter_reduce(0, layout.slot, layout.row[layout.source], "amax")
        here = self.head.device
        layout, count, ends, row_of = layout.to(here), count.to(here), ends.to(here), row_of.to(here)
        with torch.autocast(here.type, torch.bfloat16, enabled=multiplies_bfloat16(here)):
            hidden = run(self.backbone, layout).last_hidden_state.float()
        scored = hidden[layout.row[layout.source], layout.place]  # [scored width]
        mean = scored.new_zeros(rows * k, scored.shape[1]).index_add(0, layout.slot, scored) / count
        last = hidden[row_of, ends]
        features = torch.cat([last, mean], -1)
        return linear(dropout(features, self.architecture.lora.dropout, self.training), self.head).view(rows, k)

    def save(self, folder: Path) -> None:
        """Write adapters and head in bf16."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().to(torch.bfloat16) for name, p in self.trained().items()}
        write_trained(folder / MODEL_FILE, tensors, self.base)

    def restore(self, folder: Path) -> None:
        """Read what :meth:`save` wrote. Raises :class:`WeightsError` where it does not fit, or the backbone is another."""
        restore(folder / MODEL_FILE, self.trained(), self.base, self.architecture.weights)

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is not the frozen backbone."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}
