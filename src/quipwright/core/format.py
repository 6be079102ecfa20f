"""Numbers for readers: one way to write a percentage, an interval, a p-value; what is unknown is a dash."""

from __future__ import annotations

from typing import Any, Protocol

UNKNOWN = "–"


class HasInterval(Protocol):
    """A :class:`~quipwright.core.results.Figure` or an estimate of the statistics: a value with its 95 % interval."""

    @property
    def value(self) -> float | None:
        """``None`` is unknown."""

    @property
    def low(self) -> float | None:
        """The lower end."""

    @property
    def high(self) -> float | None:
        """The upper end."""


def percent(value: float | None, digits: int = 0) -> str:
    """0.614 -> ``61 %``."""
    return UNKNOWN if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 2) -> str:
    """0.614 -> ``0.61``."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """0.0614 -> ``+0.061``; what rounds to zero has no sign of its own."""
    return UNKNOWN if value is None else f"{round(value, digits) + 0.0:+.{digits}f}"


def p_value(p: float | None) -> str:
    """0.0123 -> ``0.012``; a test never shows a probability of zero, so 0.0004 -> ``< 0.001``."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent_range(low: float | None, high: float | None, digits: int = 0) -> str:
    """0.55, 0.69 -> ``55 – 69 %``."""
    return UNKNOWN if low is None or high is None else f"{100 * low:.{digits}f} – {percent(high, digits)}"


def number_range(low: float | None, high: float | None, digits: int = 2) -> str:
    """0.55, 0.69 -> ``0.55 to 0.69``."""
    return UNKNOWN if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def signed_range(low: float | None, high: float | None, digits: int = 3) -> str:
    """-0.01, 0.2 -> ``-0.010 to +0.200``."""
    return UNKNOWN if low is None or high is None else f"{signed(low, digits)} to {signed(high, digits)}"


def hundred(figure: HasInterval) -> str:
    """A share times 100 with its interval: ``62 [55, 69]``, as in tables of papers."""
    if figure.value is None:
        return UNKNOWN
    if figure.low is None or figure.high is None:
        return f"{100 * figure.value:.0f}"
    return f"{100 * figure.value:.0f} [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"


def plain(figure: HasInterval) -> str:
    """A number in its own unit with its interval: ``0.62 [0.55, 0.69]``."""
    if figure.value is None:
        return UNKNOWN
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def counts(rule: Any) -> str:
    """Wins, ties and losses: ``12 / 3 / 5``; under the rule "per order" they may be halves."""
    return f"{rule.wins:g} / {rule.ties:g} / {rule.losses:g}"
