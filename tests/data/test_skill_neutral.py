"""What makes a skill a skill stands in task files and data: no other file names the one that ships first."""

from __future__ import annotations

import re
from pathlib import Path

import quipwright

ROOT = Path(quipwright.__file__).parent
SKILL = re.compile(r"funn|humou?r", re.IGNORECASE)
CITATION = "Small But Funny: A Feedback-Driven Approach to Humor Distillation"
SKILLED = ("data", "testing")  # task files and bundled data; fakes for tests


def test_only_task_files_and_data_name_a_skill() -> None:
    files = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".j2", ".js", ".css")]
    assert len(files) > 100
    named = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        if path.relative_to(ROOT).parts[0] not in SKILLED
        for line in path.read_text(encoding="utf-8").splitlines()
        if SKILL.search(line.replace(CITATION, ""))
    }
    assert not named
