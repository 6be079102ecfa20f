"""Run the benchmarks, each in a process of its own: ``python -m benchmarks [--short] [NAME …]``.

Their tables are gathered in ``benchmarks/results/<date>-<machine>.md``. ``--short`` makes each of them take minutes on two
cores; without it they take an hour.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SHORT = {
    "decoding": ["--prompts", "24", "--rounds", "1", "--task", "SmolLM2"],
    "training": ["--pairs", "16", "--rounds", "1"],
    "critic": ["--sentences", "8", "--rounds", "2"],
    "commands": ["--rounds", "1", "--largest", "10"],
}
"""How a benchmark is made shorter; those that are not here have no table or no options."""
TABLES = ("training", "decoding", "critic", "calls", "commands")


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_") and path.stem != "gpu")


def machine_name() -> str:
    """A name for this machine that tells no host: the processor and how many of them there are."""
    import os

    import torch

    name = str(torch.cpu.get_capabilities().get("cpu_name", "cpu"))
    words = re.sub(r"\(R\)|CPU|@|Processor", "", name).split()
    return "-".join([*words, f"{os.cpu_count()}cores"]).lower()


def gathered(tables: list[Path], command: str, commit: str) -> str:
    """One document of ``tables``, each under a heading of its own."""
    parts = [f"# Benchmarks of {time.strftime('%Y-%m-%d')}", "", f"`{command}` at commit {commit}.", ""]
    for table in tables:
        parts += [re.sub(r"^(#+) ", r"#\1 ", table.read_text(encoding="utf-8"), flags=re.MULTILINE), ""]
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Run those that ``arguments`` name (all with a table, if none is) and gather them. Returns how many failed."""
    short = "--short" in arguments
    chosen = [name for name in arguments if name != "--short"]
    if unknown := [name for name in chosen if name not in names()]:
        print(f"There is no benchmark {unknown[0]!r}. There are: {', '.join(names())}.", file=sys.stderr)
        return 2
    failed, made = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen or TABLES:
            print(f"== {name}", flush=True)
            table = Path(folder) / f"{name}.md"
            options = SHORT.get(name, []) if short else []
            output = ["--output", str(table)] if name in TABLES else []
            words = [sys.executable, "-m", f"benchmarks.{name}", *options, *output]
            if subprocess.run(words, cwd=HERE.parent, check=False).returncode:
                failed.append(name)
            if table.exists():
                made.append(table)
        if made:
            describe = ["git", "describe", "--always", "--dirty"]
            commit = subprocess.run(describe, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
            place = HERE / "results" / f"{time.strftime('%Y-%m-%d')}-{machine_name()}.md"
            place.write_text(gathered(made, " ".join(["python -m benchmarks", *arguments]), commit), encoding="utf-8")
            print(f"Tables: {place}")
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
