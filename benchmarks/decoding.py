"""How fast students write: the decoding engine beside transformers' ``generate``, and CTranslate2 where it is installed.

``python -m benchmarks.decoding`` writes ``benchmarks/results/decoding.md``. One thread; every contender writes for the
same prompts in turn, round after round, in one process, and is judged by processor time, so that a busy machine slows
all alike. The engine samples for ``--prompts``; the others, which go batch by batch, for the first batch of them, and
everything else is written for that batch too. ``--rounds``, ``--task`` and ``--beside`` make it shorter; ``--fallback``
adds the engine's own fallback, ``--half`` transformers' ``generate`` in bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks._contenders import (
    BATCH,
    BEAMS,
    LIMIT,
    ROWS,
    TEMPERATURE,
    TOP_P,
    Count,
    ctranslate2_writes,
    engine_writes,
    fallback_writes,
    generate_writes,
)
from benchmarks._measure import command
from quipwright.serving.writer import Writer
from quipwright.students.engine.pool import Pool

RESULTS = Path(__file__).parent / "results" / "decoding.md"
FED: list[int] = []
"""Rows of the engines' steps."""


@dataclass
class Task:
    """What is written: contenders by name, and the tokens a second that the matrix products alone would allow."""

    title: str
    contenders: dict[str, Count]
    bound: float
    rates: dict[str, list[float]] = field(default_factory=dict)
    rows: list[float] = field(default_factory=list)

    def run(self, rounds: int) -> None:
        """Every contender once a round, in turn."""
        for number in range(rounds):
            for name, write in self.contenders.items():
                fed, begin = len(FED), time.process_time()
                tokens = write(number)
                seconds = time.process_time() - begin
                self.rates.setdefault(name, []).append(tokens / seconds)
                if name == "engine":
                    self.rows.append(sum(FED[fed:]) / tokens)
                print(
                    f"{self.title}, round {number + 1}: {name}: {tokens} tokens, {tokens / seconds:.0f}/s", flush=True
                )

    def lines(self) -> list[str]:
        """Table rows: the rate, the share of the bound, and the engine's rate as multiples of each contender's."""
        ours = self.rates["engine"]
        lines = []
        for name, rates in self.rates.items():
            ratios = [a / b for a, b in zip(ours, rates, strict=True)]
            rate = statistics.median(rates)
            rows = f"{statistics.median(self.rows):.2f}" if name == "engine" else "-"
            lines.append(
                f"| {self.title} | {name} | {rate:.0f} | {rows} | {rate / self.bound:.0%} | {statistics.median(ratios):.2f} | "
                f"{min(ratios):.2f} | {max(ratios):.2f} |"
            )
        return lines


def count_rows() -> None:
    """From now on note the rows of every step of an engine in ``FED``."""
    step = Pool.step

    def counted(pool: Pool) -> Any:
        FED.append(len(pool.rows))
        return step(pool)

    Pool.step = counted


_ONCE = re.compile(r"(^|\.)encoder\.|(encoder_attn|EncDecAttention)\.(k|v)")  # run once a prompt, not once a token


def product_rate(network: nn.Module, rows: int, rows_a_token: float) -> float:
    """Tokens a second if one step of ``rows`` took as long as its matrix products alone (weights read from memory)."""
    modules = network.named_modules()
    layers = [module for name, module in modules if isinstance(module, nn.Linear) and not _ONCE.search(name)]
    inputs = {layer.in_features: torch.randn(rows, layer.in_features, dtype=layer.weight.dtype) for layer in layers}
    best = float("inf")
    with torch.inference_mode():
        for _ in range(5):
            begin = time.process_time()
            for layer in layers:
                layer(inputs[layer.in_features])
            best = min(best, time.process_time() - begin)
    return rows / best / rows_a_token


