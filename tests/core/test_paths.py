"""Hostile names: nothing is written outside the folder it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from quipwright.core.errors import RecipeError
from quipwright.core.paths import inside
from quipwright.testing.faulty_server import FaultyServer
from tests.llm.test_calls_drill import ask, chat, requests

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
