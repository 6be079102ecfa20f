"""What stands beside a run's summary in its folder (people's votes, critics' audits), and how its tables are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quipwright.core.results import Figure
from quipwright.core.statistics import Audit
from quipwright.evaluation.audit import AuditReport, read_audits
from quipwright.evaluation.human.kept import kept
from quipwright.evaluation.human.ratings import HumanRate, Ratings


@dataclass(frozen=True)
class Evidence:
    """``people``: their votes; ``checks``: attention checks passed and asked, by judge; ``audits`` of critics."""

    people: Sequence[HumanRate] = ()
    checks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    audits: Sequence[AuditReport] = ()


@dataclass(frozen=True)
class People:
    """One student's row in the layout of Ravi et al. (2024) Table 6: votes by question, in the questions' order."""

    run: str
    candidate: str
    baseline: str
    by_question: dict[str, HumanRate]

    @property
    def raters(self) -> int:
        """How many people answered any of the questions."""
        return max(rate.raters for rate in self.by_question.values())


@dataclass(frozen=True)
class Fact:
    """One line of an audit: a figure by question, a share unless ``plain``."""

    name: str
    by_question: dict[str, Figure]
    plain: bool = False


def read_evidence(run: Path) -> Evidence:
    """What ``ratings`` and ``audit.json`` in the folder ``run`` hold. Raises as
    :func:`~quipwright.evaluation.audit.read_audits` and :meth:`Ratings.read`."""
    audit = run / "audit.json"
    audits = read_audits(audit) if audit.exists() else []
    if not Ratings.held(run / "ratings"):
        return Evidence(audits=audits)
    ratings = Ratings.read(run / "ratings")
    return Evidence(kept(ratings).results(), ratings.checks(), audits)


def students(people: Sequence[tuple[str, HumanRate]]) -> tuple[list[str], list[People]]:
    """The questions asked and a row for each student and opponent, of votes with the name of their run."""
    asked = list(dict.fromkeys(rate.question for _, rate in people))
    rows: dict[tuple[str, str, str], People] = {}
    for question in asked:
        for run, rate in people:
            if rate.question == question:
                key = (run, rate.candidate, rate.baseline)
                rows.setdefault(key, People(*key, {})).by_question[question] = rate
    return asked, list(rows.values())


def facts(report: AuditReport) -> list[Fact]:
    """Everything an audit measured that the table of critics has no room for."""
    found: dict[str, Fact] = {}
    for question, audit in report.audits.items():
        for name, estimate, plain in _measured(audit):
            found.setdefault(name, Fact(name, {}, plain)).by_question[question] = estimate
    return list(found.values())


def _measured(audit: Audit) -> list[tuple[str, Figure, bool]]:
    shares = [
        ("agreement, a shown first", audit.agreement.forward),
        ("agreement, b shown first", audit.agreement.backward),
        *((f"agreement where the labels' margin is {m.margin:.0%}", m.agreement) for m in audit.by_margin),
        ("one labeller agrees with the others", audit.ceiling.leave_one_out),
        ("the text shown first wins", audit.position.first_rate),
        ("the label is the shorter, the critic's is not", audit.length.not_shorter.mean),
        ("LB where the label is the shorter", audit.length.conditional.mean),
        ("its own texts preferred", audit.self_preference.rate),
        ("calibration error (ECE)", audit.calibration.ece),
    ]
    numbers = [
        ("the labellers' alpha", audit.alpha),
        ("log-odds per extra word, critic", audit.critic_slope),
        ("log-odds per extra word, labels", audit.people_slope),
        ("its own texts preferred beyond the labels", audit.self_preference.excess),
    ]
    lines = [
        *((name, Figure.of(found), False) for name, found in shares),
        (
            "calibration error that chance alone gives",
            Figure(value=audit.calibration.floor, low=None, high=None),
            False,
        ),
        *((name, Figure.of(found), True) for name, found in numbers),
    ]
    return [line for line in lines if line[1].value is not None]
