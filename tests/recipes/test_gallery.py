"""Every recipe that ships runs for a few steps: on tiny random models, with a stand-in for each server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.config_files import read_yaml
from quipwright.data.examples import load_examples
from quipwright.pipeline.costs.plan import plan
from quipwright.pipeline.recipe import load_recipe
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.recipes import LITERALS
from quipwright.testing.runs import run

FOLDER = Path(__file__).parents[2] / "recipes"
TEACHER_AND_CRITIC = ("teacher.model", "critic.model")
MODELS = {
    "paper": TEACHER_AND_CRITIC,
    "local-teacher": TEACHER_AND_CRITIC,
    "german": TEACHER_AND_CRITIC,
    "with-your-own-judge": ("critic.model",),
    "two-judges": ("critic.critics.0.model", "critic.critics.1.model", "evaluate.judges.0.model"),
}
"""The models that a recipe asks over the network."""
IMITATION = "{epochs: 24, batch_size: 4, micro_batch_size: 2, lr: 0.02}"
"""Enough for a random model to learn where a text ends."""
STEPS = "{epochs: 1, batch_size: 4, micro_batch_size: 4, lr: 1.0e-4}"


def answer(body: dict[str, Any]) -> str:
    """What any of the large models says: a verdict where two texts are compared, grades of a list, else three rewrites."""
    asked = body["messages"][-1]["content"]
    if listed := re.search(r"Grade each of the (\d+) rewrites", asked):
        return "\n".join(f"{i}: {('plain', 'funny')[i % 2]}" for i in range(1, int(listed[1]) + 1))
    if "Answer: 2" in asked:
        *_, first, second = re.findall(r"--- begin (\w+) ---\n(.*?)\n--- end \1 ---", asked, re.DOTALL)
        return f"Answer: {1 if first[1] <= second[1] else 2}"
    start = asked.split("\n\n")[1].rstrip(".")
    return f"1. {start}, and nobody was surprised.\n2. Breaking news: {start}.\n3. {start}, a classic of mine."


@pytest.fixture(scope="module")
def tiny_bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder-decoder of BART's shape."""
    from quipwright.testing.tiny_models import seq2seq_network, seq2seq_tokenizer

    folder = tmp_path_factory.mktemp("bart")
    words = seq2seq_tokenizer("bart")
    words.save_pretrained(folder)
    seq2seq_network("bart", len(words)).save_pretrained(folder)
    return folder


def few_steps(recipe: Path, url: str, weights: Path, critic: Path, corpus: Path, files: Path) -> list[str]:
    """The settings by which ``recipe`` takes seconds. ``files``: the folder of small verdicts and grades."""
    tree = read_yaml(recipe, "Recipe")
    kind = tree.get("student", {}).get("kind", "causal")
    reward = f"{{kind: reward, path: {critic}, floor: 0.5}}"
    sets = [
        f"student={{weights: {weights}, kind: {kind}, precision: fp32, tuning: full, context: 240}}",
        f"imitation={{train: {IMITATION}}}", "evaluate.resamples=100", "evaluate.decode.max_tokens=60",
        "candidates.k=4", "candidates.max_tokens=60", "rank={tie: 0.0, strength: 0.5}",
    ]  # fmt: skip
    if tree.get("candidates", {}).get("kind") == "diverse_beam":
        sets.append("select.length_rule=before")  # the random model's texts differ in length more than in anything else
    else:
        sets += ["candidates.temperature=1.0", "candidates.top_p=1.0"]
    if "learn" in tree:
        sets += [f"learn.train={STEPS}", "feedback_examples=4"]
    if tree["name"] == "german":
        sets += ["data.train=6", "data.valid=2", "data.test=2"]
    else:
        sets += [f"data.path={corpus}", "data.ood_path=null"]
    if "path" in tree.get("teacher", {"path": ""}):
        sets.append(f"teacher={{kind: recorded, path: {corpus}}}")
    if tree.get("critic", {"kind": "reward"})["kind"] in ("reward", "recorded_grades"):
        sets += [f"critic={reward}", *(["evaluate.best_of=2"] if "learn" in tree else [])]
    if tree["evaluate"].get("judges") == [{"kind": "reward"}]:
        sets.append(f"evaluate.judges=[{reward}]")
    if "offline_preferences" in tree:
        name = tree["offline_preferences"].get("kind", "verdicts")
        sets += [f"offline_preferences.path={files / name}.jsonl", f"offline_preferences.learn.train={STEPS}"]
    for model in MODELS.get(tree["name"], ()):
        sets += [f"{model}.base_url={url}", f"{model}.capabilities={{}}"]
        if model.startswith(("critic.c", "evaluate")) or tree["critic"]["kind"] == "multiple_choice":
            sets += [] if model.startswith("teacher") else [f"{model.removesuffix('.model')}.samples=1"]
    return sets


