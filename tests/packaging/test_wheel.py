"""The wheel alone, in an environment of its own and far from the checkout, does what the first page promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from quipwright.core.version import VERSION

ROOT = Path(__file__).parents[2]


def test_the_changes_begin_with_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == VERSION


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh environment that holds the built wheel and the embedded weights.

    The libraries that they stand on are those of this environment, whose own Quipwright it does not see.
    """
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("quipwright-*.whl")
    assert wheel.name == f"quipwright-{VERSION}-py3-none-any.whl"
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


@pytest.mark.slow  # builds the wheel, for which pip asks the registry
def test_it_writes_a_quip_and_brings_its_recipes_far_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "QUIPWRIGHT_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTHONPATH", None)

    def command(*arguments: str, program: str = "quipwright") -> str:
        run = [str(installed / program), *arguments]
        done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert command("--version") == f"quipwright {VERSION}\n"
    where = "import quipwright; print(quipwright.__file__)"
    assert command("-c", where, program="python").startswith(str(installed.parent))
    quip = command("write", "I missed the last bus home.")
    assert quip.startswith("I missed the last bus home")
    assert len(quip.splitlines()) == 1
    assert json.loads(command("schema"))["title"] == "Recipe"
    assert "polite" in command("init", "polite")
    assert "train" in command("data", "polite/recipe.yaml")
    assert "train" in command("data", "demo")
