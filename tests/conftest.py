"""Shared parts: shape checks at run time, and tiny random models that run the whole pipeline in seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
settings.register_profile("no_clock", deadline=None)  # a busy machine must not fail a law
settings.load_profile("no_clock")
install_import_hook(
    ["quipwright.students", "quipwright.training", "quipwright.critics.reward_model"],
    "beartype.beartype",
)

LITERALS = (
    "I missed the last bus home and had to walk.",
    "My neighbour plays the trumpet at night.",
    "The cat ate my sandwich before lunch.",
    "Our train was late again this morning.",
    "I forgot my umbrella and it rained all day.",
    "My sister borrowed my car and lost the key.",
    "The printer stopped working during the exam.",
    "I burned the rice while talking on the phone.",
    "Grandma sent me three scarves in one week.",
    "The meeting took two hours longer than planned.",
    "My son painted the wall with tomato sauce.",
    "I slept through the alarm on my first day.",
)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded teacher of twelve literals: eight to train on, two valid, two test."""
    path = tmp_path_factory.mktemp("data") / "corpus.jsonl"
    splits = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    lines = []
    for literal, split in zip(LITERALS, splits, strict=True):
        start = literal.rstrip(".")
        texts = [
            f"{start}, and nobody was surprised.",
            f"Breaking news: {start.lower()}.",
            f"{start}, a classic of mine.",
        ]
        lines.append(json.dumps({"literal": literal, "split": split, "humorous": texts}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with a tokenizer trained on the test literals."""
    from quipwright.testing.tiny_models import causal_network, tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    texts = [*LITERALS, "Plain: Funny: and nobody was surprised. Breaking news:"]
    words = tokenizer(["<end>"], "$A", texts, 400, eos_token="<end>", pad_token="<end>")
    words.save_pretrained(folder)
    causal_network("llama", len(words), spread=0.02, positions=512).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_critic(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained critic on the tiny weights, with a card that claims just enough to be let in."""
    import torch

    from quipwright.critics.reward_model.card import RewardCard
    from quipwright.critics.reward_model.critic import RewardModelCritic
    from quipwright.critics.reward_model.model import RewardArchitecture, RewardModel
    from quipwright.students.base import LoRA

    torch.manual_seed(1)
    lora = LoRA(rank=2, alpha=4)
    shape = RewardArchitecture(
        weights=str(tiny_weights), layers=2, first_layer=0, lora=lora, prompt="Plain: {literal}\nFunny:"
    )
    model = RewardModel(shape)
    with torch.no_grad():
        model.head.normal_(std=0.5)
    folder = tmp_path_factory.mktemp("critic")
    RewardModelCritic(
        model, RewardCard(architecture=shape, agreement=0.7, low=0.6, high=0.8, n=50), "reward:tiny"
    ).save(folder)
    return folder


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path) -> Path:
    """A recipe that runs every stage on the tiny parts."""
    return write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)


def write_recipe(folder: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path) -> Path:
    """The recipe of :func:`tiny_recipe` in ``folder``."""
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
name: tiny
seed: 3
data: {{path: {corpus_file}}}
teacher: {{kind: recorded, path: {corpus_file}}}
student: {{weights: {tiny_weights}, precision: fp32, tuning: full, context: 300}}
imitation: {{train: {{epochs: 24, batch_size: 4, micro_batch_size: 2, lr: 0.02, save_every: 7}}}}
candidates: {{k: 4, temperature: 1.0, top_p: 1.0, max_tokens: 60}}
select: {{kind: diverse, length_rule: after}}
critic: {{path: {tiny_critic}, floor: 0.5}}
rank: {{tie: 0.0, strength: 0.5}}
learn: {{train: {{epochs: 2, batch_size: 4, micro_batch_size: 2, lr: 0.0005, save_every: 1}}, copy_share: 0.5}}
evaluate: {{decode: {{beams: 2, max_tokens: 60}}, best_of: 3, resamples: 200}}
""",
        encoding="utf-8",
    )
    return path
