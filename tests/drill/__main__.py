"""``python -m tests.drill [kills] [files] [disk]``: run those parts (all of them unless named) and print the table."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from tests.drill.damages import files
from tests.drill.disk import disk
from tests.drill.kills import kills
from tests.drill.small_run import Drill, drilled

PARTS = {"kills": kills, "files": files, "disk": disk}


def table(drill: Drill) -> str:
    """All outcomes in Markdown."""
    grouped: dict[tuple[str, str], dict[str, int]] = {}
    for (what, how, outcome), times in drill.outcomes.items():
        grouped.setdefault((what, how), {})[outcome] = times
    lines = ["| command | what happened | times | outcome |", "| --- | --- | ---: | --- |"]
    for (what, how), outcomes in grouped.items():
        told = "; ".join(f"{outcome} ({times})" for outcome, times in sorted(outcomes.items()))
        lines.append(f"| `{what}` | {how} | {sum(outcomes.values())} | {told} |")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """Run the parts ``names``; 1 where anything went wrong."""
    # Forked children must not wait for threads that they do not have. Set by torch itself, the number would be set again
    # by every new thread of a child, and two at once find no pool.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        again = [sys.executable, "-m", "tests.drill", *names]
        os.execve(sys.executable, again, {**os.environ, "OMP_NUM_THREADS": "1"})
    with tempfile.TemporaryDirectory() as place, drilled(Path(place).resolve()) as drill:
        for name in names or PARTS:
            before = getrusage(RUSAGE_CHILDREN)
            PARTS[name](drill)
            after = getrusage(RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{name}: {seconds:.0f} seconds of processor time", file=sys.stderr)
    print(table(drill))
    return int(bool(drill.wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
