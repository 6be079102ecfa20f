"""What the matrix products of one decoding step cost, and whether other ways of multiplying would be cheaper.

``python -m benchmarks.products`` prints a table of milliseconds of processor time a step, one thread, for weights of
SmolLM2-135M's shapes that are read from memory each time. Packed weights need torch's private operators.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

WIDTH, INNER, KEYS, LAYERS, VOCABULARY = 576, 1536, 192, 30, 49152
OUTPUT = [(VOCABULARY, WIDTH)]
SHAPES = [(WIDTH, WIDTH), (KEYS, WIDTH), (KEYS, WIDTH), (WIDTH, WIDTH), (INNER, WIDTH), (INNER, WIDTH), (WIDTH, INNER)]
FUSED = [(WIDTH + 2 * KEYS, WIDTH), (WIDTH, WIDTH), (2 * INNER, WIDTH), (WIDTH, INNER)]
ROWS = (16, 72, 144)
ROUNDS = 4


def weights(shapes: list[tuple[int, int]], kind: torch.dtype = torch.float32) -> list[Tensor]:
    """A network's worth of random matrices (outputs x inputs)."""
    return [torch.randn(*shape).to(kind) for shape in shapes * LAYERS + OUTPUT]


def ways(rows: int) -> dict[str, Callable[[], Any]]:
    """One step of ``rows`` rows by each way."""
    inputs = {width: torch.randn(rows, width) for width in (WIDTH, INNER)}
    halves = {width: rows_.bfloat16() for width, rows_ in inputs.items()}
    plain, fused, half = weights(SHAPES), weights(FUSED), weights(SHAPES, torch.bfloat16)
    onednn = [(torch.ops.mkldnn._reorder_linear_weight(w, rows), w.shape[1]) for w in plain]
    mkl = [(torch.ops.mkl._mkl_reorder_linear_weight(w, rows), w) for w in plain]
    return {
        "float32": lambda: [linear(inputs[w.shape[1]], w) for w in plain],
        "float32, fused": lambda: [linear(inputs[w.shape[1]], w) for w in fused],
        "packed by oneDNN": lambda: [
            torch.ops.mkldnn._linear_pointwise(inputs[width], w, None, "none", [], "") for w, width in onednn
        ],
        "packed by MKL": lambda: [torch.ops.mkl._mkl_linear(inputs[w.shape[1]], p, w, None, rows) for p, w in mkl],
        "bfloat16": lambda: [linear(halves[w.shape[1]], w) for w in half],
    }


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("| rows |", " | ".join(ways(1)), "|")
    for rows in ROWS:
        best: dict[str, float] = {}
        steps = ways(rows)
        for _ in range(ROUNDS):
            for name, step in steps.items():
                begin = time.process_time()
                step()
                best[name] = min(best.get(name, float("inf")), time.process_time() - begin)
        print(f"| {rows} |", " | ".join(f"{1000 * seconds:.0f}" for seconds in best.values()), "|", flush=True)


if __name__ == "__main__":
    main()
