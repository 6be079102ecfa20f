"""The log-probabilities of an encoder-decoder network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from quipwright.students.batches import LogProbs, RankedBatch
from quipwright.students.policy import bare
from quipwright.students.precision import multiplies_bfloat16


@dataclass(frozen=True)
class Seq2SeqPath:
    """How a family of encoder-decoders is scored rightly.

    ``shared``: each prompt is encoded once and its states serve all responses of its row; otherwise each response has
    its prompt encoded anew, for the reason ``reason``.
    """

    shared: bool = True
    reason: str = ""


def start_token(network: Any) -> int | None:
    """The token that the decoder of ``network`` starts from, as its ``generate`` finds it; ``None`` where it names
    none."""
    model = bare(network)
    for settings in (model.config, model.generation_config, getattr(model.config, "decoder", None)):
        for name in ("decoder_start_token_id", "bos_token_id"):
            if isinstance(token := getattr(settings, name, None), int):
                return token
    return None


class Seq2SeqPolicy(nn.Module):
    """The trained network of an encoder-decoder student: a batch becomes the log-probabilities of its responses."""

    def __init__(self, network: Any, opening: Sequence[int], autocast: bool, path: Seq2SeqPath) -> None:
        """``network`` is a transformers encoder-decoder, possibly wrapped by peft; ``opening`` is what the decoder is
        given before a response: the start token and whatever constant tokens follow it."""
        super().__init__()
        self.network = network
        self.opening = tuple(opening)
        self.autocast = autocast
        self.path = path

    def forward(self, batch: RankedBatch, uniform: bool = False) -> LogProbs:
        """Log-probabilities of every response of ``batch``, float32. Absent columns are not run."""
        rows, k, width = batch.response.shape
        present = batch.mask.any(-1).view(-1).nonzero()[:, 0]  # of rows * k
        here = next(self.parameters()).device
        batch, present = batch.to(here), present.to(here)
        response, mask = batch.response.view(-1, width)[present], batch.mask.view(-1, width)[present]
        with torch.autocast(here.type, torch.bfloat16, enabled=self.autocast and multiplies_bfloat16(here)):
            logits = self.logits(batch.prompt, batch.prompt_mask, response, present // k)
        logs = logits.float().log_softmax(-1)
        token = logs.gather(-1, response[..., None])[..., 0]
        zeros = torch.zeros(rows * k, dtype=token.dtype, device=token.device)

        def summed(values: Tensor) -> Tensor:
            return zeros.index_add(0, present, torch.where(mask, values, 0.0).sum(-1)).view(rows, k)

        even = summed(logs.mean(-1)) if uniform else None
        return LogProbs(summed(token), batch.mask.sum(-1).to(token.dtype), even)

    def logits(
        self,
        prompt: Int[Tensor, "batch src"],
        prompt_mask: Bool[Tensor, "batch src"],
        response: Int[Tensor, "present tgt"],
        row: Int[Tensor, " present"],
    ) -> Float[Tensor, "present tgt vocabulary"]:
        """Logits whose place t predicts token t of ``response``; ``row`` says which prompt each one answers."""
        from transformers.modeling_outputs import BaseModelOutput

        network = bare(self.network)
        opening = torch.tensor(self.opening, device=prompt.device).expand(len(response), -1)
        if self.path.shared:
            states = network.get_encoder()(input_ids=prompt, attention_mask=prompt_mask.long()).last_hidden_state
            source: dict[str, Any] = {"encoder_outputs": BaseModelOutput(last_hidden_state=states[row])}
        else:
            source = {"input_ids": prompt[row]}
        # No decoder mask: padding stands on the right, where a causal decoder does not look, and a start token that
        # is also the padding (T5, Pegasus) must stay visible.
        out = network(
            attention_mask=prompt_mask.long()[row],
            decoder_input_ids=torch.cat([opening, response[:, :-1]], -1),
            use_cache=False,
            **source,
        )
        logits: Tensor = out.logits[:, len(self.opening) - 1 :]
        return logits
