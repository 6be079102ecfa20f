"""Tables for papers."""

from __future__ import annotations

from quipwright.evaluation.report.latex import escaped, latex_table, markdown_latex


def test_letters_that_latex_would_run_are_set() -> None:
    assert escaped(r"50 % of a_b & {c} \d < e – f") == (r"50 \% of a\_b \& \{c\} \textbackslash{}d $<$ e -- f")


def test_a_table_has_its_names_to_the_left_and_numbers_to_the_right() -> None:
    assert latex_table(("system", "n"), [("a_1", "3")]) == (
        "\\begin{tabular}{lr}\n\\toprule\nsystem & n \\\\\n\\midrule\na\\_1 & 3 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )


def test_every_table_of_a_page_is_set() -> None:
    page = "# Title\n\n| a | b |\n| --- | --: |\n| **x** | `1` |\n\ntext | with a bar\n\n| c |\n| --- |\n| y |\n"
    assert markdown_latex(page) == latex_table(("a", "b"), [("x", "1")]) + "\n" + latex_table(("c",), [("y",)])
