"""A run that starts from a student who imitates already: nothing is trained before feedback."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from quipwright.core.errors import RecipeError
from quipwright.data.run_summary import RunSummary
from quipwright.evaluation.report.pages import report_run
from quipwright.pipeline.recipe import load_recipe
from quipwright.serving.export.folder import export
from quipwright.students.common import WEIGHTS_FILE
from quipwright.testing.runs import run


@pytest.fixture(scope="module")
def adopted(
    tmp_path_factory: pytest.TempPathFactory, straight: tuple[Path, Path, RunSummary]
) -> tuple[Path, RunSummary]:
    """The folder and summary of a run that starts from the imitation student of ``straight``, exported beside it."""
    folder = tmp_path_factory.mktemp("adopted")
    export(f"{straight[1]}:imitation", folder / "exported", None, "adapter")
    sets = ("imitation=null", f"student.adapter={folder / 'exported'}", "evaluate.best_of=0", "evaluate.base=false")
    return folder, run(straight[0], folder / "run", *sets, "select={kind: random}")


def test_the_adapter_is_the_imitation_student_untouched(adopted: tuple[Path, RunSummary]) -> None:
    folder, summary = adopted
    kept = load_file(folder / "run" / "stages" / summary.checkpoints["imitation"].path / WEIGHTS_FILE)
    given = load_file(folder / "exported" / WEIGHTS_FILE)
    assert kept.keys() == given.keys()
    assert all((kept[name] == given[name].float()).all() for name in kept)  # an export holds bfloat16, a run float32
    assert (summary.training["sft-imitation"].rows, summary.training["sft-imitation"].losses) == (0, [])


def test_feedback_starts_from_it(adopted: tuple[Path, RunSummary]) -> None:
    folder, summary = adopted
    assert summary.checkpoints["feedback"].parent_id == summary.checkpoints["imitation"].id
    assert summary.training["preference-1"].rows > 0
    assert "Nothing was trained before feedback" in " ".join(report_run(folder / "run").read_text().split())


def test_an_absent_imitation_needs_a_student_that_imitates(straight: tuple[Path, Path, RunSummary]) -> None:
    with pytest.raises(RecipeError, match=r"imitation is null, but student\.adapter names no student"):
        load_recipe(str(straight[0]), ["imitation=null"])
