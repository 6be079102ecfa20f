"""A critic against people: its passport, and the layout of Ravi et al. (2024) Table 1 for several critics at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rich.table import Table

from quipwright.core.progress import bar
from quipwright.core.records import Comparison, Judgment
from quipwright.core.statistics import Audit, BothShowings, Choice, Estimate, JudgedPair, audit
from quipwright.core.text import word_count
from quipwright.critics.base import Critic
from quipwright.evaluation.human.labels import LabelledPair, asked
from quipwright.llm.call_store import CallStore
from quipwright.llm.costs import Spent

Decision = Literal["go", "unsure", "no-go"]
_PART = 64  # pairs a call of the critic: a bar moves, and memory stays flat
_CHOICE: dict[str, Choice | None] = {"A": "A", "B": "B", "tie": "tie", "unparsed": None}


@dataclass(frozen=True, slots=True)
class Passport:
    """What an audit found of one critic, by question. ``main`` is the question that the decision rests on.

    ``decision`` is ``go`` where the whole 95 % interval of the agreement lies at or above ``floor``, ``no-go`` where it
    lies below, and ``unsure`` where these labels cannot tell. ``seconds`` of judging; ``spent`` on calls made for it,
    ``None`` where the critic asks no language model.
    """

    critic: str
    pairs: int
    audits: dict[str, Audit]
    main: str
    floor: float
    seconds: float = 0.0
    spent: Spent | None = None

    @property
    def agreement(self) -> Estimate:
        """Agreement on the main question, mean of both showings."""
        return self.audits[self.main].agreement.mean

    @property
    def decision(self) -> Decision:
        """See the class."""
        found = self.agreement
        if found.value is None or found.low is None or found.high is None:
            return "unsure"
        return "go" if found.low >= self.floor else "no-go" if found.high < self.floor else "unsure"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        audits = {question: asdict(found) for question, found in self.audits.items()}
        return {
            "critic": self.critic, "pairs": self.pairs, "main": self.main, "floor": self.floor,
            "decision": self.decision, "audits": audits, "seconds": self.seconds,
            "spent": self.spent.model_dump(mode="json") if self.spent else None,
        }  # fmt: skip


def audit_critic(
    critic: Critic, pairs: Sequence[LabelledPair], floor: float = 0.6, store: CallStore | None = None
) -> Passport:
    """Let ``critic`` judge ``pairs`` both ways round and compare with people, question by question.

    ``store``: of the calls, where it asks a language model.
    """
    before, started = replace(store.ledger) if store else None, time.monotonic()
    if store:
        store.stage = lambda: f"audit {critic.name}"
    judgments = judge_all(critic, [pair.comparison() for pair in pairs])
    seconds = round(time.monotonic() - started, 3)
    spent = store.ledger.since(before, f"audit {critic.name}") if store and before else None
    questions = asked(pairs)
    audits = {q: audit(judged(pairs, judgments, critic.name, q)) for q in questions}
    main = next((q for q in ("overall", "humour") if q in questions), questions[0] if questions else "overall")
    if not questions:
        audits = {main: audit(judged(pairs, judgments, critic.name, main))}
    return Passport(critic.name, len(pairs), audits, main, floor, seconds, spent)


def judge_all(critic: Critic, comparisons: Sequence[Comparison]) -> list[list[Judgment]]:
    """The critic's judgments of each comparison, in order."""
    by_pair: dict[str, list[Judgment]] = {}
    with bar(f"judge {critic.name}"[:22], len(comparisons), "pairs") as step:
        for start in range(0, len(comparisons), _PART):
            part = comparisons[start : start + _PART]
            for judgment in critic.judge(part):
                by_pair.setdefault(judgment.pair_id, []).append(judgment)
            step(len(part))
    return [by_pair.get(c.pair.id, []) for c in comparisons]


def judged(
    pairs: Sequence[LabelledPair], judgments: Sequence[Sequence[Judgment]], name: str, question: str
) -> list[JudgedPair]:
    """Critic and people side by side for one question; pairs that nobody was asked about keep their critic's choices.

    A judge that is shown no order answers once, and that answer stands for both showings.
    """
    result = []
    for pair, own in zip(pairs, judgments, strict=True):
        shown = {judgment.shown: judgment for judgment in own}
        first = shown.get("ab") or shown.get("ba")
        second = (shown.get("ba") if len(shown) == 2 else first) or first
        result.append(
            JudgedPair(
                first=_CHOICE[first.verdict] if first else None,
                second=_CHOICE[second.verdict] if second else None,
                people=tuple(pair.votes.get(question, {}).values()),
                length_a=word_count(pair.a),
                length_b=word_count(pair.b),
                p_first=first.p_a if first else None,
                p_second=second.p_a if second else None,
                own=_own(pair, name),
            )
        )
    return result


def _own(pair: LabelledPair, critic: str) -> Literal["A", "B"] | None:
    """Which text the critic's own model wrote: names match behind the first colon (teacher:M, multiple_choice-sampled:M); M may
    have colons of its own (qwen3:8b)."""
    model = critic.partition(":")[2]
    wrote = [bool(model) and author.partition(":")[2] == model for author in (pair.author_a, pair.author_b)]
    return None if wrote[0] == wrote[1] else "A" if wrote[0] else "B"


