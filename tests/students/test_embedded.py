"""The parts that ship, on their real weights: conversion, the student at work, the critic's card, README's commands."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from quipwright.core.errors import WeightsError
from quipwright.core.paths import resolve
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.students import weights

ROOT = Path(__file__).parents[2]


def test_the_converted_weights_are_checked_at_every_load() -> None:
    folder = weights.embedded_folder()
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(269e6, rel=0.02)
    recorded = json.loads((folder / "sha256.json").read_text())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= recorded.keys()


@pytest.mark.parametrize("seal", ["", "[]", '{"config.json"', '{"config.json": "0"}', '{"gone.json": "0"}'])
def test_a_converted_copy_without_a_whole_seal_is_made_again(
    seal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "embedded_gguf", lambda: Path("gguf"))
    monkeypatch.setattr(weights, "_convert", lambda gguf, folder: folder.mkdir(parents=True))
    folder = weights.embedded_folder()
    (folder / "config.json").write_text("{}")
    (folder / "sha256.json").write_text(seal)
    assert weights.embedded_folder() == folder
    assert list(folder.iterdir()) == []


def test_weights_that_are_not_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "GGUF_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="not the pinned 000000000000"):
        weights.embedded_folder()


@pytest.mark.parametrize("name", ["student", "critic"])
def test_what_ships_is_small_and_has_a_card(name: str) -> None:
    folder = resolve(f"bundled:{name}", name)
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 40e6
    assert (folder / "README.md").read_text().strip()


def test_the_critics_card_states_what_was_measured() -> None:
    card = RewardModelConfig().load().card
    assert card.n > 300
    assert card.low < card.agreement < card.high
    text = (resolve("bundled:critic", "critic") / "README.md").read_text()
    assert f"{100 * card.agreement:.1f} %" in text
    assert f"{100 * card.low:.1f}" in text


def test_the_critic_prefers_the_teacher_to_its_shuffled_words() -> None:
    critic = RewardModelConfig().load()
    literal = "My mother phoned four times this morning to ask whether I had eaten breakfast."
    good = (
        "My mother phoned four times this morning to ask if I'd eaten breakfast, and by the fourth it was nearly lunch."
    )
    broken = (
        "Four lunch mother the nearly phoned breakfast by I'd and times eaten was it ask fourth to morning this if my."
    )
    scores = critic.scores([literal, literal], [good, broken])
    assert scores[0] > scores[1] + 1


def test_write_prints_one_paraphrase_and_several(quipwright) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = quipwright("write", "I missed the last bus home.")
    assert code == 0
    assert len(out.strip().splitlines()) == 1
    assert out.strip() != "I missed the last bus home."
    code, several, _ = quipwright("write", "-n", 3, "I missed the last bus home.")
    assert len(set(several.strip().splitlines())) == 3
    assert quipwright("write", "-n", 3, "I missed the last bus home.")[1] == several  # the same seed, the same quips


def test_files_stream_through_and_a_bad_row_stops_nothing(quipwright, tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / "in.csv"
    source.write_text('id,text\n1,I am late again.\n2,...\n3,"My cat, as ever, ignores me."\n')
    target = tmp_path / "out.jsonl"
    code, _, _ = quipwright("write", "--input", source, "--column", "text", "--output", target)
    assert code == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["text"] for row in rows] == ["I am late again.", "...", "My cat, as ever, ignores me."]
    assert [len(row.get("humorous", [])) for row in rows] == [1, 0, 1]
    assert rows[1]["error"]
    assert quipwright("write", "--input", source, "--column", "text", "--output", target)[0] == 3  # never overwritten
    table = tmp_path / "out.csv"
    assert quipwright("write", "-n", 2, "--input", source, "--column", "text", "--output", table)[0] == 0
    assert [len(row) for row in csv.reader(table.open())] == [6] * 6
    long = tmp_path / "long.txt"
    long.write_text("I am late.\n" + "I bought apples, then pears, then plums, " * 100 + "\n")
    lines = tmp_path / "lines.jsonl"
    assert quipwright("write", "--input", long, "--output", lines)[0] == 0
    first, second = (json.loads(line) for line in lines.read_text().splitlines())
    assert first["humorous"]
    assert "context" in second["error"]


def readme_commands() -> list[str]:
    """Every quipwright command of README's bash blocks, without its trailing comment."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("quipwright ")]


@pytest.mark.parametrize("command", readme_commands())
def test_readme_commands_run_as_written(quipwright, monkeypatch, tmp_path, command) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "sentences.csv").write_text("text\nI am late again.\n")
    arguments = shlex.split(command)[1:]
    if arguments[0] == "distil":  # the whole of it is the demo; here only that it starts as written
        arguments += ["--until", "teach"]
    if arguments[0] in ("export", "rate", "serve", "compare", "audit", "report"):
        arguments = [arguments[0], "--help"]  # minutes of work, or a finished run: their own tests run them
    code, out, err = quipwright(*arguments)
    assert code == 0, err
    assert out.strip() or arguments[0] in ("distil", "write")
