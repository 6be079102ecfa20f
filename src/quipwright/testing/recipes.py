"""A recipe that runs every stage in seconds, and the corpus that its recorded teacher speaks from."""

from __future__ import annotations

import json
from pathlib import Path

from quipwright.data.task import task_path

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
"""Twelve plain sentences: eight to train on, two to validate on, two to test on."""


def write_corpus(path: Path) -> None:
    """Write a recorded teacher's three texts for each of :data:`LITERALS` to ``path``."""
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


def write_recipe(folder: Path, weights: Path, critic: Path, corpus: Path) -> Path:
    """Write ``folder``/tiny.yaml: every stage on ``weights``, judged by ``critic``, taught by ``corpus``.

    Its task is the default one, which declines nothing: what a random model writes means nothing, sensitive things included.
    """
    path, task = folder / "tiny.yaml", folder / "tiny-task.yaml"
    task.write_text(task_path("humour").read_text(encoding="utf-8") + "\nallow_sensitive: true\n", encoding="utf-8")
    path.write_text(
        f"""
name: tiny
seed: 3
task: {task}
data: {{path: {corpus}}}
teacher: {{kind: recorded, path: {corpus}}}
student: {{weights: {weights}, precision: fp32, tuning: full, context: 300}}
imitation: {{train: {{epochs: 24, batch_size: 4, micro_batch_size: 2, lr: 0.02, save_every: 7}}}}
candidates: {{k: 4, temperature: 1.0, top_p: 1.0, max_tokens: 60}}
select: {{kind: diverse, length_rule: after}}
critic: {{path: {critic}, floor: 0.5}}
rank: {{tie: 0.0, strength: 0.5}}
learn: {{train: {{epochs: 2, batch_size: 4, micro_batch_size: 2, lr: 0.0005, save_every: 1}}, copy_share: 0.5}}
evaluate: {{decode: {{beams: 2, max_tokens: 60}}, best_of: 3, resamples: 200}}
""",
        encoding="utf-8",
    )
    return path
