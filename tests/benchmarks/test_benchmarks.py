"""The benchmarks gather their tables, and the script for a graphics card runs through without one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks._measure import command, ratios, take_turns

from benchmarks import __main__ as benchmarks


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([1.0, 2.0, 4.0], [3.0, 4.0, 20.0]) == "3.00 | 2.00 | 5.00"


def test_a_table_names_its_command_and_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--rounds", "1", "--output", "/somewhere/x.md", "--task", "full"])
    assert command("training") == "python -m benchmarks.training --rounds 1 --task full"


def test_contenders_take_turns() -> None:
    order: list[str] = []
    seconds = take_turns("x", {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_tables_are_gathered_under_headings_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"# {name}\n\n## More\n\ntext # not a heading\n")
    lines = benchmarks.gathered([tmp_path / "one", tmp_path / "two"], "python -m benchmarks", "abc").splitlines()
    assert [line for line in lines if line.startswith("#")][1:] == ["## one", "### More", "## two", "### More"]
    assert "`python -m benchmarks` at commit abc." in lines
    assert lines.count("text # not a heading") == 2


def test_every_table_has_its_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(benchmarks.TABLES) <= set(benchmarks.names())
    assert set(benchmarks.SHORT) <= set(benchmarks.TABLES)
    assert benchmarks.main(["nothing"]) == 2
    assert "There is no benchmark 'nothing'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_for_a_card_runs_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import gpu

    table = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu", "--dry", "--output", str(table)])
    gpu.main()
    rows = [line.split("|")[1:-1] for line in table.read_text().splitlines() if line.startswith("|")]
    named = {(row[0].strip(), row[1].strip()): row for row in rows}
    fp32 = next(row for row in rows if row[0].strip() == "fp32")
    assert 0 <= float(fp32[1]) < 1e-5
    for task in ("DPO, low-rank", "DPO, full"):
        for contender in ("ours", "TRL"):
            assert float(named[task, contender][2].split()[0]) > 0
    assert {key[1] for key in named if key[0].endswith("samples a prompt")} == {"engine", "`generate`"}
