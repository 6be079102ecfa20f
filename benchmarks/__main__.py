"""Run the benchmarks, each in a process of its own: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main(chosen: list[str]) -> int:
    """Run those ``chosen`` (all, if none is) and say where their tables are. Returns how many failed."""
    unknown = [name for name in chosen if name not in names()]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. There are: {', '.join(names())}.", file=sys.stderr)
        return 2
    failed = []
    for name in chosen or names():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=HERE.parent, check=False).returncode:
            failed.append(name)
    print("Tables: " + ", ".join(str(table) for table in sorted((HERE / "results").glob("*.md"))))
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
