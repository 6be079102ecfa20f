"""The rule against copies: what it decides, in which order, without a call."""

from __future__ import annotations

from quipwright.core.records import Comparison, Judgment, Pair
from quipwright.critics.copy_filter import CopyFilter

PROMPT = "Plain: {literal}\nFunny:"
LITERAL = "I missed the last bus home and had to walk."
TEXTS = ("I walked home, the bus being a rumour by then.", "The bus left, and so did my mood.", "Bus gone.")


def compare(a: str, b: str, literal: str = LITERAL) -> Comparison:
    return Comparison(Pair(example_id="e", a_id=a[:20], b_id=b[:20], selector="test"), literal, a, b)


class _Recorder:
    """A critic that always says A and remembers what it was asked."""

    name, positional = "recorder", False

    def __init__(self) -> None:
        self.asked: list[Comparison] = []

    def judge(self, comparisons: list[Comparison]) -> list[Judgment]:
        self.asked += comparisons
        return [Judgment(pair_id=c.pair.id, judge=self.name, p_a=0.9, verdict="A") for c in comparisons]


def test_copies_and_broken_texts_lose_without_a_call() -> None:
    inner = _Recorder()
    attempt, near = TEXTS[0], "I missed the last bus home and had to run."
    judged = CopyFilter(inner).judge(
        [
            compare(LITERAL, attempt),
            compare(attempt, LITERAL),
            compare(near, attempt),
            compare("", attempt),
            compare(attempt, "ha ha ha ha ha ha ha ha"),
            compare(LITERAL, near),
            compare(TEXTS[0], TEXTS[1]),
        ]
    )
    assert [j.verdict for j in judged] == ["B", "A", "B", "B", "A", "tie", "A"]
    assert [j.judge for j in judged][:5] == [
        "rule:copy",
        "rule:copy",
        "rule:copy",
        "rule:degenerate",
        "rule:degenerate",
    ]
    assert len(inner.asked) == 1


def test_the_rule_holds_in_both_orders() -> None:
    for a, b in ((LITERAL, TEXTS[0]), ("", TEXTS[1]), (LITERAL, "")):
        there, back = CopyFilter(_Recorder()).judge([compare(a, b), compare(b, a)])
        assert there.p_a == 1 - back.p_a
