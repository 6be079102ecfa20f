"""How fast the shipped reward model scores texts, and what share of its matrix products' bound that is.

``python -m benchmarks.critic`` writes ``benchmarks/results/critic.md``. One thread; the texts are graded attempts of the
shipped corpus, six to a sentence. ``--sentences`` and ``--rounds`` make it shorter.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import quipwright
from benchmarks._measure import RESULTS, command, machine, peak_memory, take_turns
from quipwright.core.records import Response
from quipwright.serving.writer import shipped_critic

TEXTS = 6


def attempts() -> dict[str, list[str]]:
    """Six graded attempts at each sentence that has as many."""
    texts: dict[str, list[str]] = {}
    path = Path(quipwright.__file__).parent / "data" / "bundled" / "graded.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts.setdefault(row["literal"], []).append(row["text"])
    return {literal: own[:TEXTS] for literal, own in texts.items() if len(own) >= TEXTS}


def bound(network: nn.Module, places: int) -> float:
    """Seconds that the matrix products of one pass over so many places take, 256 of them at a time."""
    seconds = 0.0
    with torch.inference_mode():
        for layer in (module for module in network.modules() if isinstance(module, nn.Linear)):
            given = torch.randn(256, layer.in_features, dtype=layer.weight.dtype)
            layer(given)
            begin = time.process_time()
            layer(given)
            seconds += (time.process_time() - begin) * places / 256
    return seconds


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "critic.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    critic: Any = shipped_critic()
    chosen = list(attempts().items())[: options.sentences]
    literals = [literal for literal, texts in chosen for _ in texts]
    responses = [Response(example_id=literal, text=text, author="x") for literal, texts in chosen for text in texts]
    critic.grade(literals[:TEXTS], responses[:TEXTS])

    def read() -> None:
        critic._known.clear()  # it reads no text twice
        critic.grade(literals, responses)

    seconds = take_turns("critic", {"grade": read}, options.rounds)["grade"]
    rates = sorted(len(responses) / s for s in seconds)
    model = critic.model
    batch = model.rows([literal for literal, _ in chosen], [texts for _, texts in chosen])
    layout = model.path.layout(batch)
    least = bound(model.backbone, int((layout.ids != 0).sum()))
    lines = [
        "# Scoring by the shipped critic",
        "",
        f"`{command('critic')}` on {machine('torch', 'transformers')}, one thread; {len(responses)} texts, {TEXTS} to a "
        f"sentence, {options.rounds} rounds, by processor time.",
        "The bound is the reward model's matrix products alone; the critic also reads features of the plain weights.",
        "",
        "| texts/s, median | least | greatest | of the bound | peak MiB |",
        "|--:|--:|--:|--:|--:|",
        f"| {statistics.median(rates):.1f} | {rates[0]:.1f} | {rates[-1]:.1f} | "
        f"{least * statistics.median(rates) / len(responses):.0%} | {peak_memory():.0f} |",
        "",
    ]
    options.output.write_text("\n".join(lines), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