# --- printed ---------------------------------------------------------------------------------------------------------


def table(passports: Sequence[Passport]) -> Table:
    """The paper's Table 1 (x 100, 95 % interval): a row a critic, and the people among themselves as the last one."""
    result = Table(title="Critics against people, x 100 [95 %]", title_justify="left")
    heads = ("critic", "Ag-H", "Ag-C", "Ag", "PB", "LB", "LB if shorter", "ECE", "unread", "")
    for head in heads:
        result.add_column(head, justify="left" if head in ("critic", "") else "right")
    for passport in passports:
        main = passport.audits[passport.main]
        columns = [_both(passport, q) for q in ("humour", "consistency", "overall")]
        result.add_row(
            passport.critic, *columns, hundred(main.position.changed), hundred(main.length.paper.mean),
            hundred(main.length.conditional.mean), hundred(main.calibration.ece), str(main.unparsed), passport.decision,
        )  # fmt: skip
    if passports:
        people = [passports[0].audits.get(q) for q in ("humour", "consistency", "overall")]
        ceilings = [hundred(found.ceiling.pairwise) if found else "–" for found in people]
        result.add_row("people (two of them)", *ceilings, "", "", "", "", "", "ceiling")
    return result


def lines(passport: Passport) -> Iterator[str]:
    """The passport of one critic in words, one fact a line."""
    main = passport.audits[passport.main]
    yield f"{passport.critic}: {passport.pairs} pairs, {main.judgments} human judgments ({passport.main})"
    both = main.agreement
    yield (
        f"  agreement {hundred(both.mean)} (a shown first {hundred(both.forward)}, b shown first {hundred(both.backward)})"
    )
    for found in main.by_margin:
        yield f"    where people's margin is {found.margin:.0%}: {hundred(found.agreement)}, n = {found.agreement.n}"
    yield (
        f"  people: two agree {hundred(main.ceiling.pairwise)}, one with the others {hundred(main.ceiling.leave_one_out)},"
        f" alpha {plain(main.alpha)}"
    )
    position = main.position
    yield f"  position: {hundred(position.changed)} change with the order, the first shown wins {hundred(position.first_rate)}"
    yield (
        f"  length: LB {hundred(main.length.paper.mean)}, not the shorter {hundred(main.length.not_shorter.mean)},"
        f" of those where people took the shorter {hundred(main.length.conditional.mean)}"
    )
    yield f"  log-odds per extra word: critic {plain(main.critic_slope)}, people {plain(main.people_slope)}"
    if main.calibration.floor is not None:
        yield f"  calibration error {plain(main.calibration.ece)} (chance alone gives {main.calibration.floor:.2f})"
        for b in main.calibration.bins:
            yield f"    {b.low:.1f}-{b.high:.1f} sure: says {b.confidence:.2f}, right {plain(b.accuracy)}, n = {b.accuracy.n}"
    if main.self_preference.rate.n:
        yield f"  own texts preferred {hundred(main.self_preference.rate)}, beyond people {plain(main.self_preference.excess)}"
    if main.unparsed:
        yield f"  unread: {main.unparsed} of {main.pairs} pairs"
    yield f"  {cost_line(passport)}"
    yield f"  {decision_line(passport)}"


def cost_line(passport: Passport) -> str:
    """Time and, for a critic that asks a language model, what was asked and what it cost."""
    spent, took = passport.spent, f"{passport.seconds:.1f} s"
    if spent is None:
        return f"took {took}"
    if not spent.calls and not spent.charged:
        return f"took {took}; no call, every answer was kept from before"
    tokens = ", ".join(
        f"{'unknown' if n is None else n} tokens {way}"
        for n, way in ((spent.tokens_in, "in"), (spent.tokens_out, "out"))
    )
    return f"took {took}: {spent.calls} calls, {tokens}, cost {spent.money}"


def decision_line(passport: Passport) -> str:
    """Go or no-go, with the reason."""
    found, floor = passport.agreement, f"the floor of {100 * passport.floor:.0f}"
    why = {
        "go": f"the interval lies at or above {floor}",
        "no-go": f"the interval lies below {floor}",
        "unsure": f"the interval contains {floor}, or there is too little to tell: label more pairs",
    }[passport.decision]
    return f"{passport.decision.upper()}: agreement {hundred(found)}; {why}."


def hundred(estimate: Estimate) -> str:
    """``62 [55, 69]``: an estimate times 100 with its interval; an unknown value is a dash."""
    if estimate.value is None:
        return "–"
    interval = "" if estimate.low is None else f" [{100 * estimate.low:.0f}, {100 * (estimate.high or 0):.0f}]"
    return f"{100 * estimate.value:.0f}{interval}"


def plain(estimate: Estimate) -> str:
    """As :func:`hundred`, in the estimate's own unit."""
    if estimate.value is None:
        return "–"
    interval = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high or 0:.2f}]"
    return f"{estimate.value:.2f}{interval}"


def _both(passport: Passport, question: str) -> str:
    found: BothShowings | None = passport.audits[question].agreement if question in passport.audits else None
    return hundred(found.mean) if found and found.mean.n else "–"
