"""What the page shows and in which order: selections and sentences over a summary. No number is computed anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from quipwright.evaluation.report.figures import Dot, Point, around_zero, bars, dot_plot, line_chart

if TYPE_CHECKING:
    from quipwright.core.records import WinRate
    from quipwright.evaluation.experiment_table import Result
    from quipwright.evaluation.pairwise import Duel
    from quipwright.evaluation.quality import Difference
    from quipwright.llm.costs import Spent
    from quipwright.pipeline.evaluate import Sample
    from quipwright.pipeline.summary import Summary

HEAD = ("imitation", "feedback", "teacher")
EACH = 8  # examples a group
FEW = 20  # inputs: on fewer a bootstrap interval promises more than it can keep
BUDGET = 1_200_000  # bytes of all examples: the page stays under 2 MB
CURVE = 300  # points of a loss curve


@dataclass(frozen=True)
class Group:
    """Examples under one heading."""

    title: str
    samples: list[Sample]


def story(s: Summary) -> str:
    """What was done, in one paragraph with numbers."""
    recipe, data = s.recipe, s.counts
    literals: dict[str, int] = data.get("literals") or {}
    sentences = []
    weights = (recipe.get("student") or {}).get("weights", "the student")
    if literals:
        taught = f" and {data['teacher']} paraphrases of the teacher" if data.get("teacher") else ""
        sentences.append(
            f"The student ({weights}) imitated the teacher on {literals.get('train', 0)} literals{taught}."
        )
    else:
        sentences.append(f"The student ({weights}) imitated the teacher.")
    if rounds := recipe.get("rounds"):
        ranked = data.get("rankings") or []
        kind = ((recipe.get("learn") or {}).get("objective") or {}).get("kind", "its objective")
        counted = ", then ".join(str(n) for n in ranked) or "no"
        sentences.append(
            f"In {rounds} round{'s' if rounds > 1 else ''} of feedback, {s.critic.get('name')} ordered {counted} pairs of its own "
            f"attempts, from which it learnt by {str(kind).upper()}."
        )
    for name in ("feedback", "imitation"):
        rate = next((w for w in s.win_rates if (w.candidate, w.baseline) == (name, "teacher")), None)
        if rate:
            sentences.append(
                f"Against the teacher, {name} wins or ties {100 * rate.rate:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f}) "
                f"of {rate.n} inputs of {rate.split}."
            )
    return " ".join([*sentences, *_helped(s)])


def _helped(s: Summary) -> list[str]:
    gain = next((d for d in s.differences if d.candidate == "feedback"), None)
    if gain is None or gain.mean is None or gain.low is None or gain.high is None:
        return []
    if gain.n < FEW:
        return [f"With {gain.n} inputs nothing can be said about whether feedback helped."]
    helped = (
        "Feedback helped" if gain.low > 0 else "Feedback hurt" if gain.high < 0 else "Whether feedback helped is open"
    )
    return [
        f"{helped}: its mean score against {gain.opponent} differs from imitation's by {gain.mean:+.3f} "
        f"({gain.low:+.3f} to {gain.high:+.3f})."
    ]


def rate_plot(s: Summary) -> Markup:
    """All win-tie rates with Wilson intervals."""
    several = len({w.split for w in s.win_rates}) > 1
    dots = [
        Dot(
            f"{w.candidate} vs {w.baseline}" + (f" ({w.split})" if several else "") + by(s, w),
            w.rate,
            w.low,
            w.high,
            f"{100 * w.rate:.0f} %, n {w.n}",
        )
        for w in s.win_rates
    ]
    return dot_plot(dots, "Win-tie rate with Wilson 95 % interval; the dashed line is one half.")


def by(s: Summary, rate: WinRate) -> str:
    """Whose ``rate`` it is, where a run has several judges."""
    return f" by {rate.judge}" if len({w.judge for w in s.win_rates}) > 1 else ""


def variants_plot(result: Result) -> Markup:
    """Every variant's win-tie rate, with the paper's where it has one."""
    dots = [
        Dot(
            r.variant,
            r.rate,
            r.low,
            r.high,
            f"{100 * r.rate:.0f} %, n {r.n}",
            None if r.paper is None else r.paper / 100,
        )
        for r in result.rows
        if r.rate is not None
    ]
    paper = " Hollow squares are the paper's figures." if any(dot.other is not None for dot in dots) else ""
    return dot_plot(
        dots,
        f"Win-tie rate against {result.opponent}, mean over seeds, with the 95 % bootstrap interval over inputs.{paper}",
    )


def wtr(result: Result) -> str:
    """What the rates of an experiment's table are."""
    from quipwright.evaluation.experiment_table import WTR

    return WTR.format(result.opponent)


