"""Results as plain text of at most 80 columns: one block for each comparison, small tables for the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from quipwright.core.format import UNKNOWN, counts, hundred, number, p_value, percent, plain, signed
from quipwright.core.results import Note, PairedDifference, PairwiseResult, Quality, Sample
from quipwright.core.statistics import AltTest
from quipwright.core.text import is_copy
from quipwright.critics.combine import UNREAD_REMEDY
from quipwright.evaluation.audit import AuditReport
from quipwright.evaluation.compare import CompareResult
from quipwright.evaluation.harm import HARM_NOTE, harm_line
from quipwright.evaluation.human.ratings import HumanRate
from quipwright.evaluation.pairwise import DEFINITIONS
from quipwright.evaluation.report.opening import advice as by_advice
from quipwright.evaluation.report.opening import at_random, opening
from quipwright.evaluation.verdict import main_result, verdict

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary

WIDTH = 80


def wrapped(text: str, indent: str = "") -> str:
    """``text`` in lines of at most :data:`WIDTH` columns; later lines are indented by two more."""
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """``rows`` under ``heads``; the first ``left`` columns are flush left, the others right. A column of which nothing is
    known is left out.

    Where a line would be longer than :data:`WIDTH`, cells of the first column lose their middle.
    """
    kept = [i for i in range(len(heads)) if i < left or any(row[i] != UNKNOWN for row in rows)]
    heads, rows = [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    room = WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(8, room))
    lines = []
    for cells in (heads, *rows):
        shown = [shortened(cells[0], widths[0]), *cells[1:]]
        parts = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(shown, widths, strict=True))]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def shortened(text: str, most: int) -> str:
    """``text`` with its middle left out where it is longer than ``most`` characters."""
    tail = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def pairwise_block(r: PairwiseResult, looks: Sequence[Quality] = ()) -> str:
    """Everything about one candidate against one baseline by one judge; ``looks``: of their outputs."""
    unread = f", {r.unparsed} could not be read" if r.unparsed else ""
    head = r.headline
    rules = "; ".join(f"{c.rule} {hundred(c.rate)}" for c in r.rules if c is not head)
    floor = f", noise floor {hundred(r.noise_floor)}" if r.noise_floor else ""
    lines = [
        wrapped(f"{r.candidate} against {r.baseline}, {r.n} inputs of {r.split}{unread}, judge {r.judge}"),
        f"  score              {hundred(r.score):<14} p {p_value(r.p_even)}, Holm {p_value(r.p_holm)}",
        f"  length-controlled  {hundred(r.length_controlled):<14} writes {number(r.length_ratio)} times as long",
        f"  win-tie rate       {hundred(head.rate):<14} win / tie / loss {counts(head)}{floor}",
        *([f"  corrected          {hundred(r.corrected)} by the judge's errors in the audit"] if r.corrected else []),
        *harm_line(r, looks),
        wrapped(f"other rules: {rules}", "  "),
    ]
    return "\n".join(lines)


def difference_block(d: PairedDifference) -> str:
    """One paired difference of mean scores."""
    gap = d.difference
    interval = "" if gap.low is None else f" [{signed(gap.low)}, {signed(gap.high)}]"
    return "\n".join(
        [
            wrapped(f"{d.candidate} minus {d.baseline}, both against {d.opponent}, judge {d.judge}"),
            f"  score {signed(gap.value)}{interval}, {d.n} inputs of {d.split}",
            f"  p {p_value(d.p)}, Holm {p_value(d.p_holm)}, McNemar {p_value(d.p_mcnemar)}",
        ]
    )


def quality_tables(rows: Sequence[Quality], grades: Sequence[str]) -> str:
    """What the outputs look like, in tables: copies and length, grades where there are any, variety and meaning."""
    first = [
        [
            q.system, q.split, str(q.n), percent(q.copy_rate), percent(q.stock_turns), percent(q.truncated),
            f"{q.words:.1f}", f"{q.length_ratio:.2f}",
        ]
        for q in rows
    ]  # fmt: skip
    graded = [[q.system, q.split, str(q.graded), *map(hundred, q.shares(len(grades)))] for q in rows if q.levels]
    second = [
        [q.system, q.split, *map(number, (q.repetition, q.distinct_2, q.self_bleu, q.meaning)), percent(q.harm.value)]
        for q in rows
    ]
    return "\n".join(
        [
            text_table(("system", "split", "n", "copies", "stock turns", "cut off", "words", "length"), first, left=2),
            "",
            *([text_table(("system", "split", "graded", *grades), graded, left=2), ""] if graded else []),
            text_table(("system", "split", "repeats", "distinct-2", "self-BLEU", "meaning", "harm"), second, left=2),
        ]
    )


def compare_lines(result: CompareResult) -> Iterator[str]:
    """Everything that ``compare`` found, the verdicts first, then block by block."""
    *candidates, baseline = result.systems
    for name in candidates:
        yield wrapped(verdict_line(result.pairwise, name, baseline)) + "\n"
    yield "Scores (50 is even) and win-tie rates, x 100 [95 %]\n"
    for r in result.pairwise:
        if not r.unfit:
            yield pairwise_block(r, result.quality) + "\n"
    if gaps := [d for d in result.differences if not d.unfit]:
        yield "Candidates with one another: paired differences of scores (0 to 1)\n"
        for d in gaps:
            yield difference_block(d) + "\n"
    yield "The outputs\n"
    yield quality_tables(result.quality, result.grades) + "\n"
    yield wrapped(HARM_NOTE)
    for rule, meaning in DEFINITIONS.items():
        yield wrapped(f"{rule}: {meaning}")
    yield from set_aside(result.pairwise)
    yield from notes(result.warnings)


def verdict_line(results: Sequence[PairwiseResult], candidate: str, baseline: str) -> str:
    """How ``candidate`` fared against ``baseline`` by the judge that the verdict rests on, or why there is none."""
    result = main_result(results, candidate, baseline)
    if result is not None:
        return verdict(result)
    return f"Whether {candidate} is better than {baseline} is open: no judge here can tell."


def set_aside(results: Iterable[PairwiseResult]) -> Iterator[str]:
    """The comparisons that are part of no verdict, with the reasons."""
    names: dict[str, list[str]] = {}
    for r in results:
        if r.unfit:
            names.setdefault(r.unfit, []).append(f"{r.candidate} against {r.baseline}")
    for why, met in names.items():
        yield wrapped(f"Set aside, part of no verdict ({', '.join(met)}): {why}")


def notes(warnings: Iterable[Note]) -> Iterator[str]:
    """What a reader must know, by what there is to do about it."""
    for title, texts in by_advice(warnings):
        yield f"{title}:"
        for text in texts:
            yield wrapped(f"- {text}", "  ")


def audit_lines(report: AuditReport) -> Iterator[str]:
    """An audit in words, one fact a line."""
    main = report.audits[report.main]
    who = report.labellers or "the labellers"
    yield wrapped(f"{report.critic}: {report.pairs} pairs, {main.judgments} judgments of {who} ({report.main})")
    both = main.agreement
    yield f"  agreement {hundred(both.mean)}"
    yield f"    a shown first {hundred(both.forward)}, b shown first {hundred(both.backward)}"
    for step in main.by_margin:
        yield f"    where the labels' margin is {step.margin:.0%}: {hundred(step.agreement)}, n = {step.agreement.n}"
    ceiling = main.ceiling
    yield f"  {who} among themselves: two agree {hundred(ceiling.pairwise)},"
    yield f"    one with the others {hundred(ceiling.leave_one_out)}, alpha {plain(main.alpha)}"
    if (test := report.alt_tests.get(report.main)) is not None:
        yield from alt_lines(test)
    yield f"  position: {hundred(main.position.changed)} change with the order,"
    yield f"    the first shown wins {hundred(main.position.first_rate)}"
    length = main.length
    yield f"  length: LB {hundred(length.paper.mean)}, not the shorter {hundred(length.not_shorter.mean)},"
    yield f"    of those where the label is the shorter {hundred(length.conditional.mean)}"
    yield f"  log-odds per extra word: critic {plain(main.critic_slope)}, labels {plain(main.people_slope)}"
    if main.calibration.floor is not None:
        yield f"  calibration error {plain(main.calibration.ece)} (chance alone gives {main.calibration.floor:.2f})"
        for b in main.calibration.bins:
            yield f"    {b.low:.1f}-{b.high:.1f} sure: says {b.confidence:.2f}, right {plain(b.accuracy)}, n = {b.accuracy.n}"
    if main.self_preference.rate.n:
        yield f"  own texts preferred {hundred(main.self_preference.rate)}, beyond the labels {plain(main.self_preference.excess)}"
    if main.unparsed:
        yield f"  unread: {main.unparsed} of {main.pairs} pairs"
    yield wrapped(cost_line(report), "  ")
    yield wrapped(decision_line(report), "  ")


def audit_table(reports: Sequence[AuditReport], columns: Mapping[str, str]) -> str:
    """The layout of Ravi et al. (2024) Table 1, x 100 with 95 % intervals; the labellers among themselves stand last.

    ``columns``: heads of the agreement columns with their questions.
    """
    asked = {head: q for head, q in columns.items() if any(q in r.audits for r in reports)}
    rows = []
    for report in reports:
        main = report.audits[report.main]
        agreed = [hundred(report.audits[q].agreement.mean) if q in report.audits else UNKNOWN for q in asked.values()]
        rows.append([report.critic, *agreed, hundred(main.position.changed), hundred(main.length.paper.mean)])
    if reports:
        people = [reports[0].audits.get(q) for q in asked.values()]
        ceilings = [hundred(audit.ceiling.pairwise) if audit else UNKNOWN for audit in people]
        rows.append([f"two of {reports[0].labellers or 'the labellers'}", *ceilings, "", ""])
    table = text_table(("critic", *asked, "PB", "LB"), rows)
    against = reports[0].labellers or "labels" if reports else "labels"
    return f"Critics against {against}, x 100 [95 %]\n\n{table}"


def alt_lines(test: AltTest) -> Iterator[str]:
    """Whether the critic may stand in for one of the people: the alternative-annotator test."""
    won = sum(one.p_adjusted <= test.alpha for one in test.annotators)
    said = "passes" if test.passed else "fails"
    yield f"  alt-test (epsilon {test.epsilon:g}): {said}, better than {won} of {len(test.annotators)} people;"
    yield f"    as good as one of them, or better, on {percent(test.advantage)} of their pairs"


def cost_line(report: AuditReport) -> str:
    """Time and, for a critic that asks a language model, what was asked and what it cost."""
    spent, took = report.spent, f"{report.seconds:.1f} s"
    if spent is None:
        return f"took {took}"
    if not spent.calls and not spent.charged:
        return f"took {took}; no call, every answer was kept from before"
    tokens = ", ".join(
        f"{'unknown' if n is None else n} tokens {way}"
        for n, way in ((spent.tokens_in, "in"), (spent.tokens_out, "out"))
    )
    return f"took {took}: {spent.calls} calls, {tokens}, cost {spent.money}"


def decision_line(report: AuditReport) -> str:
    """Go or no-go, with the reason."""
    floor, main = f"the floor of {100 * report.floor:.0f}", report.audits[report.main]
    if main.pairs and main.unparsed == main.pairs:
        return f"{report.decision.upper()}: {report.critic} could not be read on any of {main.pairs} pairs. {UNREAD_REMEDY}"
    why = {
        "go": f"the interval lies at or above {floor}",
        "no-go": f"the interval lies below {floor}",
        "unsure": f"the interval contains {floor}, or there is too little to tell: label more pairs",
    }[report.decision]
    return f"{report.decision.upper()}: agreement {hundred(report.agreement)}; {why}."


def rating_lines(results: Sequence[HumanRate], checks: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """What people said, a block for each pair of systems and question."""
    yield "What people said, x 100 [95 %]\n"
    for r in results:
        yield wrapped(f"{r.candidate} against {r.baseline}, {r.question}: {r.raters} raters, {r.pairs} pairs")
        yield f"  win-tie rate {hundred(r.rate):<14} win / tie / loss {counts(r)}, can't tell {r.cannot_tell}"
        yield f"  score        {hundred(r.score):<14} alpha {plain(r.alpha)}"
    for judge, (passed, asked) in checks.items():
        yield f"{judge} passed {passed} of {asked} attention checks"


def sample_block(sample: Sample, systems: Sequence[str]) -> str:
    """One input with the answers of ``systems``; copies of the input are marked."""
    answers = [
        wrapped(f"{name:<10} {'[copy] ' if is_copy(text, sample.literal) else ''}{text}", "  ")
        for name in systems
        if (text := sample.answers.get(name)) is not None
    ]
    return "\n".join([wrapped(sample.literal), *answers])


def run_lines(summary: RunSummary) -> Iterator[str]:
    """What a run found, for the end of the command: the verdict, some answers, who wins, how the outputs look, what to
    know."""
    first = opening(summary)
    yield "\n" + wrapped(" ".join(filter(None, (first.conclusion, first.rests_on, first.judged_by))))
    for sample in at_random(summary):
        yield "\n" + sample_block(sample, ("imitation", "feedback", "teacher"))
    yield "\nScores (50 is even), x 100 [95 %], with wins / ties / losses\n"
    for r in summary.pairwise:
        if r.unfit:
            continue
        yield wrapped(f"{r.candidate} against {r.baseline}, {r.n} inputs of {r.split}, judge {r.judge}")
        yield f"  {hundred(r.score):<14} {counts(r.headline)}, writes {number(r.length_ratio)} times as long"
        yield from harm_line(r, summary.quality)
    in_style = f"in style {summary.style}; " if summary.style else ""
    yield f"\nThe outputs ({in_style}grades are the critic's)\n"
    yield quality_tables(summary.quality, summary.task["grades"]) + "\n"
    yield wrapped(HARM_NOTE)
    for d in summary.differences:
        if not d.unfit:
            yield difference_block(d)
    yield from set_aside(summary.pairwise)
    yield from notes(summary.warnings)
    seconds = sum(stage.seconds for stage in summary.stages)
    yield f"{len(summary.stages)} stages, {seconds / 60:.1f} minutes."
