"""How fast students write: the decoding engine beside transformers' ``generate``, and CTranslate2 where it is installed.

``python -m benchmarks.decoding`` writes ``benchmarks/results/decoding.md``. One thread; every contender writes for the
same prompts in turn, round after round, in one process, and is judged by processor time, so that a busy machine slows
all alike. ``--prompts``, ``--rounds`` and ``--task`` make it shorter, ``--student`` adds the student's own ``generate``,
``--half`` transformers' ``generate`` in bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from quipwright.core.records import Sampling
from quipwright.serving.writer import Writer
from quipwright.students.engine import Engine

RESULTS = Path(__file__).parent / "results" / "decoding.md"
K, BEAMS, LIMIT, TEMPERATURE, TOP_P, ROWS = 6, 5, 44, 0.8, 0.95, 144
Count = Callable[[int], int]
"""Writes for all prompts with a seed; the number of tokens written."""


@dataclass
class Task:
    """What is written: contenders by name, and the tokens a second that the matrix products alone would allow."""

    title: str
    contenders: dict[str, Count]
    bound: float
    rates: dict[str, list[float]] = field(default_factory=dict)

    def run(self, rounds: int) -> None:
        """Every contender once a round, in turn."""
        for number in range(rounds):
            for name, write in self.contenders.items():
                begin = time.process_time()
                tokens = write(number)
                seconds = time.process_time() - begin
                self.rates.setdefault(name, []).append(tokens / seconds)
                print(
                    f"{self.title}, round {number + 1}: {name}: {tokens} tokens, {tokens / seconds:.0f}/s", flush=True
                )

    def lines(self) -> list[str]:
        """Table rows: the rate, the share of the bound, and the engine's rate as multiples of each contender's."""
        ours = self.rates["engine"]
        rows = []
        for name, rates in self.rates.items():
            ratios = [a / b for a, b in zip(ours, rates, strict=True)]
            rate = statistics.median(rates)
            rows.append(
                f"| {self.title} | {name} | {rate:.0f} | {rate / self.bound:.0%} | {statistics.median(ratios):.2f} | "
                f"{min(ratios):.2f} | {max(ratios):.2f} |"
            )
        return rows


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


def engine_writes(network: Any, prompts: Sequence[list[int]], end: int, beams: int, opening: list[int] | None) -> Count:
    """The engine, over a copy of ``network``."""
    engine = Engine.of(copy.deepcopy(network), opening)
    print(f"engine: {engine.mode} {engine.reason}", flush=True)

    def write(seed: int) -> int:
        if beams > 1:
            texts = engine.beam(prompts, beams=beams, max_tokens=LIMIT, end=end)
        else:
            texts = engine.sample(
                prompts, k=K, temperature=TEMPERATURE, top_p=TOP_P, max_tokens=LIMIT, end=end, seed=seed
            )
        return sum(len(text) for _, row in texts for text in row)

    return write


def generate_writes(
    network: Any, prompts: Sequence[list[int]], end: int, beams: int, opening: list[int] | None
) -> Count:
    """transformers' ``generate`` in batches of as many rows as the engine writes together, prompts sorted by length."""
    ordered = sorted(prompts, key=len)
    size = max(1, ROWS // (beams if beams > 1 else K))
    options: dict[str, Any] = {"num_beams": beams, "do_sample": False}
    if beams == 1:
        options = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0, "num_return_sequences": K}
    if opening:
        options["decoder_start_token_id"] = opening[0]
    config = transformers.GenerationConfig(max_new_tokens=LIMIT, eos_token_id=end, pad_token_id=end, **options)

    def write(seed: int) -> int:
        torch.manual_seed(seed)
        tokens = 0
        for begin in range(0, len(ordered), size):
            batch = ordered[begin : begin + size]
            width = max(map(len, batch))
            side = [([0] * (width - len(p)), p) for p in batch]
            ids = torch.tensor([[*p, *gap] if opening else [*gap, *p] for gap, p in side])
            mask = torch.tensor([[*[1] * len(p), *gap] if opening else [*gap, *[1] * len(p)] for gap, p in side])
            given = {"decoder_input_ids": torch.tensor([opening] * len(batch))} if opening else {}
            with torch.inference_mode():
                out = network.generate(input_ids=ids, attention_mask=mask, generation_config=config, **given)
            rows = out[:, len(opening) if opening else width :].tolist()
            tokens += sum(row.index(end) + 1 if end in row else len(row) for row in rows)
        return tokens

    return write