def differences_plot(result: Result) -> Markup:
    """Every variant's difference to the baseline."""
    dots = [
        Dot(r.variant, r.difference, r.difference_low, r.difference_high, f"{r.difference:+.3f}")
        for r in result.rows
        if r.difference is not None
    ]
    reach = [x for dot in dots for x in (dot.value, dot.low, dot.high) if x is not None]
    caption = (
        f"Mean score minus {result.baseline}'s on the same inputs, paired-bootstrap 95 %; right of the line is better."
    )
    return dot_plot(dots, caption, around_zero(reach))


def tested(s: Summary) -> list[tuple[Difference, Duel | None]]:
    """Every paired difference with its tests, where the summary holds them."""
    duels = {(d.candidate, d.other, d.baseline, d.judge, d.split): d for d in s.duels}
    judge = s.critic.get("name", "")
    return [(d, duels.get((d.candidate, d.baseline, d.opponent, d.judge or judge, d.split))) for d in s.differences]


def over_rounds(s: Summary) -> list[Markup]:
    """Length, copies and win rate from imitation through every round, on the first split."""
    order = [n for n in s.checkpoints if n in {q.system for q in s.quality}]
    split = s.quality[0].split if s.quality else ""
    looks = {q.system: q for q in s.quality if q.split == split}
    first = s.win_rates[0].judge if s.win_rates else ""  # the critic's; other judges stand in the table
    wanted = (split, "teacher", first)
    rates = {w.candidate: w for w in s.win_rates if (w.split, w.baseline, w.judge) == wanted}
    if len(order) < 2:
        return []
    charts = [
        line_chart(
            "Words per literal word", [Point(n, looks[n].length_ratio) for n in order if n in looks], percent=False
        ),
        line_chart("Copies of the literal", [Point(n, looks[n].copy_rate) for n in order if n in looks], percent=True),
    ]
    if all(n in rates for n in order):
        charts.append(
            line_chart("Win-tie rate against the teacher", [Point(n, rates[n].rate) for n in order], percent=True)
        )
    return charts


def training(s: Summary) -> list[Markup]:
    """Loss of every training; of a long one some steps, the lowest and the highest among them."""
    charts = []
    for name, facts in s.training.items():
        losses = [v for v in facts.get("losses", ()) if isinstance(v, int | float)]
        if len(losses) > 1:
            points = [Point("first step" if i == 0 else f"step {i + 1}", float(losses[i]), i) for i in _spread(losses)]
            charts.append(line_chart(f"Loss of {name}", points, percent=False))
    return charts


def _spread(values: Sequence[float]) -> list[int]:
    """Places of about ``CURVE`` of ``values``, evenly spaced, with the first, the last and both extremes."""
    last = len(values) - 1
    even = {round(step * last / (CURVE - 1)) for step in range(CURVE)}
    return sorted(even | {values.index(min(values)), values.index(max(values))})


def time_by_stage(s: Summary) -> Markup:
    """Seconds that each stage took to make, whenever that was."""
    rows = []
    for stage in s.stages:
        took, before = seconds_of(stage), ", finished before" if stage["skipped"] else ""
        rows.append((stage["name"], took or 0.0, ("unknown" if took is None else f"{took:.1f} s") + before))
    return bars(rows, "Seconds each stage took, in this run of the command or an earlier one.")


def seconds_of(stage: dict[str, Any]) -> float | None:
    """What making a stage took; unknown where it was finished before and did not note it."""
    took = stage.get("took")
    return stage["seconds"] if took is None and not stage["skipped"] else took


def took(s: Summary) -> tuple[float, int]:
    """Seconds of all stages, and how many did not note theirs."""
    known = [seconds for stage in s.stages if (seconds := seconds_of(stage)) is not None]
    return sum(known), len(s.stages) - len(known)


def total(spent: Sequence[Spent]) -> Spent:
    """All of ``spent`` together."""
    found = spent[0].model_copy(update={"stage": "all", "model": ""})
    for one in spent[1:]:
        found += one
    return found


def tokens(spent: Spent, name: str) -> str:
    """Tokens for people; what was not counted is said to be unknown."""
    value = getattr(spent, name)
    if value is None:
        return "unknown" if spent.uncounted else "0"
    return f"{value:,}" + (f" (calls not counted: {spent.uncounted})" if spent.uncounted else "")


def headline(s: Summary) -> str:
    """The student that the page is about."""
    return "feedback" if any("feedback" in x.answers for x in s.samples) else next(iter(s.checkpoints), "imitation")


def against_teacher(s: Summary, sample: Sample) -> dict[str, float]:
    """How likely each system's answer beats the teacher's, by the critic, where it could be read."""
    found = {name: s.scores.get(f"{name}>teacher@{sample.split}", {}) for name, _ in ordered(sample)}
    return {name: p for name, own in found.items() if (p := own.get(sample.example_id)) is not None}


