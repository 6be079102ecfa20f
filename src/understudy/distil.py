"""The algorithm, top to bottom: a student imitates its teacher, then learns from its critic (Ravi et al. 2024 sec. 3)."""

from __future__ import annotations

from pathlib import Path

from understudy.critic import Comparison
from understudy.examples import load_examples
from understudy.recipe import Recipe
from understudy.records import Checkpoint, Example, Ranking, Response
from understudy.report import write_report
from understudy.stages import Stages
from understudy.store import RunFolder
from understudy.summary import Summary, evaluate, summarise


def distil(recipe: Recipe, run: RunFolder, base: Path) -> Summary:
    """Run every arrow of ``recipe`` that is not finished in ``run``; ``base`` is where its relative paths start."""
    stages = Stages(recipe, run, base)
    examples = load_examples(recipe.data, base)
    taught = stages.teach(examples)
    students = {"imitation": stages.imitate(examples, taught)}
    current, rankings = students["imitation"], list[list[Ranking]]()
    for round in range(1, recipe.rounds + 1):
        current, ranked = feedback(stages, round, current, examples)
        students["feedback" if round == recipe.rounds else f"round-{round}"] = current
        rankings.append(ranked)
    evaluation = evaluate(stages, examples, taught, students)
    summary = summarise(stages, students, rankings, evaluation)
    write_report(summary, run.path / "report.html")
    return summary


def feedback(
    stages: Stages, round: int, student: Checkpoint, examples: list[Example]
) -> tuple[Checkpoint, list[Ranking]]:
    """One round: the student tries, the critic compares its attempts, the student learns from the verdicts."""
    recipe = stages.recipe
    train = [e for e in examples if e.split == "train"][: recipe.feedback]
    by_id = {e.id: e for e in train}
    attempts = stages.sample(f"sample-{round}", student, train, recipe.candidates)
    texts: dict[str, Response] = {r.id: r for own in attempts.values() for r in own}
    usable = [r for r in texts.values() if not r.dropped]
    grades = stages.grade(f"grade-{round}", by_id, usable) if recipe.select.needs_scores else {}
    pairs = stages.select(round, train, attempts, grades)
    compared = [Comparison(p, by_id[p.example_id].text, texts[p.a_id].text, texts[p.b_id].text) for p in pairs]
    judgments = stages.judge(f"judge-{round}", compared)
    rankings = stages.rank(round, pairs, judgments)
    return stages.learn(round, student, by_id, texts, rankings), rankings
