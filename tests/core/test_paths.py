"""Paths: where each is looked for, and that hostile names write nothing outside the folder they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.errors import DataError, DiskError, RecipeError, WeightsError
from quipwright.core.paths import check_writable, inside, recipe_path, resolve, seen_from, weights_source
from quipwright.testing.asking import ask, chat, requests
from quipwright.testing.faulty_server import FaultyServer

NAMES = [
    "../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "..\\x", "C:\\x", "C:x", "\x00", "a\x00b", "CON",
    "con.jsonl", "NUL", "lpt1.txt", "COM9", "x" * 300, ".hidden", "~/x", "~root", "a\nb", "-rf", "a b", "..a", "a..b",
    "x.", "%2e%2e", "file:x", "\xe4/\xf6", "$HOME",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(RecipeError, match="the recording is named") as caught:
        inside(root, name, "the recording")
    assert len(str(caught.value)) < 200
    with FaultyServer() as server, pytest.raises(RecipeError):
        ask(root / "run", chat(server, record=name), requests(1))
    assert [p.name for p in tmp_path.iterdir()] == ["root"]
    assert not [p for p in root.rglob("*") if p.is_file() and p.parent.name == "recordings"]


def test_links_are_refused_and_plain_names_taken(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "target")
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    for name in ("link", "out"):
        with pytest.raises(RecipeError, match="link that leads elsewhere"):
            inside(tmp_path / "root", name, "x")
    assert inside(tmp_path / "root", "answers-1.jsonl", "x") == tmp_path / "root" / "answers-1.jsonl"
    (tmp_path / "root" / "recordings").symlink_to(tmp_path)
    with FaultyServer() as server, pytest.raises(RecipeError, match="link that leads elsewhere"):
        ask(tmp_path / "root", chat(server, record="x.jsonl"), requests(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["root"]


def test_a_path_starts_at_the_recipe_then_here_and_knows_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe_dir, here = tmp_path / "recipe", tmp_path / "here"
    for folder in (recipe_dir, here):
        folder.mkdir()
        (folder / "both").write_text("")
    (here / "only").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    assert resolve("both", "Data", recipe_dir) == recipe_dir / "both"
    assert resolve("only", "Data", recipe_dir) == Path("only")
    assert resolve("both", "Data") == Path("both")
    assert resolve("~/only", "Data", recipe_dir) == here / "only"
    assert resolve(str(here / "none"), "Data", recipe_dir) == here / "none"
    assert resolve("bundled:humour.jsonl", "Data", recipe_dir).name == "humour.jsonl"


@pytest.mark.parametrize(
    "reference", ["bundled:../task.py", "bundled:none", "bundled:", "bundled:/etc/passwd", " ", "a\0b"]
)
def test_what_is_no_path_is_refused(reference: str) -> None:
    with pytest.raises(DataError, match="Data "):
        resolve(reference, "Data")


def test_weights_are_a_folder_beside_the_recipe_or_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    assert weights_source("tiny", recipe_dir=tmp_path) == str(tmp_path / "tiny")
    assert weights_source("~/tiny") == str(tmp_path / "tiny")
    assert weights_source("owner/model", recipe_dir=tmp_path) == "owner/model"
    assert weights_source("tiny") == "tiny"
    for missing in ("./none", "~/none", "/none/at/all", "bundled:none"):
        with pytest.raises(WeightsError, match="Student") as caught:
            weights_source(missing, "Student", tmp_path)
        assert caught.value.exit_code == 6


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "c.html", "Report")
    check_writable(tmp_path, "Report")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"Report .*/file/r\.html cannot be written: .*/file is a file, not a folder"):
        check_writable(tmp_path / "file" / "r.html", "Report")
    with pytest.raises(DiskError, match=r"cannot be written: File name too long\. Use a shorter name"):
        check_writable(tmp_path / ("n" * 300), "Report")


def test_a_recipe_is_a_file_or_a_name_that_ships() -> None:
    assert recipe_path("demo").name == "demo.yaml"
    assert recipe_path("my/own.YML") == Path("my/own.YML")
    assert recipe_path("demo.yaml", recipe_path("demo").parent) == recipe_path("demo")
    with pytest.raises(DataError, match="does not ship"):
        recipe_path("../recipes/demo")


def test_a_relative_path_is_written_from_the_folder_that_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes" / "base").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert seen_from(tmp_path / "out" / "mine", "base", tmp_path / "recipes") == "../../recipes/base"
    assert seen_from(Path("recipes"), "here") == "../here"
    for same in ("owner/model", "/etc", "~/base", "bundled:critic"):
        assert seen_from(tmp_path / "out", same, tmp_path / "recipes") == same
