"""Critics side by side against people's labels: the figures, and a critic that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from quipwright.core.errors import RecipeError
from quipwright.pipeline.experiment.critics import load_critic_table, run_critic_table


def critic_table(place: Path, **changed: Any) -> Path:
    rows = [
        {"literal": f"It rained {i} days.", "a": "Rain, rain, and more of it.", "b": f"{i} wet days.", "split": "test",
         "votes": {"humour": {"ann": "a", "bo": "a"}, "consistency": {"ann": "b" if i % 2 else "a"}}}
        for i in range(8)
    ]  # fmt: skip
    (place / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    usual = {
        "labels": "labels.jsonl",
        "critics": {"longer": {"kind": "rule"}, "first": {"kind": "rule", "pick": "first"}},
        "paper": {"first": {"PB": 15}},
    }
    path = place / "critics.yaml"
    path.write_text(yaml.safe_dump(usual | changed, sort_keys=False))
    return path


def test_critics_are_measured_against_people_side_by_side(
    place: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    path = critic_table(place, scales={"small": {"limit": 4, "split": "test"}})
    code, out, _ = quipwright("experiment", str(path), "--scale", "small", "--run", str(place / "out"))
    assert code == 0
    assert out.strip() == (place / "out" / "table.md").read_text().strip()
    longer, first = out.strip().splitlines()[-2:]
    assert longer.split(" | ")[1].startswith("100 [")  # the longer text is what both people took
    assert longer.split(" | ")[3:5] == ["–", "0 [0, 49]"]
    assert first.split(" | ")[4] == "100 [51, 100] (15)"
    assert json.loads((place / "out" / "result.json").read_text())["first"]["pairs"] == 4


def test_a_critic_that_fails_stops_no_other(place: Path) -> None:
    tree = yaml.safe_load(critic_table(place).read_text())
    tree["critics"] = {"none": {"kind": "reward", "path": "nowhere"}, **tree["critics"]}
    chosen = load_critic_table(tree, place / "critics.yaml")
    figures = run_critic_table(chosen, place, place)
    assert "holds no reward model" in str(figures["none"])
    assert [name for name, one in figures.items() if not isinstance(one, str)] == ["longer", "first"]
    assert "- none: " in (place / "table.md").read_text()


def test_a_column_that_the_paper_lacks_is_refused(place: Path) -> None:
    tree = yaml.safe_load(critic_table(place, paper={"first": {"WTR": 3}}).read_text())
    with pytest.raises(RecipeError, match=r"'WTR', which is no column"):
        load_critic_table(tree, place / "critics.yaml")
    tree = yaml.safe_load(critic_table(place).read_text())
    with pytest.raises(RecipeError, match=r"no scale 'small'"):
        load_critic_table(tree, place / "critics.yaml", "small")
