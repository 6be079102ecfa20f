"""What each command costs: time to start, peak memory, and how both grow with the data.

``python -m benchmarks.commands`` writes ``benchmarks/results/commands.md``. Every command is a process of its own, timed by
its processor time; peak memory is the most it held. ``--largest`` and ``--rounds`` make it shorter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._measure import RESULTS, command, machine

SENTENCE = "My neighbour plays the trumpet at night."
LITERALS = 200  # of the smallest data set
HELP = ("", "distil", "data", "write", "serve", "audit", "compare", "report", "experiment", "train-critic")
FULL = (
    ("data demo", ["data", "demo"]),
    ("estimate demo", ["estimate", "demo"]),
    ("write SENTENCE", ["write", SENTENCE]),
    ("audit by the shipped critic, 64 pairs", ["audit", "--labels", "bundled:verdicts", "--limit", "64"]),
)


def run(arguments: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Processor seconds, seconds of the clock and peak MiB of ``quipwright`` with ``arguments``, run in ``folder``."""
    words = [sys.executable, "-m", "quipwright", *arguments]
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        silent = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.execve(sys.executable, words, {**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, used = os.wait4(pid, 0)
    if status:
        tail = (folder / "log.txt").read_text(errors="replace")[-800:]
        raise SystemExit(f"{' '.join(words)} failed: {tail}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - begin, used.ru_maxrss / 1024


def measured(title: str, arguments: Sequence[str], folder: Path, rounds: int) -> str:
    """A row of a table: median, least and greatest."""
    results = [run(arguments, folder) for _ in range(rounds)]
    processor, clock, memory = (sorted(column) for column in zip(*results, strict=True))
    print(f"{title}: {processor[0]:.2f} s of the processor, {memory[-1]:.0f} MiB", flush=True)
    return (
        f"| {title} | {statistics.median(processor):.2f} | {processor[0]:.2f} | {processor[-1]:.2f} | {clock[0]:.2f} | "
        f"{memory[-1]:.0f} |"
    )


def write_data(folder: Path, count: int) -> Path:
    """A corpus of ``count`` made-up literals with two texts each, two systems' answers, and a recipe that teaches it."""
    corpus = folder / f"corpus-{count}.jsonl"
    literals = [f"My neighbour number {i} plays the trumpet at night." for i in range(count)]
    corpus.write_text(
        "".join(
            json.dumps({"literal": text, "humorous": [f"{text[:-1]}, badly.", f"Breaking news: {text}"]}) + "\n"
            for text in literals
        )
    )
    for name, end in (("a", "and so far he is losing."), ("b", "which is how we met.")):
        lines = (json.dumps({"literal": text, "humorous": f"{text[:-1]}, {end}"}) + "\n" for text in literals)
        (folder / f"{name}-{count}.jsonl").write_text("".join(lines))
    recipe = folder / f"grow-{count}.yaml"
    recipe.write_text(
        f"name: grow\ndata: {{path: {corpus.name}}}\nteacher: {{kind: recorded, path: {corpus.name}}}\n"
        "critic: {kind: rule, pick: longer}\n"
    )
    return recipe


def growth(folder: Path, times: int, rounds: int) -> list[str]:
    """Rows for ``times`` the smallest data."""
    count = LITERALS * times
    recipe = write_data(folder, count)
    runs = [f"run-{count}-{number}" for number in range(rounds)]
    rows = [measured(f"data, {count:,} literals", ["data", recipe.name], folder, rounds)]
    taught = [run(["distil", recipe.name, "--run", name, "--until", "teach"], folder) for name in runs]
    processor, clock, memory = (sorted(column) for column in zip(*taught, strict=True))
    rows.append(
        f"| distil --until teach (recorded), {count:,} literals | {statistics.median(processor):.2f} | {processor[0]:.2f} | "
        f"{processor[-1]:.2f} | {clock[0]:.2f} | {memory[-1]:.0f} |"
    )
    against = ["compare", f"a-{count}.jsonl", f"b-{count}.jsonl", "--judge", "rule:longer", "--resamples", "1000"]
    rows.append(measured(f"compare by a rule, {count:,} pairs", against, folder, rounds))
    return rows


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=100, help="how many times the smallest data")
    parser.add_argument("--output", type=Path, default=RESULTS / "commands.md")
    options = parser.parse_args()
    head = [
        "| command | CPU s, median | least | greatest | clock s, least | peak MiB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(["write", SENTENCE], folder)  # fills the cache folder
        start = [measured(f"{what} --help".strip(), [*what.split(), "--help"], folder, options.rounds) for what in HELP]
        start += [measured(title, arguments, folder, options.rounds) for title, arguments in FULL]
        sizes = [times for times in (1, 10, 100) if times <= options.largest]
        grown = [row for times in sizes for row in growth(folder, times, options.rounds)]
    lines = [
        "# Commands",
        "",
        f"`{command('commands')}` on {machine('torch', 'transformers')}, one thread, {options.rounds} rounds.",
        "Every command is a process of its own with a warm cache folder; CPU seconds are of the processor.",
        "",
        *head,
        *start,
        "",
        "## Growth with the data",
        "",
        *head,
        *grown,
        "",
    ]
    options.output.write_text("\n".join(lines), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
