"""Shared parts: shape checks at run time, and tiny random models that run the whole pipeline in seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded teacher of twelve literals: eight to train on, two valid, two test."""
    from quipwright.testing.recipes import write_corpus

    path = tmp_path_factory.mktemp("data") / "corpus.jsonl"
    write_corpus(path)
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with a tokenizer trained on the test literals."""
    from quipwright.testing.recipes import LITERALS
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
def quipwright(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """The command ``quipwright`` in this process: exit code, standard output, and its own lines of standard error."""
    from quipwright.cli.main import main

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["quipwright", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, "\n".join(x for x in err.splitlines() if x.startswith("quipwright:"))

    return command


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path) -> Path:
    """A recipe that runs every stage on the tiny parts."""
    from quipwright.testing.recipes import write_recipe

    return write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)
