"""How a family of models must be scored: found out on a small random copy, by its own forward pass over single texts.

Packing is right for plain attention; layers that mix neighbouring positions, swallowed position ids and output steps
of the model's own make it wrong, and nothing in a config says so. So each way of scoring is tried and the cheapest one
that is right is taken.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from quipwright.core.errors import WeightsError
from quipwright.students.batches import RankedBatch
from quipwright.students.common import pad
from quipwright.students.findings import remembered
from quipwright.students.policy import ScoringPath, bare, logits
from quipwright.students.seq2seq_policy import Seq2SeqPath, Seq2SeqPolicy, start_token
from quipwright.students.shrink import VOCABULARY, shrunken, vocabulary, windows
from quipwright.students.weights import quiet

TOLERANCE = 1e-3
"""Most that a log-probability may differ from the model's own, in nats, float32."""
_CACHED = 2e-2
"""The same for generation with a cache, where recurrent layers sum in another order."""
SHORT = ((5, (7, 4, 6)), (4, (3, 5)))
"""Rows of a probe: tokens of the prompt, and of its responses. No text is longer than a shrunken window."""
LONG = ((9, (11, 8)), (6, (14,)))
"""The same beyond the shrunken windows."""
_VERSION = 4  # of what is probed: older results are found out anew
_WAYS = ((True, True), (True, False), (False, True), (False, False))  # packed, head


def scoring_path(network: Any) -> ScoringPath:
    """How to score responses with the causal language model ``network``, or with one whose backbone it is.

    It is found out on a small random copy of its config (see :func:`find_path`), and on the network itself where no
    such copy can be built. Raises :class:`WeightsError` for a family that cannot be scored.
    """
    from transformers import AutoModelForCausalLM

    model = bare(network)
    attention = {"attn_implementation": model.config._attn_implementation}
    return remembered(
        f"scoring {_VERSION} causal", model.config, ScoringPath, lambda: _probed(AutoModelForCausalLM, model, attention)
    )


def _probed(kind: Any, model: Any, attention: dict[str, Any]) -> ScoringPath:
    try:
        small = random_network(kind, model.config, **attention)
    except Exception:  # a config of a kind that cannot be shrunk
        path = find_path(copy.deepcopy(model).float().eval(), [])
        limits = windows(model.config)
        return replace(path, longest=min(limits)) if path.packed and limits else path
    return find_path(small, windows(model.config))


def random_network(kind: Any, config: Any, **options: Any) -> Any:
    """A small random float32 network of the family of ``config``, built by ``kind.from_config``.

    Its weights are drawn wide, so that a wrong path shows in every log-probability; torch's own generator is left as
    it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), quiet():
        torch.manual_seed(0)
        network = kind.from_config(shrunken(config), dtype=torch.float32, **options).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim >= 2:
                    parameter.normal_(0, 0.25)
    return network


def probe_batch(
    rows: tuple[tuple[int, tuple[int, ...]], ...], tokens: int = VOCABULARY, *, alike: bool = False
) -> RankedBatch:
    """A batch of random ids of a vocabulary of ``tokens``: for each row the prompt's length and those of its responses.

    With ``alike`` every second response begins with half of what the one before it says.
    """
    generator = torch.Generator().manual_seed(1)

    def draw(length: int) -> list[int]:
        return torch.randint(min(4, tokens - 1), tokens, (length,), generator=generator).tolist()

    k = max(len(lengths) for _, lengths in rows)
    prompt, prompt_mask = pad([draw(length) for length, _ in rows])
    responses: list[list[int]] = []
    for _, lengths in rows:
        for column, n in enumerate((*lengths, *[0] * (k - len(lengths)))):
            shared = responses[-1][: n // 2] if alike and column % 2 else []
            responses.append([*shared, *draw(n - len(shared))])
    flat, mask = pad(responses)
    shape = (len(rows), k, flat.shape[1])
    return RankedBatch(prompt, prompt_mask, flat.view(shape), mask.view(shape), torch.zeros(len(rows), k).long())


@torch.no_grad()
def own_logs(network: Any, batch: RankedBatch) -> Float[Tensor, "scored vocabulary"]:
    """Log-probabilities over the vocabulary at every scored position by the model's forward pass over one unpadded
    text at a time, row by row and response by response."""
    parts = []
    for row in range(len(batch.prompt)):
        prompt = batch.prompt[row, batch.prompt_mask[row]]
        for response, mask in zip(batch.response[row], batch.mask[row], strict=True):
            if mask.any():
                ids = torch.cat([prompt, response[mask]])[None]
                parts.append(bare(network)(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1])
    return torch.cat(parts).float().log_softmax(-1)


@torch.no_grad()
def difference(network: Any, path: ScoringPath, batch: RankedBatch) -> float:
    """How far the log-probabilities by ``path`` are from the model's own, in nats; infinite where it raises."""
    expected = own_logs(network, batch)
    try:
        layout = path.layout(batch)
        logs = logits(network, layout, path.head).float().log_softmax(-1)[layout.source]
        worst = float((logs - expected).abs().max()) if logs.shape == expected.shape else float("inf")
    except Exception:  # whatever a family's code raises for an input it was not made for
        return float("inf")
    return worst if worst == worst else float("inf")


