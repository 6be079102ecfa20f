"""Inline SVG: a dot plot with intervals, small line charts, bars. Every text is escaped where it enters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

if TYPE_CHECKING:
    from quipwright.core.statistics import ReliabilityBin

_PLOT, _NOTE, _ROW, _TOP = 340, 90, 40, 14


@dataclass(frozen=True)
class Dot:
    """A value with its interval; ``note`` stands to the right. ``other``: a figure to compare with, a hollow square."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str = ""
    other: float | None = None


@dataclass(frozen=True)
class Axis:
    """From ``-reach`` or 0 to ``reach``, named by ``title``, with a dashed line marked "even" where nothing is won or lost:
    at 0, or at 50 of 100 (``even``; without it no line is drawn)."""

    reach: float = 1.0
    signed: bool = False
    title: str = ""
    even: bool = False

    @property
    def ticks(self) -> list[tuple[float, str, bool]]:
        """Value, label, and whether it is the dashed one."""
        if not self.signed:
            return [(tick / 100, f"{tick}", self.even and tick == 50) for tick in range(0, 101, 25)]
        return [
            (step * self.reach / 2, f"{step * self.reach / 2:+g}" if step else "0", step == 0) for step in range(-2, 3)
        ]

    def share(self, value: float) -> float:
        """Where ``value`` lies between the ends, in [0, 1]."""
        share = (value / self.reach + 1) / 2 if self.signed else value
        return min(1.0, max(0.0, share))


def around_zero(values: Sequence[float], title: str = "") -> Axis:
    """The narrowest axis around 0 that holds ``values`` (in [-1, 1])."""
    most = max(map(abs, values), default=1.0)
    return Axis(next((reach for reach in (0.1, 0.2, 0.5) if most <= reach), 1.0), signed=True, title=title)


@dataclass(frozen=True)
class Point:
    """One value of a line chart: ``label`` under the axis. ``place``: where it stands, if points are not evenly spaced."""

    label: str
    value: float
    place: int | None = None


def dot_plot(dots: Sequence[Dot], caption: str, axis: Axis = Axis()) -> Markup:
    """Values as dots with their intervals on one axis; shares from 0 to 100 % unless ``axis`` says otherwise."""
    width, height = _PLOT + _NOTE, _ROW * len(dots) + _TOP + 46
    parts = [_axis(axis, height - 42)]
    for i, dot in enumerate(dots):
        y = _TOP + 28 + _ROW * i
        parts.append(
            Markup('<text x="0" y="{}">{}<title>{}</title></text>').format(y - 9, short(dot.label, 56), dot.label)
        )
        if dot.low is not None and dot.high is not None:
            parts.append(_line("range", _x(axis, dot.low), y, _x(axis, dot.high), y))
        parts.append(
            Markup('<circle class="dot" cx="{:.1f}" cy="{}" r="5"><title>{}: {}</title></circle>').format(
                _x(axis, dot.value), y, dot.label, dot.note
            )
        )
        if dot.other is not None:
            place = _x(axis, dot.other) - 4.5
            parts.append(Markup('<rect class="other" x="{:.1f}" y="{}" width="9" height="9"/>').format(place, y - 4.5))
        parts.append(Markup('<text class="soft" x="{}" y="{}">{}</text>').format(_PLOT + 4, y + 5, dot.note))
    return _figure(width, height, parts, caption)