def write_files(folder: Path) -> None:
    """Small files of verdicts and of grades on the literals of the corpus."""
    verdicts = [
        {
            "literal": text, "a": f"{text} Of course.", "b": "Oh.", "verdict": "a", "strength": 3, "quality_a": 2,
            "quality_b": 0, "split": split,
        }
        for text, split in zip(LITERALS, ["train"] * 8 + ["heldout"] * 4, strict=True)
    ]  # fmt: skip
    grades = [
        {"literal": text, "text": said, "grade": grade}
        for text in LITERALS
        for said, grade in (
            ("Of all things, it happened to somebody near me.", 2),
            ("No, my dear, it was not so bad yet.", 0),
        )
    ]
    for name, rows in (("verdicts", verdicts), ("grades", grades)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("recipe", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_the_gallery_runs(
    recipe: Path, tmp_path: Path, tiny_weights: Path, tiny_bart: Path, tiny_critic: Path, corpus_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", "none is needed")
    write_files(tmp_path)
    with FaultyServer(answer) as server:
        weights = tiny_bart if recipe.stem == "paper" else tiny_weights
        sets = few_steps(recipe, server.url, weights, tiny_critic, corpus_file, tmp_path)
        summary = run(recipe, tmp_path / "run", *sets)
        asked = len(server.bodies)
    settings, base = load_recipe(str(recipe), sets)
    assert list(summary.checkpoints)[-1] == settings.students[-1]
    assert {name for sample in summary.samples for name in sample.answers} >= {"teacher", settings.students[-1]}
    planned = plan(settings, settings.load_task(base), load_examples(settings.data, base)).lines
    assert asked <= sum(line.calls for line in planned)
    assert bool(asked) == bool(planned) == (recipe.stem in MODELS)


def test_what_init_makes_runs_as_it_is(tmp_path: Path, tiny_weights: Path, quipwright: Any) -> None:
    code, out, err = quipwright("init", tmp_path / "polite")
    assert (code, err) == (0, "")
    recipe = tmp_path / "polite" / "recipe.yaml"
    assert f"quipwright distil {recipe}" in out
    code, out, _ = quipwright("data", recipe)
    assert code == 0
    assert "train" in out
    assert "18" in out
    local = [
        f"student={{weights: {tiny_weights}, precision: fp32, tuning: full}}",
        f"critic.model.weights={tiny_weights}",
    ]
    short = ["candidates.temperature=1.0", "candidates.top_p=1.0", "evaluate.resamples=100"]
    train = [f"imitation.train={IMITATION}", f"learn.train={STEPS}", "rank={tie: 0.0, strength: 0.5}"]
    summary = run(recipe, tmp_path / "run", *local, *short, *train)
    assert summary.counts.literals == {"train": 18, "valid": 2, "test": 4}
    assert {q.system for q in summary.quality} == {"imitation", "feedback", "teacher", "base"}
    trained = {row["literal"] for row in rows_of(tmp_path / "polite" / "corpus.jsonl")[:18]}
    for form in ("dpo", "kto", "sft"):  # what was learnt from, and never what measures
        code, _, err = quipwright("export-data", tmp_path / "run", tmp_path / form, "--form", form)
        assert (code, err) == (0, "")
        rows = rows_of(tmp_path / form / "train.jsonl")
        assert {row["literal"] for row in rows} <= trained
        assert all(row["literal"] in row["prompt"] for row in rows)
        assert form != "dpo" or all(row["chosen"] != row["rejected"] for row in rows)
        assert form != "kto" or {row["label"] for row in rows} == {True, False}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_init_overwrites_nothing(tmp_path: Path, quipwright: Any) -> None:
    (tmp_path / "task.yaml").write_text("mine")
    code, _, err = quipwright("init", tmp_path)
    assert (code, err) == (3, f"quipwright: {tmp_path / 'task.yaml'} exists already. Name another folder.")
    assert [path.name for path in tmp_path.iterdir()] == ["task.yaml"]
