"""An experiment's result as plain text of at most 80 columns: one block a variant."""

from __future__ import annotations

from collections.abc import Iterator

from quipwright.core.format import UNKNOWN, number, p_value, percent, percent_range, signed, signed_range
from quipwright.evaluation.experiment_table import WTR, Result, Row
from quipwright.evaluation.report.terminal import wrapped


def grid_lines(result: Result) -> Iterator[str]:
    """The whole result, variant by variant, then what was set aside and what failed."""
    yield wrapped(f"{result.name}: {len(result.rows)} variants against {result.opponent} on {result.split}") + "\n"
    for row in result.rows:
        yield "\n".join(variant_block(row, result.baseline)) + "\n"
    if result.spent:
        yield wrapped(f"All calls: {result.spent.calls}, cost {result.spent.money}.")
    for row in result.rows:
        if row.unfit:
            rate = f"{percent(row.rate)} ({percent_range(row.low, row.high)})"
            yield wrapped(f"Set aside, part of no verdict ({row.variant}, WTR {rate}): {row.unfit}")
        for seed, why in row.failed.items():
            yield wrapped(f"Failed: {row.variant}, seed {seed}: {why}")
    for judge, why in result.silent.items():
        yield wrapped(f"Judge {judge} said nothing: {why}")
    yield wrapped(WTR.format(result.opponent))


def variant_block(r: Row, baseline: str) -> Iterator[str]:
    """Everything about one variant."""
    yield wrapped(f"{r.variant}, {r.runs} run{'s' if r.runs != 1 else ''}, {r.n} inputs")
    if not r.unfit and r.rate is not None:
        paper = "" if r.paper is None else f", paper {r.paper:g} %"
        yield wrapped(f"WTR {percent(r.rate)}, over inputs {percent_range(r.low, r.high)}{paper}", "  ")
        if r.seeds_low is not None:
            yield wrapped(f"over seeds {percent_range(r.seeds_low, r.seeds_high)}", "  ")
        if r.difference is not None:
            gap = f"{signed(r.difference)} ({signed_range(r.difference_low, r.difference_high)}), p {p_value(r.p)}"
            yield wrapped(f"score minus {baseline}'s {gap}", "  ")
    for judge, said in r.judges.items():
        if said.rate is None:
            continue
        paper = "" if said.paper is None else f", paper {said.paper:g} %"
        yield wrapped(f"WTR by {judge} {percent(said.rate)}, {percent_range(said.low, said.high)}{paper}", "  ")
    if not r.n:
        return
    looks = (
        f"length {number(r.length_ratio)}, copies {percent(r.copy_rate)}, stock turns {percent(r.stock_turns)}, "
        f"distinct-2 {number(r.distinct_2)}; {r.minutes:.1f} minutes, cost {UNKNOWN if r.spent is None else r.spent.money}"
    )
    yield wrapped(looks, "  ")
