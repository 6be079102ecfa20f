"""Win rates as people would give them, where an audit measured the judge's errors against people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quipwright.core.results import Figure, PairwiseResult
from quipwright.core.statistics import Counts, corrected_rate
from quipwright.evaluation.audit import AuditReport

RULE = "verdict"
"""The rule whose wins, and half of whose ties, are corrected: errors were measured on verdicts, too."""


def with_corrections(results: Iterable[PairwiseResult], audits: Sequence[AuditReport]) -> list[PairwiseResult]:
    """``results`` with ``corrected`` filled in, where the judge is one whose errors ``audits`` measured against people."""
    by_judge = {a.critic: a.errors[a.main] for a in audits if a.labellers != "a model" and a.main in a.errors}
    return [_corrected(r, by_judge[r.judge]) if r.judge in by_judge else r for r in results]


def _corrected(r: PairwiseResult, errors: tuple[Counts, Counts]) -> PairwiseResult:
    rule = r.under(RULE)
    rate = corrected_rate(Counts(rule.wins + rule.ties / 2, r.n), *errors).corrected
    return r if rate.value is None else r.model_copy(update={"corrected": Figure.of(rate)})
