"""``import quipwright``: fast, documented, and the same results as the commands."""

from __future__ import annotations

import json
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import quipwright


def test_the_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, quipwright; heavy = {'torch', 'transformers', 'pydantic', 'numpy', 'scipy', 'rich', 'typer'};"
        "print(sorted(heavy & sys.modules.keys()), quipwright.__version__)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", quipwright.__version__]


def test_every_public_name_is_there_and_documented() -> None:
    assert set(quipwright.__all__) < set(dir(quipwright))
    for name in quipwright.__all__:
        assert getattr(quipwright, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        quipwright.lod  # noqa: B018 - the access is what is tested
    shown = pydoc.plain(pydoc.render_doc(quipwright))
    for words in ("load(reference", "distil(recipe", "compare(*systems", "audit(critic", "import quipwright"):
        assert words in shown, words


def test_files_are_compared_and_a_critic_is_audited(tmp_path: Path) -> None:
    rows = [{"literal": f"It rained {i} days.", "text": f"{i} wet days, and then some."} for i in range(6)]
    short = [{**row, "text": "Wet."} for row in rows]
    for name, content in (("long", rows), ("short", short)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    files = [tmp_path / "long.jsonl", tmp_path / "short.jsonl"]
    result = quipwright.compare(*files, judges=["rule:longer"], resamples=100, calls=tmp_path / "calls")
    (pair,) = result.pairwise
    assert (pair.candidate, pair.baseline, pair.n, pair.score.value) == ("long", "short", 6, 1.0)
    assert result.grades == ("broken", "plain", "funny")
    labels = [
        {"literal": row["literal"], "a": row["text"], "b": "Wet.", "verdict": "b" if i < 2 else "a"}
        for i, row in enumerate(rows)
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    report = quipwright.audit("rule:longer", tmp_path / "labels.jsonl", calls=tmp_path / "calls")
    assert (report.pairs, report.agreement.value) == (6, pytest.approx(4 / 6))


def test_a_recipe_runs_and_its_student_writes(tiny_recipe: Path, tmp_path: Path) -> None:
    run = quipwright.distil(
        tiny_recipe, run=tmp_path / "run", settings=["rounds=0", "evaluate.best_of=0", "evaluate.base=false"]
    )
    assert list(run.summary.checkpoints) == ["imitation"]
    assert run.report() == run.folder / "report.html"
    assert "imitated the teacher" in run.report().read_text(encoding="utf-8")
    assert run.load().write("I missed the bus.") == quipwright.load(run.folder).write("I missed the bus.")
