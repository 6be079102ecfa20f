"""What a graphics card makes of it: agreement with the CPU, preference training beside TRL, sampling beside ``generate``.

``python -m benchmarks.gpu`` (``make bench-gpu``) writes ``benchmarks/results/gpu.md`` within six minutes on one card.
``--dry`` goes through all of it with a tiny random network wherever it is run; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks._contenders import K, engine_writes, generate_writes
from benchmarks._measure import RESULTS, command, machine
from benchmarks.training import BATCH, MICRO, Task, pairs, trls
from quipwright.students.base import LoRA, Prompted, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.scoring import score_rows
from quipwright.students.weights import device
from quipwright.training.loop import train
from quipwright.training.objectives import DPO
from quipwright.training.settings import TrainSettings

Make = Callable[[str, str], CausalStudent]
"""(precision, tuning) -> a student on :func:`device`."""


def real(precision: str, tuning: str) -> CausalStudent:
    """The embedded weights."""
    torch.manual_seed(0)
    return CausalStudent.open(
        StudentSettings.model_validate({"precision": precision, "tuning": LoRA() if tuning == "low-rank" else "full"})
    )


def tiny(precision: str, tuning: str) -> CausalStudent:
    """A tiny random network."""
    from quipwright.testing.tiny_models import causal_student

    student: CausalStudent = causal_student(precision=precision, tuning=LoRA() if tuning == "low-rank" else "full")
    student.module.to(device())
    return student


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the clock, what was queued on the card included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak(work: Callable[[], object]) -> float:
    """MiB of the card's memory that ``work`` holds at most; 0 without a card."""
    if not torch.cuda.is_available():
        work()
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 2**20


def agreement(make: Make, rows: Sequence[Prompted]) -> Iterator[str]:
    """How far log-probabilities on the card are from those of the CPU in float32, in nats a token."""
    student = make("fp32", "full")
    student.module.cpu()
    exact = score_rows(student, rows, MICRO)
    for precision in ("fp32", "bf16"):
        scored = score_rows(make(precision, "full"), rows, MICRO)
        gap = (scored.total - exact.total).abs() / exact.tokens.clamp(min=1)
        yield f"| {precision} | {float(gap.mean()):.2e} | {float(gap.max()):.2e} |"


def training(make: Make, rows: list[Prompted], rounds: int, folder: Path) -> Iterator[str]:
    """DPO pairs a second beside TRL, the reference's log-probabilities included."""
    settings = TrainSettings(epochs=1, batch_size=BATCH, micro_batch_size=BATCH, lr=1e-5, save_every=10**6)
    for tuning in ("low-rank", "full"):
        student, number = make("bf16", tuning), iter(range(10**6))

        def ours(student: CausalStudent = student, number: Iterator[int] = number, tuning: str = tuning) -> object:
            place = folder / f"{tuning}-{next(number)}"
            return train(student, rows, DPO(), settings, place, seed=1, reference=score_rows(student, rows, BATCH))

        task = Task("dpo", tuning, "reference beforehand")
        theirs = trls(task, rows, folder / "trl", student=make("fp32", "full"), bf16=torch.cuda.is_available())
        contenders = {"ours": ours, "TRL": theirs}
        memory = {name: peak(work) for name, work in contenders.items()}  # and warms both up
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, work in contenders.items():
                times[name].append(seconds_of(work))
        for name, spent in times.items():
            rate = len(rows) / statistics.median(spent)
            yield f"| DPO, {tuning} | {name} | {rate:.1f} pairs/s | {memory[name]:.0f} |"


def sampling(make: Make, rows: Sequence[Prompted], rounds: int) -> Iterator[str]:
    """Texts' tokens a second beside ``generate``."""
    student = make("bf16", "full")
    network = student.merged().eval()
    prompts = [student.prompt_ids(row.prompt) for row in rows]
    end = student.prompt_format.end
    for name, make_writer in (("engine", engine_writes), ("`generate`", generate_writes)):
        write = make_writer(copy.deepcopy(network), prompts, end, 1, None)
        memory = peak(lambda write=write: write(0))  # type: ignore[misc]
        rates = []
        for number in range(rounds):
            tokens: list[int] = []
            spent = seconds_of(lambda n=number, write=write, tokens=tokens: tokens.append(write(n)))  # type: ignore[misc]
            rates.append(tokens[0] / spent)
        yield f"| {K} samples a prompt | {name} | {statistics.median(rates):.0f} tokens/s | {memory:.0f} |"


def demo(folder: Path) -> Iterator[str]:
    """The demo's win rates here and on the CPU of this machine."""
    for name, environment in (("this device", {}), ("CPU", {"ACCELERATE_USE_CPU": "true"})):
        import os

        run = folder / name.replace(" ", "-")
        words = [sys.executable, "-m", "quipwright", "demo", "--run", str(run)]
        begin = time.perf_counter()
        subprocess.run(words, check=True, env={**os.environ, **environment}, capture_output=True)
        spent = time.perf_counter() - begin
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        rates = ", ".join(f"{r['candidate']} / {r['baseline']} {r['win_tie_rate']:.3f}" for r in summary["pairwise"])
        yield f"| {name} | {spent:.0f} | {rates} |"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="a tiny network, one round, no demo")
    parser.add_argument("--demo", action="store_true", help="run the demo here and on the CPU, too")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.md")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    make, rounds = (tiny, 1) if options.dry else (real, 3)
    if options.dry:
        from quipwright.testing.tiny_models import ROWS

        rows = [*ROWS, *ROWS]
    else:
        rows = pairs(20 * BATCH)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no card"
    lines = [
        "# On a card",
        "",
        f"`{command('gpu')}` on {where}, {machine('torch', 'transformers', 'trl', 'peft')}.",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines += ["| log-probabilities in | nats a token from the CPU's float32: mean | greatest |", "|---|--:|--:|"]
        lines += [*agreement(make, rows[: 4 * BATCH]), ""]
        lines += ["| task | contender | rate | peak MiB |", "|---|---|--:|--:|"]
        lines += [*training(make, rows, rounds, folder), *sampling(make, rows, rounds), ""]
        if options.demo:
            lines += ["| demo on | seconds | win + tie rates |", "|---|--:|---|", *demo(folder), ""]
    options.output.write_text("\n".join(lines), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