def shipped(count: int) -> tuple[Any, list[str]]:
    """The student that ships, and as many prompts as asked for, from the shipped sentences."""
    import quipwright

    writer = Writer.load()
    lines = (
        (Path(quipwright.__file__).parent / "data" / "bundled" / "humour.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return writer.student, [writer.task.prompt(json.loads(line)["literal"]) for line in lines[:count]]


def asked(
    title: str, makers: dict[str, Callable[[], Count]], network: Any, beams: int, options: argparse.Namespace
) -> list[Task]:
    """The task ``title`` with the contenders that the command line asks for, or nothing where it asks for others."""
    if options.task not in title:
        return []
    chosen = {name: make() for name, make in makers.items() if name == "engine" or options.beside in name}
    return [Task(title, chosen, product_rate(network, ROWS, max(1, beams)))]


def decoder_only(options: argparse.Namespace) -> list[Task]:
    """Sampling and beams of the shipped student."""
    student, texts = shipped(options.prompts)
    prompts, end = [student.prompt_ids(text) for text in texts], student.prompt_format.end
    half = student.merged().eval()
    half.generation_config = transformers.GenerationConfig()
    network = copy.deepcopy(half).float()
    tasks = []
    for title, beams in (("SmolLM2-135M, 6 samples", 1), ("SmolLM2-135M, 5 beams", BEAMS)):
        batch = prompts[:BATCH]
        mine = batch if beams > 1 else prompts
        makers: dict[str, Callable[[], Count]] = {
            "engine": partial(engine_writes, network, mine, end, beams, None),
            "`generate`": partial(generate_writes, network, batch, end, beams, None),
        }
        if options.fallback:
            makers["the engine's fallback"] = partial(fallback_writes, network, batch, end, beams)
        if options.half:
            makers["`generate`, bfloat16"] = partial(generate_writes, half, batch, end, beams, None)
        if find_spec("ctranslate2"):
            makers["CTranslate2, int8"] = partial(ctranslate2_writes, network, student.tokenizer, batch, beams)
        tasks += asked(title, makers, network, beams, options)
    return tasks


def encoder_decoder(options: argparse.Namespace) -> list[Task]:
    """Sampling and beams of random networks in the shapes of BART and T5 with about 70 million weights."""
    tasks = []
    for name, network, opening, end in shaped():
        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(15, 31, (BATCH,), generator=generator).tolist()
        prompts = [torch.randint(10, 20000, (length,), generator=generator).tolist() for length in lengths]
        for what, beams in (("6 samples", 1), ("5 beams", BEAMS)):
            makers: dict[str, Callable[[], Count]] = {
                "engine": partial(engine_writes, network, prompts, end, beams, opening),
                "`generate`": partial(generate_writes, network, prompts, end, beams, opening),
            }
            tasks += asked(f"{name}, {what}", makers, network, beams, options)
    return tasks


def shaped() -> list[tuple[str, Any, list[int], int]]:
    """(name, network, opening, end token) of the random encoder-decoders."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 32128, "d_model": 512}
    layers = {f"{side}_{what}": number for side in ("encoder", "decoder") for what, number in
              (("layers", 6), ("ffn_dim", 2048), ("attention_heads", 8))}  # fmt: skip
    bart = transformers.BartForConditionalGeneration(transformers.BartConfig(**sizes, **layers, init_std=0.05))
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, d_kv=64, d_ff=1024, num_layers=8, num_heads=6, feed_forward_proj="gated-gelu")
    )
    for network in (bart, t5):
        network.generation_config = transformers.GenerationConfig()
    return [("BART-shaped", bart.eval(), [2, 0], 2), ("T5-shaped", t5.eval(), [0], 1)]


def report(tasks: Sequence[Task], options: argparse.Namespace) -> str:
    """The results as Markdown."""
    able = torch.cpu.get_capabilities()
    flags = ", ".join(name for name in ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16") if able.get(name))
    lines = [
        "# Decoding",
        "",
        f"`{options.command}` on {able.get('cpu_name', platform.machine())} ({flags}), one thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}.",
        f"SmolLM2's engine samples for {options.prompts} prompts, everything else is written for {BATCH}; at most {LIMIT} "
        f"tokens a text, temperature {TEMPERATURE}, top-p {TOP_P}.",
        f"{options.rounds} rounds, in which the contenders take turns. Rates are texts' tokens per second of processor time.",
        "Rows a token: what went through the network for a token of a text, prompts apart; samples share rows, beams need",
        "several.",
        "The bound is what the decoder's matrix products alone would take for 144 rows, five rows a token for beams;",
        "the last three columns are the engine's rate divided by the contender's in the same round. Contenders that do "
        "not say otherwise compute in float32.",
        "",
        "| task | contender | tokens/s | rows a token | of the bound | engine / contender: median | least | greatest |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
        *(line for task in tasks for line in task.lines()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for, and write the table where all of it ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="", help="only tasks whose title holds this text")
    parser.add_argument("--beside", default="", help="only contenders whose name holds this text, and the engine")
    parser.add_argument("--fallback", action="store_true")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    count_rows()
    transformers.utils.logging.set_verbosity_error()
    options.command = command("decoding")
    tasks = [task for make in (decoder_only, encoder_decoder) for task in make(options)]
    for task in tasks:
        task.run(options.rounds)
        options.output.write_text(report([t for t in tasks if t.rates], options), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
