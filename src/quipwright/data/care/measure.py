"""How good the judgment of sensitive sentences is: recall by kind and false alarms, each with its interval."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quipwright.core.format import percent, percent_range
from quipwright.core.statistics import Estimate, proportion
from quipwright.data.care.classifier import KINDS
from quipwright.data.care.judgment import Care
from quipwright.data.care.rows import CareRow


@dataclass(frozen=True)
class CareFigures:
    """``shares`` of sentences called sensitive, by the name of their group; ``mistakes`` with the kind that was seen in
    them ("": none); ``milliseconds`` for one sentence, asked alone."""

    shares: dict[str, Estimate]
    mistakes: tuple[tuple[CareRow, str], ...]
    milliseconds: float

    def lines(self) -> Iterator[str]:
        """One line a group."""
        for name, share in self.shares.items():
            counted = f"{round((share.value or 0) * share.n)} of {share.n}"
            yield f"{name:<28} {percent(share.value, 1):>8} ({percent_range(share.low, share.high, 1)}), {counted}"
        yield f"{'time for one sentence':<28} {self.milliseconds:.1f} ms"


def measure(care: Care, rows: Sequence[CareRow]) -> CareFigures:
    """What ``care`` says of ``rows``, beside their labels; unclear ones are left out."""
    known = [row for row in rows if row.label != "unclear"]
    kinds = care.kinds([row.text for row in known])
    groups: dict[str, list[bool]] = {}
    for row, kind in zip(known, kinds, strict=True):
        for name in _groups(row):
            groups.setdefault(name, []).append(bool(kind))
    wrong = [(row, kind) for row, kind in zip(known, kinds, strict=True) if bool(kind) != (row.label == "sensitive")]
    shares = {name: proportion(sum(groups[name]), len(groups[name])) for name in sorted(groups, key=_place)}
    return CareFigures(shares, tuple(wrong), _milliseconds(care, [row.text for row in known[:200]]))


def _groups(row: CareRow) -> tuple[str, ...]:
    if row.label == "sensitive":
        return "recall", f"recall, {row.kind}"
    if row.source == "literals":
        return ("false alarms, literals",)
    return ("false alarms, look-alikes",) if row.kind else ("false alarms, everyday",)


def _place(name: str) -> tuple[bool, bool, int]:
    kind = name.removeprefix("recall, ")
    return name.startswith("false"), kind in KINDS, KINDS.index(kind) if kind in KINDS else 0


def _milliseconds(care: Care, texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    for text in texts:
        care.kinds([text])
    return 1000 * (time.perf_counter() - begin) / max(1, len(texts))