def groups(s: Summary) -> list[Group]:
    """Best, worst, most disputed and random examples; the judge's own view decides, random is by a fixed seed.

    A critic that grades no single text ranks them by how likely the student's beats the teacher's.
    """
    head = headline(s)
    chances = [(p, x) for x in s.samples if (p := against_teacher(s, x).get(head)) is not None]
    grades = [(x.funny[head], x) for x in s.samples if head in x.funny]
    ranked = [x for _, x in sorted(grades or chances, key=lambda found: -found[0])]
    most, least = ("funniest", "least funny") if grades else ("surest to beat the teacher", "surest to lose to it")
    disputed = [
        x
        for x in s.samples
        if x.feedback_over_imitation is not None and x.answers.get("feedback") != x.answers.get("imitation")
    ]
    disputed.sort(key=lambda x: abs((x.feedback_over_imitation or 0.5) - 0.5))
    even = "feedback and imitation" if disputed else f"{head} and the teacher"
    disputed = disputed or [x for _, x in sorted(chances, key=lambda found: abs(found[0] - 0.5))]
    found = [
        Group(f"Best: the critic finds {head} {most}", ranked[:EACH]),
        Group(f"Worst: the critic finds {head} {least}", ranked[::-1][:EACH]),
        Group(f"Most disputed: {even} close to even", disputed[:EACH]),
        Group("Random", random.Random(0).sample(s.samples, min(EACH, len(s.samples)))),
    ]
    return [group for group in found if group.samples]


def all_inputs(s: Summary) -> tuple[list[Sample], int]:
    """As many inputs as the page has room for, and how many are left out."""
    room, kept = BUDGET - sum(_bytes(sample) for group in groups(s) for sample in group.samples), []
    for sample in s.samples:
        room -= _bytes(sample)
        if room < 0:
            break
        kept.append(sample)
    return kept, len(s.samples) - len(kept)


def _bytes(sample: Sample) -> int:
    """What a sample's card takes on the page, generously."""
    texts = [sample.literal, *(part for answer in sample.answers.items() for part in answer)]
    return 400 + 150 * len(sample.answers) + sum(len(str(escape(text)).encode()) for text in texts)


def ordered(sample: Sample) -> list[tuple[str, str]]:
    """A sample's answers, the three that matter most first."""
    first = [name for name in HEAD if name in sample.answers]
    return [(name, sample.answers[name]) for name in [*first, *(n for n in sample.answers if n not in HEAD)]]


def critic_figures(critic: dict[str, Any]) -> list[tuple[str, float]]:
    """What else was measured of the critic, beside its agreement."""
    said = ("agreement", "low", "high", "n")
    return [(k, v) for k, v in critic.items() if k not in said and isinstance(v, int | float)]


def taught(s: Summary) -> str:
    """What a live teacher's answers came to; nothing of a recorded one."""
    from quipwright.data.teacher import Yield

    counted = s.counts.get("yield")
    return Yield.model_validate(counted).line() if counted else ""


def able(capabilities: dict[str, Any]) -> str:
    """A model's capabilities in one line."""
    return ", ".join(f"{name} {str(value).lower()}" for name, value in capabilities.items())


def settings_diff(recipe: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Settings that differ from the defaults: path, here, default."""
    from quipwright.pipeline.recipe import Recipe

    return diff([flat(recipe), flat(Recipe(name="x").model_dump(mode="json"))], skip=("name",))


def diff(trees: Sequence[dict[str, str]], skip: Sequence[str] = ()) -> list[Any]:
    """Rows (path, value of each tree) where flat ``trees`` differ; absent is a dash."""
    paths = dict.fromkeys(path for tree in trees for path in tree if path not in skip)
    rows = [(path, *(tree.get(path, "–") for tree in trees)) for path in paths]
    return [row for row in rows if len(set(row[1:])) > 1]


def flat(tree: Any, path: str = "") -> dict[str, str]:
    """Nested settings as dotted paths with their values as text."""
    if isinstance(tree, dict) and tree:
        items = [flat(value, f"{path}.{key}" if path else str(key)) for key, value in tree.items()]
        return {name: value for item in items for name, value in item.items()}
    return {path: str(tree)}


def lineage(s: Summary) -> list[tuple[int, str, dict[str, Any]]]:
    """Checkpoints with their depth in the family tree, parents first."""
    depths: dict[str | None, int] = {None: -1}
    rows = []
    for name, facts in s.checkpoints.items():
        depth = depths.get(facts.get("parent_id"), -1) + 1
        depths[facts["id"]] = depth
        rows.append((depth, name, facts))
    return rows
