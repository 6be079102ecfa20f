"""The house: imports only go down, the environment has one reader, every recipe that ships loads, no pickle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from quipwright.data.task import Task
from quipwright.pipeline.recipe import load_recipe

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "quipwright"
HOUSE = ("cli", "pipeline", "evaluation", "serving", "critics", "training", "data", "llm", "students", "core")
"""The folders, top down: each imports from itself and from those after it. ``testing`` stands beside the house."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; a package by its own name."""
    names = {".".join(p.relative_to(SOURCE).with_suffix("").parts): p for p in SOURCE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imported(path: Path) -> set[str]:
    """Modules of ours that ``path`` imports anywhere, under ``TYPE_CHECKING`` too."""
    known, names = modules(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("quipwright.")}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "quipwright":
            below = (node.module or "").partition(".")[2]
            for alias in node.names:
                deeper = f"{below}.{alias.name}".strip(".")
                names.add(deeper if deeper in known else below)
    return names


def room(module: str) -> str:
    """The folder of ``module``; empty for the root."""
    return module.split(".")[0] if module not in ("__init__", "__main__", "") else ""


def test_the_root_holds_nothing_but_the_public_face() -> None:
    files = {p.name for p in SOURCE.iterdir() if p.is_file()}
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert files == {"__init__.py", "__main__.py", "py.typed"}
    assert folders == {*HOUSE, "testing"}


def test_the_document_shows_this_list() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("| folder | what is there |\n| --- | --- |\n")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == HOUSE


@pytest.mark.parametrize("name", sorted(name for name in modules() if room(name) in HOUSE))
def test_imports_only_go_down(name: str) -> None:
    for other in imported(modules()[name]):
        assert room(other), f"{name} imports the package's face"
        assert room(other) in HOUSE, f"{name} imports {other}"
        assert HOUSE.index(room(name)) <= HOUSE.index(room(other)), f"{name} imports {other} from above"


def test_no_file_imports_itself_through_others() -> None:
    arrows = {name: imported(path) & modules().keys() for name, path in modules().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(arrows[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


def test_only_settings_reads_the_environment() -> None:
    for name, path in modules().items():
        text = path.read_text(encoding="utf-8")
        if name not in ("core.settings", "cli.main"):
            assert "os.environ" not in text, name
            assert "getenv" not in text, name


def test_nothing_is_pickled_and_no_remote_code_runs() -> None:
    for name, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "cloudpickle", "joblib"} & set(names), name
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant), name
                assert node.value.value is False, name
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save", "yaml.load"):
                pytest.fail(f"{name} calls {ast.unparse(node)}")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_loads(path: Path) -> None:
    recipe, _ = load_recipe(str(path))
    assert recipe.name == path.stem


@pytest.mark.parametrize("path", sorted((SOURCE / "data" / "tasks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_task_loads(path: Path) -> None:
    assert Task.load(path.stem).name == path.stem


def test_distil_is_readable_in_a_minute() -> None:
    assert len((SOURCE / "pipeline" / "distil.py").read_text(encoding="utf-8").splitlines()) < 80


def test_no_test_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        names = {
            part for node in nodes if node.module for part in node.module.split(".")[1:] if node.module[:5] == "tests"
        }
        assert not [name for name in names if name.startswith("test_") or name == "conftest"], path
