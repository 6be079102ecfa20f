"""What the page shows and in which order: selections and sentences over a summary. No number is computed anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from markupsafe import escape

from quipwright.core.records import Checkpoint
from quipwright.core.results import PairedDifference, PairwiseResult, Quality, Sample
from quipwright.core.storage.stage_cache import StageTime
from quipwright.evaluation.experiment_table import WTR, Row
from quipwright.evaluation.pairwise import scores_between
from quipwright.evaluation.report import words
from quipwright.evaluation.report.opening import at_random, copied

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary
    from quipwright.evaluation.experiment_table import Result
    from quipwright.llm.costs import Spent

HEAD = ("imitation", "feedback", "teacher")
EACH = 8  # examples a group
BUDGET = 1_000_000  # bytes of all examples: the page stays under 2 MB
Judgeable = TypeVar("Judgeable", PairwiseResult, PairedDifference, Row)


@dataclass(frozen=True)
class Group:
    """Examples under one heading."""

    title: str
    samples: list[Sample]


def story(s: RunSummary) -> str:
    """What was done, in one paragraph with numbers."""
    recipe, data = s.recipe, s.counts
    literals = data.literals
    sentences = []
    student = recipe.get("student") or {}
    weights = student.get("weights", "the student")
    if "imitation" in recipe and recipe["imitation"] is None:
        sentences.append(
            f"The student ({weights}) is {student.get('adapter')}, which imitates its teacher already. Nothing was trained "
            "before feedback."
        )
    elif literals:
        taught = f" and {data.teacher} paraphrases of the teacher" if data.teacher else ""
        sentences.append(
            f"The student ({weights}) imitated the teacher on {literals.get('train', 0)} literals{taught}."
        )
    else:
        sentences.append(f"The student ({weights}) imitated the teacher.")
    if styles := s.task.get("styles"):
        known = ", ".join(styles)
        sentences.append(f"It knows the styles {known}; feedback and evaluation are in {s.style}.")
    if rounds := recipe.get("rounds"):
        ranked = data.rankings
        kind = ((recipe.get("learn") or {}).get("objective") or {}).get("kind", "its objective")
        counted = ", then ".join(str(n) for n in ranked) or "no"
        critic = words.judge(str(s.critic.get("name")))
        sentences.append(
            f"In {rounds} round{'s' if rounds > 1 else ''} of feedback, {critic} ordered {counted} pairs of its own "
            f"attempts, from which it learnt by {str(kind).upper()}."
        )
    return " ".join(sentences)


def fit(results: Sequence[Judgeable]) -> tuple[list[Judgeable], list[Judgeable]]:
    """``results`` by fit judges, and those that are set aside."""
    return [r for r in results if not r.unfit], [r for r in results if r.unfit]


def looks(runs: Sequence[tuple[str, RunSummary]]) -> list[tuple[str, Quality]]:
    """What the outputs look like, with the name of each run."""
    return [(name, q) for name, s in runs for q in s.quality]


def graders(rows: Sequence[tuple[str, Quality]]) -> list[str]:
    """Who gave the grades of ``rows``."""
    return list(dict.fromkeys(q.graded_by for _, q in rows if q.graded_by))


def first_and_others(sample: Sample) -> tuple[list[str], list[str]]:
    """The systems of a sample that stand side by side, and the others."""
    names = [name for name, _ in ordered(sample)]
    return [n for n in names if n in HEAD], [n for n in names if n not in HEAD]


def wtr(result: Result) -> str:
    """What the rates of an experiment's table are."""
    return WTR.format(result.opponent)


def seconds_of(stage: StageTime) -> float | None:
    """What making a stage took; unknown where it was finished before and did not note it."""
    return stage.seconds if stage.took is None and not stage.skipped else stage.took


def took(s: RunSummary) -> tuple[float, int]:
    """Seconds of all stages, and how many did not note theirs."""
    known = [seconds for stage in s.stages if (seconds := seconds_of(stage)) is not None]
    return sum(known), len(s.stages) - len(known)


def total(spent: Sequence[Spent]) -> Spent:
    """All of ``spent`` together."""
    whole = spent[0].model_copy(update={"stage": "all", "model": ""})
    for one in spent[1:]:
        whole += one
    return whole


def tokens(spent: Spent, name: str) -> str:
    """Tokens for people; what was not counted is said to be unknown."""
    value = getattr(spent, name)
    if value is None:
        return "unknown" if spent.uncounted else "0"
    return f"{value:,}" + (f" (calls not counted: {spent.uncounted})" if spent.uncounted else "")