def find_path(network: Any, limits: list[int]) -> ScoringPath:
    """The cheapest right way to score the small ``network``, whose full-size model has sliding windows of
    ``limits`` tokens.

    Raises :class:`WeightsError` where no way agrees with its own forward pass, or that fails.
    """
    tokens = vocabulary(bare(network).config)
    short, long = (probe_batch(rows, tokens) for rows in (SHORT, LONG))
    alike = probe_batch(SHORT, tokens, alike=True)
    try:
        expected = own_logs(network, long)
    except Exception as error:  # as above
        raise _refusal(network, f"its forward pass fails ({_line(error)})") from None
    if not expected.isfinite().all():
        raise _refusal(network, "its log-probabilities are not finite")
    found: dict[tuple[bool, bool], float] = {}
    for packed, head in _WAYS:
        path = ScoringPath(packed, head)
        found[packed, head] = difference(network, path, short)
        if packed and found[packed, head] <= TOLERANCE:
            found[packed, head] = difference(network, path, alike)
        if not found[packed, head] <= TOLERANCE:
            continue
        beyond = difference(network, path, long)
        if beyond <= TOLERANCE:
            return _completed(network, path, found)
        if packed and limits:
            unpacked = next((h for h in (True, False) if _right(network, ScoringPath(False, h), long)), None)
            if unpacked is not None:
                return _completed(network, ScoringPath(True, head and unpacked, min(limits)), found)
        found[packed, head] = beyond
    worst = min(found[False, True], found[False, False])
    raise _refusal(network, f"its log-probabilities in a padded batch differ by {worst:.2g} nats from those alone")


def _right(network: Any, path: ScoringPath, batch: RankedBatch) -> bool:
    return difference(network, path, batch) <= TOLERANCE


def seq2seq_path(network: Any) -> Seq2SeqPath:
    """How to score responses with the encoder-decoder ``network``, as :func:`scoring_path` finds it out."""
    from transformers import AutoModelForSeq2SeqLM

    model = bare(network)
    attention = {"attn_implementation": model.config._attn_implementation}

    def probe() -> Seq2SeqPath:
        try:
            small = random_network(AutoModelForSeq2SeqLM, model.config, **attention)
        except Exception:  # a config of a kind that cannot be shrunk
            small = copy.deepcopy(model).float().eval()
        return find_seq2seq_path(small)

    return remembered(f"scoring {_VERSION} seq2seq", model.config, Seq2SeqPath, probe)


