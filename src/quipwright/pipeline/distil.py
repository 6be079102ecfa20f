"""The algorithm, top to bottom: a student imitates its teacher, then learns from its critic (Ravi et al. 2024 sec. 3)."""

from __future__ import annotations

from pathlib import Path

from quipwright.core.storage.run_folder import RunFolder
from quipwright.data.examples import load_examples
from quipwright.evaluation.report.pages import write_report
from quipwright.pipeline.evaluate import evaluate
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.rounds import learn_on_file, rounds, supervise
from quipwright.pipeline.stages import Stages
from quipwright.pipeline.summary import Summary, summarise


def distil(recipe: Recipe, run: RunFolder, base: Path) -> Summary:
    """Run every arrow of ``recipe`` that is not finished in ``run``; ``base`` is where its relative paths start."""
    stages = Stages(recipe, run, base)
    examples = load_examples(recipe.data, base)
    taught = stages.teach(examples)
    students = {"imitation": stages.imitate(examples, taught)}
    current = students["imitation"]
    if recipe.supervision is not None:
        current = students["supervision"] = supervise(stages, recipe.supervision, current, examples, taught)
    if recipe.verdicts is not None:
        current = learn_on_file(stages, recipe.verdicts, current, examples, taught)
        students["verdicts" if recipe.rounds else "feedback"] = current  # the last to learn from verdicts is `feedback`
    past = rounds(stages, current, examples, taught)
    students |= past.named(recipe.watch)
    rankings = past.rankings
    evaluation = evaluate(stages, examples, taught, students)
    summary = summarise(stages, students, rankings, evaluation)
    write_report(summary, run.path / "report.html")
    return summary
