"""The classifier of sensitive sentences: a sentence encoder with one linear layer, stored in eight bits a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from quipwright.core.errors import WeightsError
from quipwright.core.settings import Settings
from quipwright.core.storage.files import read_json
from quipwright.students.trained_file import read_trained, write_trained

KINDS = ("death", "self-harm", "abuse", "illness", "disaster", "group")
"""What a sensitive sentence is about; the classifier's first class stands for none of them."""
CARD_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "care.json", "care.safetensors", "tokenizer.json"
_ROWS = 32
_SCALE = ".scale"


class EncoderShape(Settings):
    """The size of a BERT encoder (Devlin et al. 2019): layers after which everything is normalised, GELU between."""

    words: int
    places: int = 512
    width: int = 384
    heads: int = 12
    between: int = 1536
    layers: int = 6


class CareCard(Settings):
    """What is known of a trained classifier.

    A sentence is sensitive where its probability is at least ``threshold``. ``most_tokens`` of a sentence are read.
    ``figures`` are everything that training printed.
    """

    encoder: EncoderShape
    threshold: float = Field(0.5, gt=0, lt=1)
    most_tokens: int = Field(128, ge=8)
    data_hash: str = ""
    figures: dict[str, float] = Field(default_factory=dict)


class CareClassifier:
    """Probabilities that a sentence is about each of ``KINDS``."""

    def __init__(self, network: CareNetwork, tokenizer: Any, card: CareCard) -> None:
        """``tokenizer`` is of the library ``tokenizers``."""
        self.network, self.card, self.tokenizer = network.eval(), card, tokenizer
        tokenizer.enable_truncation(card.most_tokens)
        tokenizer.enable_padding()

    @classmethod
    def load(cls, folder: Path) -> CareClassifier:
        """The classifier that :meth:`save` wrote. Raises :class:`WeightsError` where it cannot be read."""
        from tokenizers import Tokenizer

        card = CareCard.model_validate(read_json(folder / CARD_FILE))
        stored, _ = read_trained(folder / WEIGHTS_FILE)
        network = CareNetwork(card.encoder)
        try:
            network.load_state_dict(unpacked(stored))
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:  # the tokenizer library raises nothing narrower
            reason = " ".join(str(error).split())[:120]
            raise WeightsError(f"{folder} holds no whole classifier: {reason}.", "Restore it from a copy.") from None
        return cls(network, tokenizer, card)

    def save(self, folder: Path) -> None:
        """Write card, tokenizer and weights to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_trained(folder / WEIGHTS_FILE, packed(self.network.state_dict()), "")
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        (folder / CARD_FILE).write_text(self.card.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> Float[Tensor, "texts kinds"]:
        """The probability of each of ``KINDS``, in order; what is left to 1 is that of a harmless sentence."""
        rows = torch.zeros(len(texts), len(KINDS))
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _ROWS):
            part = order[start : start + _ROWS]
            rows[part] = self.network(*self.tokens([texts[i] for i in part])).softmax(-1)[:, 1:]
        return rows

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and their mask, both (texts, tokens)."""
        encoded = self.tokenizer.encode_batch(list(texts))
        return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded]).bool()


class CareNetwork(nn.Module):
    """A BERT encoder, the mean of its last states, and one linear layer."""

    def __init__(self, shape: EncoderShape) -> None:
        """Random weights."""
        super().__init__()
        self.words, self.places = nn.Embedding(shape.words, shape.width), nn.Embedding(shape.places, shape.width)
        self.norm = nn.LayerNorm(shape.width, 1e-12)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                shape.width, shape.heads, shape.between, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
            )
            for _ in range(shape.layers)
        )
        self.head = nn.Linear(shape.width, 1 + len(KINDS))

    def forward(self, ids: Tensor, mask: Tensor) -> Float[Tensor, "texts classes"]:
        """Logits: harmless, then ``KINDS``. ``ids`` and ``mask`` are (texts, tokens)."""
        return self.upper(self.lower(ids, mask, len(self.layers)), mask, len(self.layers))

    def lower(self, ids: Tensor, mask: Tensor, layers: int) -> Float[Tensor, "texts tokens width"]:
        """The states behind the first so many ``layers``."""
        states = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
        for layer in self.layers[:layers]:
            states = layer(states, src_key_padding_mask=~mask)
        return states

    def upper(self, states: Tensor, mask: Tensor, layers: int) -> Float[Tensor, "texts classes"]:
        """Logits from the states behind the first so many ``layers``."""
        for layer in self.layers[layers:]:
            states = layer(states, src_key_padding_mask=~mask)
        weight = mask[..., None].to(states.dtype)
        return self.head((states * weight).sum(1) / weight.sum(1).clamp(min=1))


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` for the file: matrices as eight-bit integers with one scale a row, all else as it is."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dim() == 2:
            scale = (tensor.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
            stored[name], stored[name + _SCALE] = (tensor / scale).round().to(torch.int8), scale
        else:
            stored[name] = tensor
    return stored


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`packed` stored, to half of the last of 127 steps a row."""
    return {
        name: tensor * stored[name + _SCALE] if name + _SCALE in stored else tensor
        for name, tensor in stored.items()
        if not name.endswith(_SCALE)
    }
