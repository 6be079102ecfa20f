"""How fast students train: SFT and DPO beside TRL, low-rank and in full, one thread, float32.

``python -m benchmarks.training`` writes ``benchmarks/results/training.md``. The pairs are graded tags of the shipped
corpus. Both sides train the same weights on the same pairs in steps of 16 (8 at a time) and take turns; each round counts
all that a training needs once it is set up, the reference's log-probabilities included. ``--rounds``, ``--pairs`` and
``--task`` make it shorter. Peak memory is that of a process which does nothing else.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks._measure import RESULTS, command, machine, peak_memory, ratios, take_turns
from quipwright.students.base import LoRA, Prompted, StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.students.packing import pack
from quipwright.students.scoring import score_rows
from quipwright.training.loop import train
from quipwright.training.objectives import DPO, MLE
from quipwright.training.settings import TrainSettings

BATCH, MICRO, LR, RANK = 16, 8, 1e-5, 16


@dataclass(frozen=True)
class Task:
    """One comparison: what is trained, how, and where TRL takes its reference from."""

    kind: str
    tuning: str
    reference: str = ""

    @property
    def title(self) -> str:
        """Its name in the table."""
        return ", ".join(filter(None, (self.kind.upper(), self.tuning, self.reference)))


TASKS = [
    Task("dpo", "low-rank", "reference beforehand"),
    Task("dpo", "low-rank", "reference in every step"),
    Task("dpo", "full", "reference beforehand"),
    Task("dpo", "full", "reference in every step"),
    Task("sft", "low-rank"),
    Task("sft", "full"),
]


def pairs(count: int) -> list[Prompted]:
    """The best and the worst tag of the first sentences of the shipped graded texts whose grades differ."""
    import quipwright
    from quipwright.data.task import Task as Skill
    from quipwright.serving.writer import Writer

    skill: Skill = Writer.load().task
    attempts: dict[str, list[dict[str, Any]]] = {}
    path = Path(quipwright.__file__).parent / "data" / "bundled" / "graded.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["style"] == "tag":
            attempts.setdefault(row["literal"], []).append(row)
    rows = []
    for literal, texts in attempts.items():
        best, worst = max(texts, key=lambda t: t["grade"]), min(texts, key=lambda t: t["grade"])
        if best["grade"] > worst["grade"]:
            rows.append(Prompted(skill.prompt(literal, "tag"), (best["text"], worst["text"])))
    return rows[:count]


def student_of(tuning: str) -> CausalStudent:
    """The untrained student in float32."""
    torch.manual_seed(0)
    low_rank = LoRA(rank=RANK, alpha=2 * RANK)
    return CausalStudent.open(StudentSettings(precision="fp32", tuning=low_rank if tuning == "low-rank" else "full"))


def ours(task: Task, rows: list[Prompted], folder: Path) -> Callable[[], object]:
    """One epoch of our training."""
    student = student_of(task.tuning)
    settings = TrainSettings(epochs=1, batch_size=BATCH, micro_batch_size=MICRO, lr=LR, save_every=10**6)
    sft = task.kind == "sft"
    mine = [Prompted(row.prompt, row.responses[:1]) for row in rows] if sft else rows
    number = iter(range(10**6))

    def run() -> object:
        reference = None if sft else score_rows(student, mine, MICRO)
        objective = MLE() if sft else DPO()
        return train(student, mine, objective, settings, folder / str(next(number)), seed=1, reference=reference)

    return run


def trls(
    task: Task, rows: list[Prompted], folder: Path, student: CausalStudent | None = None, bf16: bool = False
) -> Callable[[], object]:
    """One epoch of TRL's, on the untrained student's network unless another ``student`` is given."""
    import datasets
    import trl
    from peft import LoraConfig

    datasets.disable_progress_bars()
    low_rank = task.tuning == "low-rank"
    student = student or student_of("full")
    network, tokenizer = student.network, student.tokenizer
    common: dict[str, Any] = {
        "output_dir": str(folder), "per_device_train_batch_size": MICRO, "learning_rate": LR,
        "gradient_accumulation_steps": BATCH // MICRO, "num_train_epochs": 1, "bf16": bf16, "report_to": [],
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False,
        "max_length": None, "logging_strategy": "no",
    }  # fmt: skip
    adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    table = [{"prompt": row.prompt, "chosen": row.responses[0], "rejected": row.responses[1]} for row in rows]
    if task.kind == "sft":
        table = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in table]

    def run() -> object:
        torch.manual_seed(0)
        given: dict[str, Any] = {
            "train_dataset": datasets.Dataset.from_list(table), "processing_class": tokenizer,
            "peft_config": adapter if low_rank else None,
        }  # fmt: skip
        if task.kind == "sft":
            trainer = trl.SFTTrainer(copy.deepcopy(network), args=trl.SFTConfig(**common), **given)
        else:
            beforehand = task.reference == "reference beforehand"
            config = trl.DPOConfig(**common, precompute_ref_log_probs=beforehand)
            trainer = trl.DPOTrainer(copy.deepcopy(network), args=config, **given)
        return trainer.train()

    return run


def bound(task: Task, rows: list[Prompted]) -> float:
    """Seconds that the matrix products of our passes alone take, weights read from memory."""
    student = student_of("full")
    mine = [Prompted(row.prompt, row.responses[:1]) for row in rows] if task.kind == "sft" else rows
    layout = pack(student.collate(sorted(mine, key=lambda row: len(row.prompt))[: 4 * MICRO]))
    scale = len(rows) / min(len(rows), 4 * MICRO)
    tokens = int(layout.mask[:, 0].diagonal(dim1=-2, dim2=-1).sum()) - int((layout.ids == 0).sum())
    head = student.network.get_output_embeddings()
    seconds = 0.0
    # a pass forward, one back to the inputs, one to the weights where they are trained, and the reference's
    times = 2 + (task.tuning == "full") + (task.kind == "dpo")
    with torch.inference_mode():
        for layer in (module for module in student.network.modules() if isinstance(module, nn.Linear)):
            count = len(layout.row) if layer is head else tokens
            given = torch.randn(max(1, count // 4), layer.in_features)
            layer(given)
            begin = time.process_time()
            layer(given)
            seconds += (time.process_time() - begin) * times
    return seconds * 4 * scale


def memory_of(task: Task, contender: str, count: int) -> float:
    """Peak memory in MiB of a process that trains ``task`` once as ``contender``."""
    number = str(TASKS.index(task))
    call = [sys.executable, "-m", "benchmarks.training", "--alone", contender, number, "--pairs", str(count)]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


MAKERS = {"ours": ours, "TRL": trls}


def report(done: dict[Task, tuple[dict[str, list[float]], float, dict[str, float]]], options: Any) -> str:
    """The results as Markdown."""
    lines = [
        "# Training",
        "",
        f"`{command('training')}` on {machine('torch', 'transformers', 'trl', 'peft')}, one thread.",
        f"{options.pairs} pairs of graded tags, steps of {BATCH} ({MICRO} at a time), float32, SmolLM2-135M, adapters of rank "
        f"{RANK}; {options.rounds} rounds in which both take turns, by processor time.",
        "The bound is what the matrix products of our own passes alone would take. Peak memory is that of a process which",
        "trains once.",
        "",
        "| task | pairs/s | of the bound | pairs/s, TRL | TRL's time / ours: median | least | greatest | peak MiB | TRL's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for task, (seconds, least, memory) in done.items():
        mine, theirs = (statistics.median(seconds[name]) for name in MAKERS)
        peaks = " | ".join(f"{memory[name]:.0f}" if name in memory else "-" for name in MAKERS)
        lines.append(
            f"| {task.title} | {options.pairs / mine:.2f} | {least / mine:.0%} | {options.pairs / theirs:.2f} | "
            f"{ratios(seconds['ours'], seconds['TRL'])} | {peaks} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="", help="only tasks whose title holds this text")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--alone", nargs=2, metavar=("CONTENDER", "NUMBER"), help="train once, print peak memory")
    parser.add_argument("--output", type=Path, default=RESULTS / "training.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    rows = pairs(options.pairs)
    with tempfile.TemporaryDirectory() as folder:
        if options.alone:
            MAKERS[options.alone[0]](TASKS[int(options.alone[1])], rows, Path(folder))()
            print(peak_memory())
            return
        done: dict[Task, tuple[dict[str, list[float]], float, dict[str, float]]] = {}
        for task in (task for task in TASKS if options.task in task.title):
            contenders = {name: make(task, rows, Path(folder) / name) for name, make in MAKERS.items()}
            seconds = take_turns(task.title, contenders, options.rounds)
            del contenders
            memory = {} if options.no_memory else {name: memory_of(task, name, 2 * BATCH) for name in MAKERS}
            done[task] = seconds, bound(task, rows), memory
            options.output.write_text(report(done, options), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