def student_writes(student: Any, texts: Sequence[str], beams: int) -> Count:
    """The student's own ``generate``, in the batches of the recipes."""
    size = max(1, ROWS // (beams if beams > 1 else K))
    ordered = sorted(texts, key=lambda text: len(student.prompt_ids(text)))

    def write(seed: int) -> int:
        settings = Sampling(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=LIMIT, seed=seed)
        if beams > 1:
            settings = Sampling(beams=beams, max_tokens=LIMIT)
        written = [
            text
            for begin in range(0, len(ordered), size)
            for row in student.generate(ordered[begin : begin + size], settings, 1 if beams > 1 else K)
            for text in row
        ]
        return sum(len(student.tokenizer(text.text).input_ids) + (not text.truncated) for text in written)

    return write


def ctranslate2_writes(network: Any, tokenizer: Any, prompts: Sequence[list[int]], beams: int) -> Count:
    """CTranslate2 with int8 weights."""
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(f"{folder}/hf")
        tokenizer.save_pretrained(f"{folder}/hf")
        ctranslate2.converters.TransformersConverter(f"{folder}/hf").convert(f"{folder}/ct2", quantization="int8")
        generator = ctranslate2.Generator(f"{folder}/ct2", device="cpu", inter_threads=1, intra_threads=1)
    words = [tokenizer.convert_ids_to_tokens(prompt) for prompt in prompts]
    options: dict[str, Any] = {"beam_size": beams}
    if beams == 1:
        options = {"num_hypotheses": K, "sampling_topk": 0, "sampling_topp": TOP_P, "sampling_temperature": TEMPERATURE}
    size = max(1, ROWS // (beams if beams > 1 else K))

    def write(seed: int) -> int:
        ctranslate2.set_random_seed(seed)
        results = generator.generate_batch(
            words, max_length=LIMIT, include_prompt_in_result=False, max_batch_size=size,
            end_token=tokenizer.eos_token, **options,
        )  # fmt: skip
        return sum(len(ids) + 1 for result in results for ids in result.sequences_ids)

    return write


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


def decoder_only(count: int, options: argparse.Namespace) -> list[Task]:
    """Sampling and beams of the shipped student."""
    student, texts = shipped(count)
    prompts, end = [student.prompt_ids(text) for text in texts], student.prompt_format.end
    half = student.merged().eval()
    half.generation_config = transformers.GenerationConfig()
    network = copy.deepcopy(half).float()
    tasks = []
    for title, beams in (("SmolLM2-135M, 6 samples", 1), ("SmolLM2-135M, 5 beams", BEAMS)):
        contenders = {
            "engine": engine_writes(network, prompts, end, beams, None),
            "`generate`": generate_writes(network, prompts, end, beams, None),
        }
        if options.student:
            contenders["student's `generate`"] = student_writes(student, texts, beams)
        if options.half:
            contenders["`generate`, bfloat16"] = generate_writes(half, prompts, end, beams, None)
        if find_spec("ctranslate2"):
            contenders["CTranslate2, int8"] = ctranslate2_writes(network, student.tokenizer, prompts, beams)
        tasks.append(Task(title, contenders, product_rate(network, ROWS, beams if beams > 1 else 1)))
    return tasks


def encoder_decoder(count: int) -> list[Task]:
    """Sampling and beams of random networks in the shapes of BART and T5 with about 70 million weights."""
    tasks = []
    for name, network, opening, end in shaped():
        generator = torch.Generator().manual_seed(1)
        lengths = torch.randint(15, 31, (count,), generator=generator).tolist()
        prompts = [torch.randint(10, 20000, (length,), generator=generator).tolist() for length in lengths]
        for what, beams in (("6 samples", 1), ("5 beams", BEAMS)):
            contenders = {
                "engine": engine_writes(network, prompts, end, beams, opening),
                "`generate`": generate_writes(network, prompts, end, beams, opening),
            }
            bound = product_rate(network, ROWS, beams if beams > 1 else 1)
            tasks.append(Task(f"{name}, {what}", contenders, bound))
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


def report(tasks: Sequence[Task], count: int, rounds: int) -> str:
    """The results as Markdown."""
    able = torch.cpu.get_capabilities()
    flags = ", ".join(name for name in ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16") if able.get(name))
    lines = [
        "# Decoding",
        "",
        f"`python -m benchmarks.decoding` on {able.get('cpu_name', platform.machine())} ({flags}), one thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}.",
        f"{count} prompts, at most {LIMIT} tokens a text, temperature {TEMPERATURE}, top-p {TOP_P}; {rounds} rounds, in "
        "which the contenders take turns. Rates are texts' tokens per second of processor time.",
        "The bound is what the decoder's matrix products alone would take for 144 rows, five rows a token for beams;",
        "the last three columns are the engine's rate divided by the contender's in the same round. Contenders that do "
        "not say otherwise compute in float32.",
        "",
        "| task | contender | tokens/s | of the bound | engine / contender: median | least | greatest |",
        "|---|---|--:|--:|--:|--:|--:|",
        *(line for task in tasks for line in task.lines()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for, and write the table where all of it ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="", help="only tasks whose title holds this text")
    parser.add_argument("--student", action="store_true")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    tasks = decoder_only(options.prompts, options) + encoder_decoder(options.prompts)
    tasks = [task for task in tasks if options.task in task.title]
    for task in tasks:
        task.run(options.rounds)
        options.output.write_text(
            report([t for t in tasks if t.rates], options.prompts, options.rounds), encoding="utf-8"
        )
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
