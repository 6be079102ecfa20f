"""What commands print fits a terminal of 80 columns."""

from __future__ import annotations

from quipwright.core.results import PairwiseResult
from quipwright.evaluation.report.terminal import WIDTH, pairwise_block, run_lines, shortened, text_table, wrapped
from quipwright.testing.summaries import made_summary


def test_a_run_is_told_in_eighty_columns() -> None:
    summary = made_summary(12)
    text = "\n".join(run_lines(summary))
    assert max(map(len, text.splitlines())) <= WIDTH
    for words in (
        "Before you believe a win rate:",
        "where 50 is even",
        "feedback against teacher, 12 inputs of test",
        "broken",
        "funny",
        "McNemar",
    ):
        assert words in text


def test_one_comparison_is_one_block() -> None:
    made = made_summary(12).pairwise[0]
    block = pairwise_block(made.model_copy(update={"candidate": "a" * 60, "p_even": 0.0001, "unparsed": 3}))
    assert isinstance(made, PairwiseResult)
    assert max(map(len, block.splitlines())) <= WIDTH
    assert "p < 0.001" in block
    assert "3 could not be read" in block


def test_a_long_name_loses_its_middle_and_the_table_keeps_its_columns() -> None:
    table = text_table(("system", "n"), [("x" * 100, "12"), ("short", "3")])
    head, long, short = table.splitlines()
    assert len(long) == WIDTH
    assert "…" in long
    assert head.endswith(" n")
    assert short.endswith("  3")
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert wrapped("one " * 40).count("\n") == 2
