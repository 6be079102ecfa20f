"""Which families of models can be students, and how each is scored: every one that transformers can build small.

``python -m quipwright.students.families`` prints the table of docs/model-families.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from quipwright.core.errors import WeightsError
from quipwright.students.policy import ScoringPath
from quipwright.students.probe import find_path, find_seq2seq_path, random_network
from quipwright.students.seq2seq_policy import Seq2SeqPath
from quipwright.students.shrink import windows
from quipwright.students.weights import quiet

HEADER = """# Model families

Made by `python -m quipwright.students.families` from the installed transformers; do not edit.

A student opens weights of any family below that is not refused. Before it scores anything, a small random copy of the
weights' config shows how: each way of scoring is compared with the model's own forward pass over one text at a time, in
float32, and the cheapest one within 0.001 nats is taken. What is found for a real config can be better or worse than the
row of its family here, which stands for transformers' default settings; the config at hand decides.

* **packed**: all responses of a row stand behind one copy of their prompt. *Up to n tokens*: prompt and response
  together, because of a sliding window; longer ones are scored unpacked.
* **unpacked**: each response has its own copy of the prompt, or its prompt is encoded anew. The result is the same; a
  training step takes longer.
* **refused**: with the reason. *Not built*: transformers' default settings of that family give no small model to try.
"""
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "granite": {"logits_scaling": 8.0},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"] * 8
    },
    "lfm2": {"full_attn_idxs": [1]},
    "longt5": {"decoder_start_token_id": 0},
    "modernbert-decoder": {"local_attention": 128},
    "switch_transformers": {"decoder_start_token_id": 0},
    "t5": {"decoder_start_token_id": 0},
}
"""What transformers' default settings leave out that published weights of the family have."""


@dataclass(frozen=True)
class Family:
    """One family: the name of its type, how it is scored, and why not packed or not at all."""

    name: str
    scored: str
    reason: str = ""


def causal_names() -> list[str]:
    """The types of all families with a causal head in the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def seq2seq_names() -> list[str]:
    """The types of all families of encoder-decoders in the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)


def default_config(name: str) -> Any:
    """The default config of type ``name``, made a decoder where it has to be told so."""
    from transformers import CONFIG_MAPPING

    with quiet():
        config = CONFIG_MAPPING[name](**OVERRIDES.get(name, {}))
    if name in causal_names() and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True
    return config


def small_causal(name: str) -> Any:
    """A small random causal network of type ``name``, with fused attention where the family has that."""
    from transformers import AutoModelForCausalLM

    try:
        return random_network(AutoModelForCausalLM, default_config(name), attn_implementation="sdpa")
    except ValueError as error:
        if "does not support an attention implementation" not in str(error):
            raise
    return random_network(AutoModelForCausalLM, default_config(name), attn_implementation="eager")


def small_seq2seq(name: str) -> Any:
    """A small random encoder-decoder of type ``name``."""
    from transformers import AutoModelForSeq2SeqLM

    return random_network(AutoModelForSeq2SeqLM, default_config(name))


def causal_family(name: str) -> Family:
    """How the causal family ``name`` is scored."""
    try:
        network = small_causal(name)
    except Exception as error:  # whatever a family's code raises for default settings
        return Family(name, "not built", _line(error))
    try:
        return Family(name, *_described(find_path(network, windows(default_config(name)))))
    except WeightsError as error:
        return Family(name, "refused", _reason(error))


def seq2seq_family(name: str) -> Family:
    """How the family ``name`` of encoder-decoders is scored."""
    try:
        network = small_seq2seq(name)
    except Exception as error:  # as above
        return Family(name, "not built", _line(error))
    try:
        return Family(name, *_described(find_seq2seq_path(network)))
    except WeightsError as error:
        return Family(name, "refused", _reason(error))


def table(families: Iterable[Family]) -> Iterator[str]:
    """The rows of a Markdown table of ``families``."""
    yield "| family | scored | why |"
    yield "|---|---|---|"
    for family in families:
        yield f"| {family.name} | {family.scored} | {family.reason} |"


def _described(path: ScoringPath | Seq2SeqPath) -> tuple[str, str]:
    if isinstance(path, Seq2SeqPath):
        return ("packed" if path.shared else "unpacked"), path.reason
    if path.packed and path.longest:
        return f"packed up to {path.longest} tokens", "sliding window"
    return ("packed" if path.packed else "unpacked"), path.reason


def _reason(error: WeightsError) -> str:
    return error.problem.partition(" cannot be students: ")[2].rstrip(".").replace("|", "/")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".replace("|", "/")[:90]


def main() -> None:
    """Print the document."""
    causal = [causal_family(name) for name in causal_names()]
    seq2seq = [seq2seq_family(name) for name in seq2seq_names()]
    print(HEADER)
    for title, families in (("Decoder-only", causal), ("Encoder-decoder", seq2seq)):
        counts = {
            word: sum(f.scored.startswith(word) for f in families)
            for word in ("packed", "unpacked", "refused", "not built")
        }
        print(f"## {title}: " + ", ".join(f"{n} {word}" for word, n in counts.items()) + "\n")
        print("\n".join(table(families)) + "\n")


if __name__ == "__main__":
    main()
