"""One way to write a number for readers."""

from __future__ import annotations

from quipwright.core import format as f
from quipwright.core.results import Figure


def test_numbers_for_readers() -> None:
    assert [f.percent(x) for x in (0.614, 0.0, None)] == ["61 %", "0 %", "–"]
    assert [f.p_value(p) for p in (0.0, 0.0009, 0.001, 0.0123, 1.0, None)] == [
        "< 0.001", "< 0.001", "0.001", "0.012", "1.000", "–"
    ]  # fmt: skip
    assert [f.signed(x) for x in (0.0614, -0.2, -0.0001, None)] == ["+0.061", "-0.200", "+0.000", "–"]
    assert f.percent_range(0.552, 0.691) == "55 – 69 %"
    assert f.percent_range(None, 0.7) == f.number_range(0.1, None) == f.signed_range(None, None) == "–"
    assert f.number_range(0.5, 0.625) == "0.50 to 0.62"


def test_a_figure_shows_its_interval_where_it_has_one() -> None:
    known, bare = Figure(value=0.62, low=0.55, high=0.69), Figure(value=0.62, low=None, high=None)
    assert (f.hundred(known), f.plain(known)) == ("62 [55, 69]", "0.62 [0.55, 0.69]")
    assert (f.hundred(bare), f.plain(bare)) == ("62", "0.62")
    assert f.hundred(Figure(value=None, low=None, high=None)) == "–"
