"""The pages agree with the code: exit codes, commands, the files that pages name, and the links of the pages at the root."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from quipwright.cli.app import app
from quipwright.core import errors
from quipwright.pipeline.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
SHIPPED = re.compile(r"`((?:src|tests|recipes|experiments|examples)/[\w./-]+\.\w+)`")
COMMANDS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_every_exit_code_is_explained() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMANDS, re.MULTILINE)}
    assert explained == {0, *(kind.exit_code for kind in kinds if issubclass(kind, errors.QuipwrightError))}


def test_every_command_is_listed() -> None:
    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None}
    rows = COMMANDS.split("| --- | --- |\n")[1].split("\n\n")[0]
    assert {name for row in rows.splitlines() for name in re.findall(r"`([a-z-]+)", row.split("|")[1])} == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"^# (\S+\.\w+)$", text, re.MULTILINE))  # files that a reader is told to write
    assert [name for name in SHIPPED.findall(text) if name not in shown and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_pages_at_the_root_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_that_a_page_overrides_are_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in re.findall(r"^ *quipwright distil recipes/.*", page.read_text(encoding="utf-8"), re.MULTILINE):
        words = shlex.split(line, comments=True)
        load_recipe(words[2], [word for before, word in pairwise(words) if before == "--set"])


def test_the_recipe_of_the_guide_is_valid() -> None:
    import yaml

    guide = (ROOT / "docs" / "your-own-task.md").read_text(encoding="utf-8")
    (tree,) = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(name:.*?)```", guide, re.DOTALL | re.MULTILINE)]
    assert Recipe.model_validate(tree).critic.path == "critics/polite"
