"""What all benchmarks share: taking turns by processor time, ratios, versions, and a process of its own for memory."""

from __future__ import annotations

import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
Work = Callable[[], object]


def take_turns(title: str, contenders: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of each contender, who take turns so that a busy machine slows all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, work in contenders.items():
            begin = time.process_time()
            work()
            seconds[name].append(time.process_time() - begin)
            print(f"{title}, round {number + 1}: {name}: {seconds[name][-1]:.2f} s", flush=True)
    return seconds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times as long as ours theirs took in the same round: median, least and greatest, as cells of a table."""
    times = [b / a for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f}"


def peak_memory() -> float:
    """The most memory this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def machine(*packages: str) -> str:
    """The processor, Python, and the installed versions of ``packages``."""
    import torch

    able = torch.cpu.get_capabilities()
    flags = [name for name in ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16") if able.get(name)]
    found = [f"{name} {_version(name)}" for name in packages]
    name = able.get("cpu_name", platform.machine())
    return f"{name} ({', '.join(flags)}), Python {platform.python_version()}, {', '.join(found)}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def command(name: str) -> str:
    """How the running benchmark was called, apart from where its table goes."""
    words = list(sys.argv[1:])
    if "--output" in words:
        place = words.index("--output")
        del words[place : place + 2]
    return shlex.join(["python", "-m", f"benchmarks.{name}", *words])