@torch.no_grad()
def find_seq2seq_path(network: Any) -> Seq2SeqPath:
    """The cheapest right way to score the small encoder-decoder ``network``.

    Raises :class:`WeightsError` where no way agrees with its own forward pass, or that fails.
    """
    start, batch = start_token(network), probe_batch(LONG, vocabulary(network.config))
    if start is None:
        raise _refusal(network, "its config names no token that the decoder starts from")
    present = batch.mask.any(-1).view(-1).nonzero()[:, 0]
    response, mask = (side.flatten(0, 1)[present] for side in (batch.response, batch.mask))
    k = batch.response.shape[1]

    def compare(path: Seq2SeqPath) -> float:
        policy = Seq2SeqPolicy(network, [start], False, path)
        logs = policy.logits(batch.prompt, batch.prompt_mask, response, present // k).log_softmax(-1)
        worst = 0.0
        for number, slot in enumerate(present.tolist()):
            length, prompt = int(mask[number].sum()), batch.prompt[slot // k, batch.prompt_mask[slot // k]]
            ids = torch.cat([torch.tensor([start]), response[number, : length - 1]])[None]
            expected = network(input_ids=prompt[None], decoder_input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            worst = max(worst, float((logs[number, :length] - expected).abs().max().nan_to_num(float("inf"))))
        return worst

    gaps = {}
    for shared in (True, False):
        try:
            gaps[shared] = compare(Seq2SeqPath(shared))
        except Exception as error:  # whatever a family's code raises for an input it was not made for
            if not shared:
                raise _refusal(network, f"its forward pass fails ({_line(error)})") from None
            gaps[shared] = float("inf")
        if gaps[shared] <= TOLERANCE:
            return Seq2SeqPath(shared, "" if shared else "its decoder does not take encoder states alone")
    raise _refusal(
        network, f"its log-probabilities in a padded batch differ by {gaps[False]:.2g} nats from those alone"
    )


def _completed(network: Any, path: ScoringPath, found: dict[tuple[bool, bool], float]) -> ScoringPath:
    """``path`` with why it is not packed and whether generation may pad."""
    worst = min(found.get((True, head), float("inf")) for head in (True, False))
    reason = ""
    if not path.packed:
        reason = f"packed, log-probabilities differ by {worst:.2g} nats" if worst < float("inf") else "packing fails"
    return ScoringPath(path.packed, path.head, path.longest, _pads_left(network), reason)


@torch.no_grad()
def _pads_left(network: Any) -> bool:
    """True where greedy generation from two prompts of unequal length in one left-padded batch is by the model's own
    logits. Raises :class:`WeightsError` where not even a single prompt is."""
    tokens = vocabulary(bare(network).config)
    prompts = [probe_batch(((length, (1,)),), tokens).prompt[0] for length in (7, 4)]
    if _generates(network, prompts):
        return True
    if not all(_generates(network, [prompt]) for prompt in prompts):
        raise _refusal(network, "its generation with a cache differs from its forward pass")
    return False


def _generates(network: Any, prompts: list[Tensor], steps: int = 4) -> bool:
    """True where ``generate`` gives, step by step, the logits of the forward pass over what stands there."""
    from transformers import GenerationConfig

    width = max(map(len, prompts))
    ids = torch.stack([torch.cat([p.new_zeros(width - len(p)), p]) for p in prompts])
    mask = torch.stack([torch.arange(width) >= width - len(p) for p in prompts]).long()
    greedy = GenerationConfig(
        max_new_tokens=steps, do_sample=False, pad_token_id=0, return_dict_in_generate=True, output_logits=True
    )
    try:
        out = network.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)
        for row, prompt in enumerate(prompts):
            text = torch.cat([prompt, out.sequences[row, width:]])[None]
            expected = (
                network(input_ids=text[:, :-1], use_cache=False).logits[0, len(prompt) - 1 :].float().log_softmax(-1)
            )
            made = torch.stack([step[row] for step in out.logits]).float().log_softmax(-1)
            if not (made - expected).abs().max() <= _CACHED:
                return False
    except Exception:  # whatever a family's code raises for an input it was not made for
        return False
    return True


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:120]


def _refusal(network: Any, reason: str) -> WeightsError:
    return WeightsError(
        f"Models of type {bare(network).config.model_type} cannot be students: {reason}.",
        "Choose weights of a family in docs/model-families.md.",
    )