def line_chart(title: str, points: Sequence[Point], *, scale: Literal["share", "score", "number"], unit: str) -> Markup:
    """One value over rounds or training, from 0 up, with its first and last values (all, of a few) written out.

    ``unit`` names the scale: shares and scores run to 100, other numbers to the next round one; a score of 50 is even.
    """
    width, height, left, right, top, bottom = 300, 178, 50, 286, 44, 138
    values = [p.value for p in points]
    most = 1.0 if scale != "number" else _round_up(max(values))
    places = [i if p.place is None else p.place for i, p in enumerate(points)]
    shown = [
        (left + (right - left) * (place / max(1, places[-1])), bottom - (bottom - top) * min(1.0, max(0.0, v / most)))
        for place, v in zip(places, values, strict=True)
    ]

    def said(value: float) -> str:
        return f"{value:.3g}" if scale == "number" else f"{100 * value:.0f}" + (" %" if scale == "share" else "")

    parts = [
        Markup('<text x="0" y="14">{}</text>').format(title),
        Markup('<text class="soft" x="0" y="31">{}</text>').format(unit),
    ]
    for share in (0.0, 0.5, 1.0):
        y = bottom - (bottom - top) * share
        parts += [
            _line("even" if scale == "score" and share == 0.5 else "grid", left, y, right, y),
            _text(left - 6, y + 4, said(most * share), "end", "soft"),
        ]
    parts.append(Markup('<polyline class="line" points="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)))
    marked = range(len(values)) if len(values) <= 8 else sorted({0, len(values) - 1})
    for i in marked:
        x, y = shown[i]
        anchor = "start" if i == 0 else "end" if i == len(values) - 1 else "middle"
        parts.append(Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x, y))
        parts.append(_text(x, y - 9 if y > top + 14 else y + 18, said(values[i]), anchor))
        parts.append(_text(x, height - 18, short(points[i].label, 16), anchor, "soft"))
    return _figure(
        width, height, parts, "", f"{title}: " + ", ".join(f"{points[i].label} {said(values[i])}" for i in marked)
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8, 10 times a power of ten, for the end of a scale."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if value <= step * power * (1 + 1e-9))


def bars(rows: Sequence[tuple[str, float, str]], caption: str) -> Markup:
    """Horizontal bars: label, length (any unit, from 0), and what is written beside it."""
    longest = max((value for _, value, _ in rows), default=0) or 1
    parts = []
    for i, (label, value, note) in enumerate(rows):
        y = 4 + 22 * i
        size = max(1.0, 300 * value / longest)
        parts.append(Markup('<text x="0" y="{}">{}<title>{}</title></text>').format(y + 13, short(label, 34), label))
        parts.append(Markup('<rect class="bar" x="250" y="{}" width="{:.1f}" height="15" rx="2"/>').format(y + 1, size))
        parts.append(Markup('<text class="soft" x="{:.1f}" y="{}">{}</text>').format(258 + size, y + 13, note))
    return _figure(700, 22 * len(rows) + 8, parts, caption)


def reliability(bins: Sequence[ReliabilityBin], question: str) -> Markup:
    """How often the critic is right where it is so sure, with the line on which it would be calibrated."""
    left, right, top, bottom = 44, 264, 10, 170

    def at(confidence: float, share: float) -> tuple[float, float]:
        return left + (right - left) * (2 * confidence - 1), bottom - (bottom - top) * share

    parts = [_line("even", *at(0.5, 0.5), *at(1, 1))]
    for share in (0, 0.5, 1):
        parts += [
            _line("grid", *at(0.5, share), *at(1, share)),
            _text(38, at(0, share)[1] + 5, f"{share:.0%}", "end", "soft"),
        ]
    parts += [_text(at(sure, 0)[0], bottom + 18, f"{sure:.0%}", "middle", "soft") for sure in (0.5, 0.75, 1)]
    for found in bins:
        right_share = found.accuracy
        if right_share.value is None:
            continue
        if right_share.low is not None and right_share.high is not None:
            parts.append(
                _line("range", *at(found.confidence, right_share.low), *at(found.confidence, right_share.high))
            )
        x, y = at(found.confidence, right_share.value)
        parts.append(Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x, y))
    caption = (
        f"Asked for {question}: how often the critic is right (up) where it is so sure (to the right), with 95 % "
        "intervals; on the dashed line it would be calibrated."
    )
    return _figure(290, 196, parts, caption)


def short(text: str, most: int) -> str:
    """``text`` with its middle left out where it is longer than ``most`` characters."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _axis(axis: Axis, bottom: int) -> Markup:
    places = [(_x(axis, value), label, even) for value, label, even in axis.ticks]
    lines = [_line("even" if even else "grid", x, _TOP, x, bottom + 4) for x, _, even in places]
    ticks = [_text(x, bottom + 19, label, "middle", "soft") for x, label, _ in places]
    marks = [_text(x, 10, "even", "middle", "soft") for x, _, even in places if even]
    title = [_text(_x(axis, 0.0 if axis.signed else 0.5), bottom + 36, axis.title, "middle", "soft")]
    return Markup("").join([*lines, *ticks, *marks, *(title if axis.title else [])])


def _x(axis: Axis, value: float) -> float:
    return 12 + (_PLOT - 28) * axis.share(value)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _figure(width: int, height: int, parts: Sequence[Markup], caption: str, label: str = "") -> Markup:
    under = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup(
        '<figure><svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{l}">{p}</svg>{c}</figure>'
    ).format(w=width, h=height, l=label or caption, p=Markup("").join(parts), c=under)
