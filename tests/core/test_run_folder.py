"""A run's manifest: sealed by a hash of its own, and written anew where it was lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quipwright.core.errors import DamagedError, RunError
from quipwright.core.storage.run_folder import RunFolder

RECIPE = {"name": "one", "seed": 3}


def opened(folder: Path, **settings: object) -> dict[str, object]:
    with RunFolder.open(folder, RECIPE | settings) as run:
        return run.manifest()


def test_a_manifest_that_was_changed_is_refused_and_one_that_is_lost_is_written_anew(tmp_path: Path) -> None:
    manifest = opened(tmp_path)
    assert manifest["recipe"] == RECIPE
    file = tmp_path / "manifest.json"
    whole = file.read_text()
    assert list(json.loads(whole)) == [*manifest, "hash"]
    for damage in (whole.replace('"seed": 3', '"seed": 4', 1), whole.replace("one", "two"), whole[:40], "", "[]"):
        file.write_text(damage)
        with pytest.raises(DamagedError, match=r"manifest\.json cannot be read.*Remove it and run the recipe again"):
            opened(tmp_path)
    file.unlink()
    (tmp_path / "stages").mkdir()
    assert opened(tmp_path) == manifest
    assert file.read_text() == whole
    with pytest.raises(RunError, match=r"these settings differ: seed \(was 3, now 4\)"):
        opened(tmp_path, seed=4)


def test_the_manifest_of_a_run_that_shares_its_stages_is_written_anew(tmp_path: Path) -> None:
    def opened_beside_others() -> dict[str, object]:
        with RunFolder.open(tmp_path / "one", RECIPE, shared=tmp_path / "stages") as run:
            return run.manifest()

    manifest = opened_beside_others()
    (tmp_path / "stages").mkdir()
    (tmp_path / "one" / "report.html").touch()
    (tmp_path / "one" / "manifest.json").unlink()
    assert opened_beside_others() == manifest
