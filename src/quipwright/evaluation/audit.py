"""A critic against labels of people or of a model: agreement, biases, calibration, and whether it may stand in for a
person, question by question."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from quipwright.core.errors import RunError
from quipwright.core.progress import bar
from quipwright.core.records import Comparison, Judgment, content_hash
from quipwright.core.statistics import AltTest, Audit, Choice, Counts, Estimate, JudgedPair, alt_test, audit
from quipwright.core.statistics.alt_test import ANNOTATORS
from quipwright.core.storage.files import damaged, read_json
from quipwright.core.text import word_count
from quipwright.critics.base import Critic
from quipwright.critics.combine import by_pair
from quipwright.data.task import OVERALL, Task
from quipwright.evaluation.human.labelled_pair import LabelledPair, Labellers
from quipwright.evaluation.human.labels import asked
from quipwright.llm.call_store import CallStore
from quipwright.llm.costs import Spent

Decision = Literal["go", "unsure", "no-go"]
ITEMS = 50
"""Pairs that a person must have labelled to take part in the alternative-annotator test."""
_PART = 64  # pairs in one call of the critic: the bar moves, and memory stays flat
_CHOICE: dict[str, Choice | None] = {"A": "A", "B": "B", "tie": "tie", "unparsed": None}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit measured of one critic, by question. The decision rests on the question ``main``.

    ``decision`` is ``go`` where the whole 95 % interval of the agreement lies at or above ``floor``, ``no-go`` where it
    lies below, and ``unsure`` where these labels cannot tell. ``seconds`` is the time of judging. ``spent`` is the cost
    of the calls, ``None`` where the critic asks no language model. ``labellers``: whose the labels are. ``alt_tests``: may
    the critic replace a person, for each question that three or more people answered on ``ITEMS`` pairs each. ``errors``:
    the critic's hits among the pairs that the majority gave to the first text, and to the second; a tie is half a hit.
    """

    critic: str
    pairs: int
    audits: dict[str, Audit]
    main: str
    floor: float
    seconds: float = 0.0
    spent: Spent | None = None
    labellers: Labellers = ""
    alt_tests: dict[str, AltTest] = field(default_factory=dict)
    errors: dict[str, tuple[Counts, Counts]] = field(default_factory=dict)

    @property
    def agreement(self) -> Estimate:
        """Agreement on the main question, mean of both presentation orders."""
        return self.audits[self.main].agreement.mean

    @property
    def decision(self) -> Decision:
        """See the class."""
        agreed = self.agreement
        if agreed.value is None or agreed.low is None or agreed.high is None:
            return "unsure"
        return "go" if agreed.low >= self.floor else "no-go" if agreed.high < self.floor else "unsure"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data, with a ``hash`` of it all."""
        audits = {question: asdict(measured) for question, measured in self.audits.items()}
        fields = {
            "critic": self.critic, "pairs": self.pairs, "main": self.main, "floor": self.floor,
            "decision": self.decision, "audits": audits, "seconds": self.seconds,
            "spent": self.spent.model_dump(mode="json") if self.spent else None,
            "labellers": self.labellers, "alt_tests": {q: asdict(test) for q, test in self.alt_tests.items()},
            "errors": {q: [list(counts) for counts in both] for q, both in self.errors.items()},
        }  # fmt: skip
        return {**fields, "hash": content_hash(fields)}


def read_audits(path: Path) -> list[AuditReport]:
    """The reports in the file that ``quipwright audit --json`` wrote. Raises :class:`DamagedError` for a file that was
    changed and :class:`RunError` for one of another version."""
    remedy = "Make it anew: quipwright audit … --json."
    content = read_json(path, remedy)
    try:
        hashes = [report.pop("hash", None) for report in content]
        reports = TypeAdapter(list[AuditReport]).validate_python(content)
    except (AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise RunError(f"{path} is no audit of this version: {reason}.", remedy) from None
    if hashes != [content_hash(report) for report in content]:
        raise damaged(path, ValueError("its hash is not that of its content"), remedy)
    return reports


def agreement_columns(task: Task) -> dict[str, str]:
    """The heads of the agreement columns of Ravi et al. (2024) Table 1 with their questions.

    A question is shortened to its first letter, so that *consistency* is ``Ag-C``; *overall* is ``Ag``.
    """
    initials = Counter(name[0] for name in task.questions)
    short = {name: name[0].upper() if initials[name[0]] == 1 else name for name in task.questions}
    return {"Ag" if name == OVERALL else f"Ag-{short[name]}": name for name in task.questions}


def audit_critic(
    critic: Critic,
    pairs: Sequence[LabelledPair],
    floor: float = 0.6,
    store: CallStore | None = None,
    questions: Sequence[str] = (),
) -> AuditReport:
    """Let ``critic`` judge ``pairs`` in both orders and compare with people, question by question.

    ``questions`` are the task's, in its order. ``store`` keeps the calls of a critic that asks a language model.
    """
    before, started = replace(store.ledger) if store else None, time.monotonic()
    if store:
        store.stage = lambda: f"audit {critic.name}"
    judgments = judge_all(critic, [pair.comparison() for pair in pairs])
    seconds = round(time.monotonic() - started, 3)
    spent = store.ledger.since(before, f"audit {critic.name}") if store and before else None
    answered = asked(pairs, questions) or [OVERALL]
    each = {q: judged(pairs, judgments, critic.name, q) for q in answered}
    audits = {q: audit(sides) for q, sides in each.items()}
    main = OVERALL if OVERALL in answered else answered[0]
    tests = {q: test for q, sides in each.items() if (test := may_replace(sides, pairs, q)) is not None}
    errors = {q: hits(sides) for q, sides in each.items()}
    return AuditReport(critic.name, len(pairs), audits, main, floor, seconds, spent, labellers(pairs), tests, errors)


def labellers(pairs: Sequence[LabelledPair]) -> Labellers:
    """Whose the labels of ``pairs`` are, where they are all of one kind."""
    kinds = {pair.labelled_by for pair in pairs}
    return kinds.pop() if len(kinds) == 1 else ""


def may_replace(sides: Sequence[JudgedPair], pairs: Sequence[LabelledPair], question: str) -> AltTest | None:
    """The alternative-annotator test over the annotators that have names; ``None`` for a model's labels, or with fewer than
    three people who labelled ``ITEMS`` pairs. Numbers that stand for unnamed votes are no person's name."""
    votes = [pair.votes.get(question, {}) for pair in pairs]
    counts = Counter(name for own in votes for name in own if not name.isdigit())
    names = [name for name, count in counts.items() if count >= ITEMS]
    if len(names) < ANNOTATORS or labellers(pairs) == "a model":
        return None
    test = alt_test([s.verdict for s in sides], [[own.get(n) for n in names] for own in votes], min_items=ITEMS)
    return test if test.winning_rate is not None else None


