"""CONTRIBUTING.md, followed to the letter in a copy of the repository: every file written, every change made, its tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
DIFFS = re.findall(r"`(src/[\w/]+\.py)`[^`]*?```diff\n(.*?)```", PAGE, re.DOTALL)
TESTS = re.findall(r"-m pytest (tests/\S+)(?: -k (\S+))?\n```", PAGE)


def changed(text: str, diff: str) -> str:
    """``text`` with the hunks of ``diff`` applied, each of which must fit in exactly one place."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def test_a_hunk_is_applied_where_it_fits() -> None:
    assert changed("a\nb\nc\n", " a\n+x\n b\n@@\n-c\n+d\n") == "a\nx\nb\nd\n"


def test_the_page_has_what_it_promises() -> None:
    assert len(FILES) == 8  # four classes and their tests but one, which is all diff; a task
    assert {path for path, _ in DIFFS} == {
        "src/quipwright/critics/config.py",
        "src/quipwright/students/base.py",
        "src/quipwright/students/load.py",
        "src/quipwright/training/objectives.py",
        "src/quipwright/llm/config.py",
    }
    assert [Path(path).name for path, _ in TESTS] == [
        "test_calm.py",
        "test_instruct.py",
        "test_margin.py",
        "test_architecture.py",
        "test_echo.py",
    ]


def test_all_five_parts_work_as_written(tmp_path: Path) -> None:
    for name in ("src", "tests", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in FILES.items():
        assert not (tmp_path / path).exists(), path
        (tmp_path / path).write_text(text, encoding="utf-8")
    for path, diff in DIFFS:
        file = tmp_path / path
        file.write_text(changed(file.read_text(encoding="utf-8"), diff), encoding="utf-8")
    named = [path for path, pattern in TESTS if not pattern]
    (task_test,) = [f"{path}::test_{pattern}" for path, pattern in TESTS if pattern]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *named, task_test]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "test_every_task_loads[polite]" in done.stdout
    lint = [sys.executable, "-m", "ruff", "check", "src", *named]
    linted = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