def grades(s: RunSummary) -> tuple[str, ...]:
    """The names of the task's grades, worst first."""
    return tuple(s.task["grades"])


def headline(s: RunSummary) -> str:
    """The student that the page is about."""
    return "feedback" if any("feedback" in x.answers for x in s.samples) else next(iter(s.checkpoints), "imitation")


def against_teacher(s: RunSummary, sample: Sample) -> dict[str, float]:
    """How likely each system's answer beats the teacher's, by the critic, where it could be read."""
    pairs = {name: scores_between(s.scores, name, "teacher", sample.split) for name, _ in ordered(sample)}
    return {name: p for name, pair in pairs.items() if pair and (p := pair.scores.get(sample.example_id)) is not None}


def groups(s: RunSummary) -> list[Group]:
    """Best, worst and most disputed examples; the judge's own view decides.

    A critic that grades no single text ranks them by how likely the student's beats the teacher's.
    """
    head = headline(s)
    chances = [(p, x) for x in s.samples if (p := against_teacher(s, x).get(head)) is not None]
    graded = [(x.levels[head][-1], x) for x in s.samples if head in x.levels]
    ranked = [x for _, x in sorted(graded or chances, key=lambda entry: -entry[0])]
    own = [x for x in ranked if not copied(x, head)]  # a copy may be liked, but it is no best answer
    most, least = "surest to beat the teacher", "surest to lose to it"
    if graded:
        best = grades(s)[-1]
        most, least = f"most likely {best}", f"least likely {best}"
    disputed = [
        x
        for x in s.samples
        if x.feedback_over_imitation is not None and x.answers.get("feedback") != x.answers.get("imitation")
    ]
    disputed.sort(key=lambda x: abs((x.feedback_over_imitation or 0.5) - 0.5))
    even = "feedback and imitation" if disputed else f"{head} and the teacher"
    disputed = disputed or [x for _, x in sorted(chances, key=lambda entry: abs(entry[0] - 0.5))]
    chosen = [
        Group(f"Best: the critic finds {head} {most}", own[:EACH]),
        Group(f"Worst: the critic finds {head} {least}", ranked[::-1][:EACH]),
        Group(f"Most disputed: {even} close to even", disputed[:EACH]),
    ]
    return [group for group in chosen if group.samples]


def all_inputs(s: RunSummary) -> tuple[list[Sample], int]:
    """As many inputs as the page has room for, and how many are left out."""
    shown = [*at_random(s), *(sample for group in groups(s) for sample in group.samples)]
    room, kept = BUDGET - sum(map(_bytes, shown)), []
    for sample in s.samples:
        room -= _bytes(sample)
        if room < 0:
            break
        kept.append(sample)
    return kept, len(s.samples) - len(kept)


def _bytes(sample: Sample) -> int:
    """What a sample's card takes on the page, generously."""
    texts = [sample.literal, *(part for answer in sample.answers.items() for part in answer)]
    return 700 + 260 * len(sample.answers) + sum(len(str(escape(text)).encode()) for text in texts)


def ordered(sample: Sample) -> list[tuple[str, str]]:
    """A sample's answers, the three that matter most first."""
    first = [name for name in HEAD if name in sample.answers]
    return [(name, sample.answers[name]) for name in [*first, *(n for n in sample.answers if n not in HEAD)]]


def critic_figures(critic: dict[str, Any]) -> list[tuple[str, float]]:
    """What else was measured of the critic, beside its agreement."""
    said = ("agreement", "low", "high", "n")
    return [(k, v) for k, v in critic.items() if k not in said and isinstance(v, int | float)]


def taught(s: RunSummary) -> str:
    """What a live teacher's answers came to; nothing of a recorded one."""
    return s.counts.teacher_yield.line() if s.counts.teacher_yield else ""


def settings_diff(s: RunSummary) -> list[tuple[str, str, str]]:
    """Settings that differ from the defaults: path, here, default."""
    return diff([flat(s.recipe), flat(s.defaults)], skip=("name",))


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


def lineage(s: RunSummary) -> list[tuple[int, str, Checkpoint]]:
    """Checkpoints with their depth in the family tree, parents first."""
    depths: dict[str | None, int] = {None: -1}
    rows = []
    for name, checkpoint in s.checkpoints.items():
        depth = depths.get(checkpoint.parent_id, -1) + 1
        depths[checkpoint.id] = depth
        rows.append((depth, name, checkpoint))
    return rows
