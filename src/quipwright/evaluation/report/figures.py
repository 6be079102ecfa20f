"""Inline SVG: a dot plot with intervals, small line charts, bars. Every text is escaped where it enters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from quipwright.core.statistics import ReliabilityBin

_PLOT, _NOTE, _ROW, _LETTER = 250, 95, 26, 7


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
    """From ``-reach`` or 0 to ``reach``, with a dashed line where nothing is won or lost."""

    reach: float = 1.0
    signed: bool = False

    @property
    def ticks(self) -> list[tuple[float, str, bool]]:
        """Value, label, and whether it is the dashed one."""
        if not self.signed:
            return [(tick / 100, f"{tick} %", tick == 50) for tick in range(0, 101, 25)]
        return [
            (step * self.reach / 2, f"{step * self.reach / 2:+g}" if step else "0", step == 0) for step in range(-2, 3)
        ]

    def share(self, value: float) -> float:
        """Where ``value`` lies between the ends, in [0, 1]."""
        share = (value / self.reach + 1) / 2 if self.signed else value
        return min(1.0, max(0.0, share))


def around_zero(values: Sequence[float]) -> Axis:
    """The narrowest axis around 0 that holds ``values`` (in [-1, 1])."""
    most = max(map(abs, values), default=1.0)
    return Axis(next((reach for reach in (0.1, 0.2, 0.5) if most <= reach), 1.0), signed=True)


@dataclass(frozen=True)
class Point:
    """One value of a line chart: ``label`` under the axis. ``place``: where it stands, if points are not evenly spaced."""

    label: str
    value: float
    place: int | None = None


def dot_plot(dots: Sequence[Dot], caption: str, axis: Axis = Axis()) -> Markup:
    """Values as dots with their intervals on one axis; shares from 0 to 100 % unless ``axis`` says otherwise."""
    room = min(300, 10 + _LETTER * max((len(dot.label) for dot in dots), default=0))
    width, height = room + _PLOT + _NOTE, _ROW * len(dots) + 34
    parts = [_axis(axis, room, height - 26)]
    for i, dot in enumerate(dots):
        y = 16 + _ROW * i
        parts.append(
            Markup('<text x="0" y="{}">{}<title>{}</title></text>').format(y + 5, short(dot.label, 42), dot.label)
        )
        if dot.low is not None and dot.high is not None:
            parts.append(_line("range", _x(axis, room, dot.low), y, _x(axis, room, dot.high), y))
        parts.append(
            Markup('<circle class="dot" cx="{:.1f}" cy="{}" r="5"><title>{}: {}</title></circle>').format(
                _x(axis, room, dot.value), y, dot.label, dot.note
            )
        )
        if dot.other is not None:
            place = _x(axis, room, dot.other) - 4.5
            parts.append(Markup('<rect class="other" x="{:.1f}" y="{}" width="9" height="9"/>').format(place, y - 4.5))
        parts.append(Markup('<text class="soft" x="{}" y="{}">{}</text>').format(room + _PLOT + 14, y + 5, dot.note))
    return _figure(width, height, parts, caption)


def line_chart(title: str, points: Sequence[Point], *, percent: bool) -> Markup:
    """One value over rounds or training, with its first, last and extreme values written out."""
    width, height, left, right, top, bottom = 300, 150, 14, 286, 40, 118
    values = [p.value for p in points]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    places = [i if p.place is None else p.place for i, p in enumerate(points)]
    shown = [
        (
            left + (right - left) * (place / max(1, places[-1])),
            bottom - (bottom - top) * (v - low) / spread if high > low else 80,
        )
        for place, v in zip(places, values, strict=True)
    ]

    def said(value: float) -> str:
        return f"{100 * value:.0f} %" if percent else f"{value:.3g}"

    parts = [Markup('<text x="0" y="14">{}</text>').format(title), _line("grid", left, bottom + 6, right, bottom + 6)]
    parts.append(Markup('<polyline class="line" points="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)))
    marked = range(len(values)) if len(values) <= 8 else sorted({0, len(values) - 1})
    for i in marked:
        x, y = shown[i]
        anchor = "start" if i == 0 else "end" if i == len(values) - 1 else "middle"
        parts.append(Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x, y))
        parts.append(_text(x, y - 9, said(values[i]), anchor))
        parts.append(_text(x, height - 10, short(points[i].label, 16), anchor, "soft"))
    return _figure(
        width, height, parts, "", f"{title}: " + ", ".join(f"{points[i].label} {said(values[i])}" for i in marked)
    )


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


def _axis(axis: Axis, room: int, bottom: int) -> Markup:
    places = [(_x(axis, room, value), label, even) for value, label, even in axis.ticks]
    lines = [_line("even" if even else "grid", x, 2, x, bottom + 4) for x, _, even in places]
    ticks = [_text(x, bottom + 20, label, "middle", "soft") for x, label, _ in places]
    return Markup("").join([*lines, *ticks])


def _x(axis: Axis, room: int, value: float) -> float:
    return room + 10 + (_PLOT - 20) * axis.share(value)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _figure(width: int, height: int, parts: Sequence[Markup], caption: str, label: str = "") -> Markup:
    under = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup(
        '<figure><svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{l}">{p}</svg>{c}</figure>'
    ).format(w=width, h=height, l=label or caption, p=Markup("").join(parts), c=under)
