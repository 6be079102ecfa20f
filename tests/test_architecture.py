"""The house: imports only go down, the environment has one reader, every recipe that ships loads, no pickle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from understudy.recipe import load_recipe
from understudy.task import Task

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "understudy"
GROUND, DOORS, ROOMS, ROOF = range(4)
FLOORS = {
    GROUND: ("__init__", "errors", "records", "settings", "store", "text", "resources", "progress", "paths", "lists"),
    DOORS: ("batches", "objectives", "pairs", "rounds", "examples", "statistics", "students", "llm", "critic.__init__"),
    ROOMS: (
        "task",
        "teacher",
        "sample",
        "train",
        "tracking",
        "critic",
        "evaluate",
        "labels",
        "contest",
        "diversity",
        "meaning",
        "ratings",
        "systems",
        "audit",
        "compare",
        "write",
        "web",
        "export",
        "estimate",
        "asking",
    ),
    ROOF: (
        "recipe",
        "planning",
        "opening",
        "stages",
        "evaluation",
        "summary",
        "feedback",
        "distil",
        "report",
        "experiment",
        "cli",
    ),
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; a package is named by its __init__."""
    return {".".join(p.relative_to(SOURCE).with_suffix("").parts): p for p in SOURCE.rglob("*.py")}


def floor(module: str) -> int:
    """The floor of ``module``: that of its longest listed prefix."""
    named = {name: level for level, names in FLOORS.items() for name in names}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in named:
            return named[prefix]
    base = parts[0].split("_")[0]  # cli_evidence stands beside cli
    assert base in named, f"{module} stands on no floor: add it to FLOORS"
    return named[base]


def imported(path: Path) -> set[str]:
    """Modules of ours that ``path`` imports at run time."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "understudy":
            below = (node.module or "").partition(".")[2]
            for alias in node.names:
                deeper = f"{below}.{alias.name}".strip(".")
                known = modules()
                found.add(
                    deeper
                    if deeper in known
                    else f"{below}.__init__"
                    if f"{below}.__init__" in known
                    else below or "__init__"
                )
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_only_go_down(name: str) -> None:
    for other in imported(modules()[name]):
        assert floor(other) <= floor(name), f"{name} imports {other} from a floor above"


def test_only_settings_reads_the_environment() -> None:
    for name, path in modules().items():
        text = path.read_text(encoding="utf-8")
        if name not in ("settings", "cli"):
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


@pytest.mark.parametrize("path", sorted((SOURCE / "tasks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_task_loads(path: Path) -> None:
    assert Task.load(path.stem).name == path.stem


def test_distil_is_readable_in_a_minute() -> None:
    assert len((SOURCE / "distil.py").read_text(encoding="utf-8").splitlines()) < 80
