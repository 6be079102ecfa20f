"""Tables for papers: LaTeX with the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from quipwright.core.format import counts, hundred, p_value
from quipwright.evaluation.compare import CompareResult

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "–": "--",
    "−": "$-$", "×": r"$\times$",
}  # fmt: skip


def escaped(text: str) -> str:
    """``text`` as LaTeX sets it letter for letter."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A ``tabular`` with ``heads`` above ``rows``: the first column to the left, the others to the right."""
    lines = [" & ".join(map(escaped, cells)) + r" \\" for cells in (heads, *rows)]
    columns = "l" + "r" * (len(heads) - 1)
    body = "\n".join(lines[1:])
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )


def compare_latex(result: CompareResult) -> str:
    """The pairwise results of ``quipwright compare``: rates in per cent with their 95 % intervals, p after Holm;
    those by an unfit judge are left out."""
    heads = ("candidate", "baseline", "judge", "split", "win-tie rate [95 %]", "win / tie / loss", "p", "harm")
    harmful = {(q.system, q.split): q.harm for q in result.quality}
    rows = [
        (
            r.candidate, r.baseline, r.judge, r.split, hundred(r.headline.rate), counts(r.headline), p_value(r.p_holm),
            hundred(harmful[r.candidate, r.split]),
        )
        for r in result.pairwise
        if not r.unfit
    ]  # fmt: skip
    return latex_table(heads, rows)


def markdown_latex(text: str) -> str:
    """The tables of a Markdown ``text``, one below the other."""
    tables: list[list[list[str]]] = []
    open_table = False
    for line in text.splitlines():
        is_row = line.startswith("|") and line.endswith("|")
        if is_row and not open_table:
            tables.append([])
        open_table = is_row
        if is_row:
            tables[-1].append([cell.strip().replace("**", "").replace("`", "") for cell in line[1:-1].split("|")])
    return "\n".join(latex_table(table[0], table[2:]) for table in tables)
