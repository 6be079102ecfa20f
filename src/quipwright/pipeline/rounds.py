"""Phase 2, step by step: what the student tries, what the critic says of it, and what the student learns from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quipwright.core.errors import DataError
from quipwright.core.paths import resolve
from quipwright.core.records import Checkpoint, Comparison, Example, Ranking, Response
from quipwright.core.text import normalise
from quipwright.data.verdicts import preferences, read_verdicts
from quipwright.pipeline.evaluate import probe, reading
from quipwright.pipeline.recipe import OnFile, Supervision
from quipwright.pipeline.stages import Stages
from quipwright.training.early_stopping import out_of_patience
from quipwright.training.preference.pairs import AnySelector, copies_last
from quipwright.training.preference.rows import best_of, winners
from quipwright.training.rounds import RankingHistory, RoundHistory

Taught = Mapping[str, Sequence[Response]]
"""Responses by example id."""
Texts = Mapping[str, Response]
"""Responses by their own id."""


def supervise(
    stages: Stages, how: Supervision, student: Checkpoint, examples: list[Example], taught: Taught
) -> Checkpoint:
    """The critic ranks the teacher's own responses, and the student learns from that before it ever tries."""
    train = [e for e in examples if e.split == "train" and e.id in taught][: stages.recipe.feedback]
    texts = {r.id: r for e in train for r in taught[e.id]}
    rankings = _ranked(stages, 0, train, {e.id: taught[e.id] for e in train}, texts, how.select)
    by_id = {e.id: e for e in train}
    return stages.learn(0, student, by_id, texts, rankings, taught=taught, how=how.learn)


def learn_on_file(
    stages: Stages, how: OnFile, student: Checkpoint, examples: list[Example], taught: Taught
) -> Checkpoint:
    """The student learns from verdicts on file on attempts of earlier students, before it ever tries.

    Raises :class:`DataError` where the file has nothing usable on the recipe's training literals.
    """
    files = [resolve(path, "Verdicts", stages.base) for path in how.paths]
    rows = [row for file in files for row in read_verdicts(file) if row.split == "train"]
    known = {normalise(e.text): e for e in examples if e.split == "train"}
    chosen = preferences(rows, how.pairs, how.strength, how.grade, how.teacher)
    texts: dict[str, Response] = {}
    rankings = []
    for literal, example in known.items():
        for pair in chosen.get(literal, ()):
            own = [Response(example_id=example.id, text=text, author="recorded:verdicts") for text in pair]
            texts |= {r.id: r for r in own}
            rankings.append(Ranking(example_id=example.id, best_first=(own[0].id, own[1].id), strength=1.0))
    if not rankings:
        named = ", ".join(how.paths)
        raise DataError(f"{named}: no usable verdict on the training literals.", "Lower verdicts.strength or grade.")
    by_id = {e.id: e for e in known.values()}
    return stages.learn(0, student, by_id, texts, rankings, taught=taught, how=how.learn)


def rounds(stages: Stages, student: Checkpoint, examples: list[Example], taught: Taught) -> RoundHistory:
    """Every round of feedback, until the recipe's number or its watch says stop."""
    recipe, past, memory = stages.recipe, RoundHistory(), RankingHistory(stages.recipe.keep_pairs)
    initial = current = student
    by_epoch = recipe.watch is not None and recipe.watch.each == "epoch"
    for number in range(1, recipe.rounds + 1):
        reference = initial if recipe.reference == "initial" else current
        stages.probe = probe(stages, number, student, examples, taught) if by_epoch else None
        current, ranked = feedback(stages, number, current, reference, examples, taught, memory)
        past.checkpoints.append(current)
        past.rankings.append(ranked)
        if recipe.watch is not None:
            past.points.append(reading(stages, number, student, current, examples, taught))
            if out_of_patience(past.points, recipe.watch.patience):
                break
    stages.probe = None
    return past


def feedback(
    stages: Stages,
    round: int,
    student: Checkpoint,
    reference: Checkpoint,
    examples: list[Example],
    taught: Taught,
    memory: RankingHistory,
) -> tuple[Checkpoint, list[Ranking]]:
    """One round: the student tries, the critic compares its attempts, the student learns from the verdicts."""
    recipe, how = stages.recipe, stages.recipe.learn
    train = [e for e in examples if e.split == "train"][: recipe.feedback]
    by_id = {e.id: e for e in train}
    if how.source == "teacher":
        return stages.absorb(round, student, train, taught), []
    attempts = stages.sample(f"sample-{round}", student, train, recipe.candidates, round)
    texts = {r.id: r for own in attempts.values() for r in own}
    if how.source == "best_of_n":
        usable = [r for r in texts.values() if r.usable]
        scores = {i: grade.score for i, grade in stages.grade(f"grade-{round}", by_id, usable).items()}
        scores = copies_last(scores, train, attempts) if recipe.copies_lose else scores
        return stages.absorb(round, student, train, best_of(attempts, scores)), []
    if recipe.select.kind == "teacher_mix":
        attempts = {e.id: [*attempts.get(e.id, ()), *taught.get(e.id, ())] for e in train}
        texts |= {r.id: r for own in attempts.values() for r in own}
    rankings = _ranked(stages, round, train, attempts, texts, recipe.select)
    known, used = memory.recall(texts, rankings)
    if how.objective.kind == "mle":
        return stages.absorb(round, student, train, winners(used, known)), rankings
    return stages.learn(round, student, by_id, known, used, taught=taught, reference=reference), rankings


def _ranked(
    stages: Stages, round: int, examples: list[Example], attempts: Taught, texts: Texts, selector: AnySelector
) -> list[Ranking]:
    """The critic's order of the pairs (or lists) that ``selector`` picks among ``attempts``."""
    by_id = {e.id: e for e in examples}
    usable = [r for r in texts.values() if r.usable]
    grades = stages.grade(f"grade-{round}", by_id, usable) if selector.needs_scores else {}
    pairs = stages.select(round, examples, attempts, grades, selector)
    compared = [Comparison(p, by_id[p.example_id].text, texts[p.a_id].text, texts[p.b_id].text) for p in pairs]
    return stages.rank(round, pairs, stages.judge(f"judge-{round}", compared))
