"""Whole runs of the tiny recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.storage.run_folder import RunFolder
from quipwright.data.run_summary import RunSummary
from quipwright.pipeline.distil import distil
from quipwright.pipeline.recipe import load_recipe
from quipwright.testing import runs
from quipwright.testing.recipes import write_recipe
from tests.pipeline.results import Run


@pytest.fixture(scope="session")
def straight(
    tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, tiny_critic: Path, corpus_file: Path
) -> tuple[Path, Path, RunSummary]:
    """An uninterrupted run, which tests copy and damage: its recipe, folder and summary."""
    folder = tmp_path_factory.mktemp("straight")
    recipe = write_recipe(folder, tiny_weights, tiny_critic, corpus_file)
    return recipe, folder / "run", runs.run(recipe, folder / "run")


@pytest.fixture(scope="session")
def shared_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stages that runs share, so that the same imitation student is not trained anew for every test."""
    return tmp_path_factory.mktemp("shared_stages")


@pytest.fixture
def run(tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path, shared_stages: Path) -> Run:
    """Run the tiny recipe with overrides."""
    path = write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)
    shared = tmp_path / "stages"  # where what is made of a run looks for them
    shared.symlink_to(shared_stages)

    def go(*sets: str, folder: str = "run") -> RunSummary:
        usual = ("evaluate.best_of=0", "evaluate.base=false")
        recipe, base = load_recipe(str(path), [*usual, *sets])
        with RunFolder.open(tmp_path / folder, recipe.model_dump(mode="json"), shared=shared) as opened:
            return distil(recipe, opened, base)

    return go


@pytest.fixture
def place(tmp_path: Path, tiny_weights: Path, tiny_critic: Path, corpus_file: Path) -> Path:
    """A folder with the tiny recipe."""
    write_recipe(tmp_path, tiny_weights, tiny_critic, corpus_file)
    return tmp_path