def hits(sides: Sequence[JudgedPair]) -> tuple[Counts, Counts]:
    """The critic's hits on pairs whose majority took A, and on those whose majority took B, both showings averaged."""
    credit: dict[Choice, list[float]] = {"A": [0.0, 0], "B": [0.0, 0]}
    for pair in sides:
        votes = Counter(pair.votes)
        if not pair.parsed or votes["A"] == votes["B"]:
            continue
        winner: Choice = "A" if votes["A"] > votes["B"] else "B"
        if votes["tie"] >= votes[winner]:
            continue
        shown = (pair.first, pair.second)
        credit[winner][0] += sum(1.0 if choice == winner else 0.5 if choice == "tie" else 0.0 for choice in shown) / 2
        credit[winner][1] += 1
    return Counts(credit["A"][0], int(credit["A"][1])), Counts(credit["B"][0], int(credit["B"][1]))


def judge_all(critic: Critic, comparisons: Sequence[Comparison]) -> list[list[Judgment]]:
    """The critic's judgments of each comparison, in order."""
    judgments: list[Judgment] = []
    with bar(f"judge {critic.name}"[:22], len(comparisons), "pairs") as step:
        for start in range(0, len(comparisons), _PART):
            part = comparisons[start : start + _PART]
            judgments += critic.judge(part)
            step(len(part))
    grouped = by_pair(judgments)
    return [grouped.get(c.pair.id, []) for c in comparisons]


def judged(
    pairs: Sequence[LabelledPair], judgments: Sequence[Sequence[Judgment]], name: str, question: str
) -> list[JudgedPair]:
    """Critic and people side by side for one question; pairs that nobody was asked about keep their critic's choices.

    A judge that is shown no order answers once, and that answer stands for both orders.
    """
    result = []
    for pair, answers in zip(pairs, judgments, strict=True):
        by_order = {judgment.shown: judgment for judgment in answers}
        first = by_order.get("ab") or by_order.get("ba")
        second = (by_order.get("ba") if len(by_order) == 2 else first) or first
        result.append(
            JudgedPair(
                first=_CHOICE[first.verdict] if first else None,
                second=_CHOICE[second.verdict] if second else None,
                people=tuple(pair.votes.get(question, {}).values()),
                length_a=word_count(pair.a),
                length_b=word_count(pair.b),
                p_first=first.p_a if first else None,
                p_second=second.p_a if second else None,
                own=_written_by(pair, name),
            )
        )
    return result


def _written_by(pair: LabelledPair, critic: str) -> Literal["A", "B"] | None:
    """Which text the critic's own model wrote: names match behind the first colon (teacher:M, multiple_choice-sampled:M); M may
    have colons of its own (qwen3:8b)."""
    model = critic.partition(":")[2]
    wrote = [bool(model) and author.partition(":")[2] == model for author in (pair.author_a, pair.author_b)]
    return None if wrote[0] == wrote[1] else "A" if wrote[0] else "B"
