"""A grid of recipe variants x seeds -> one table: means, intervals, paired differences with Holm's p-values, and cost.

Variants write into one shared folder of stages, so that what they have in common (teaching, the imitation student) is
made once, and ask through one store of calls beside it, so that no question is paid for twice. A variant that fails
keeps its reason in the table and stops nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from quipwright.core.config_files import override, read_yaml, validate
from quipwright.core.errors import QuipwrightError, RecipeError
from quipwright.core.paths import recipe_path
from quipwright.core.storage.files import disk_errors, locked
from quipwright.core.storage.run_folder import STAGES, RunFolder
from quipwright.core.storage.sealed_files import read_sealed, write_sealed
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import task_path
from quipwright.evaluation.experiment import Experiment
from quipwright.evaluation.experiment_table import Result, tabulate, total
from quipwright.evaluation.report.pages import write_report
from quipwright.llm.call_store import FILE, CallStore
from quipwright.llm.costs import Spent
from quipwright.pipeline.distil import distil
from quipwright.pipeline.experiment.judges import judged
from quipwright.pipeline.recipe import Recipe


def load_experiment(path: Path, scale: str | None = None) -> tuple[Experiment, Path]:
    """The experiment of a YAML file at ``scale``, and the folder its relative paths start from."""
    tree = read_yaml(path, "Experiment")
    tree.setdefault("name", path.stem)
    return validate(Experiment, tree, f"Experiment {path}").at(scale), path.parent


def run_experiment(
    experiment: Experiment, recipe_dir: Path, folder: Path, notify: Callable[[str], None] = lambda line: None
) -> Result:
    """Run what is not finished of the grid under ``folder``, and write the table's numbers to ``result.json`` there.

    Raises :class:`~quipwright.core.errors.RunError` where another process works in ``folder``.
    """
    recipes = {
        (name, seed): recipe_of(experiment, recipe_dir, name, seed)
        for name in experiment.variants
        for seed in experiment.seeds
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", str(folder), "Wait for it, or choose another --run folder."):
        return _run_grid(experiment, recipes, recipe_dir, folder, notify)


def _run_grid(
    experiment: Experiment,
    recipes: Mapping[tuple[str, int], tuple[Recipe, Path]],
    recipe_dir: Path,
    folder: Path,
    notify: Callable[[str], None],
) -> Result:
    summaries: dict[tuple[str, int], RunSummary | str] = {}
    for (name, seed), (recipe, place) in recipes.items():
        notify(f"{name}, seed {seed}")
        summaries[name, seed] = outcome = _run(recipe, place, folder, f"{name}-{seed}")
        if isinstance(outcome, str):
            notify(f"{name}, seed {seed} failed: {outcome}")
    recipe, place = recipes[experiment.baseline, experiment.seeds[0]]
    said = judged(experiment, summaries, folder, recipe_dir, str(task_path(recipe.task, place)))
    minutes = {key: _minutes(folder / f"{key[0]}-{key[1]}") for key in summaries}
    result = tabulate(experiment, summaries, minutes, said)
    result = result.model_copy(update={"spent": _spent(folder)})
    write_sealed(folder / "result.json", result.model_dump(mode="json"))
    return result


def recipe_of(experiment: Experiment, base: Path, name: str, seed: int) -> tuple[Recipe, Path]:
    """The recipe of variant ``name`` under ``seed``. All are read before anything runs, so that a typo costs nothing."""
    path = recipe_path(experiment.recipe, base)
    chosen = experiment.set | experiment.variants[name].set
    assignments = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen.items()]
    tree = override(read_yaml(path, "Recipe"), [*assignments, f"seed={seed}"])
    tree["name"] = f"{experiment.name}-{name}-{seed}"
    recipe, student = validate(Recipe, tree, f"Variant {name} of {experiment.name}"), experiment.variants[name].student
    if student not in (recipe.evaluate.students or recipe.students):
        raise RecipeError(
            f"Variant {name} of {experiment.name} is of student {student!r}, who is not evaluated.",
            f"Name it in evaluate.students; the run's students are {', '.join(recipe.students)}.",
        )
    return recipe, path.parent


def _run(recipe: Recipe, base: Path, folder: Path, name: str) -> RunSummary | str:
    """The run's summary, or in one line why there is none."""
    try:
        tree, identity = recipe.model_dump(mode="json"), recipe.results_key()
        with RunFolder.open(folder / name, tree, identity=identity, shared=folder / STAGES) as run:
            before = _minutes(run.path)
            try:
                summary = distil(recipe, run, base)
                write_report(summary, run.path / "report.html")
                return summary
            finally:
                spent = before + sum(s.seconds for s in run.cache.times if not s.skipped) / 60
                write_sealed(run.path / "cost.json", {"minutes": round(spent, 3)})
    except QuipwrightError as error:
        return str(error)
    except Exception as error:  # out of memory, a bug: the other variants must still run
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _spent(folder: Path) -> Spent | None:
    if not (folder / FILE).exists():
        return None
    with CallStore.open(folder) as store:
        return total(store.spent())


def _minutes(run: Path) -> float:
    cost = run / "cost.json"
    return float(read_sealed(cost, "Remove it; its minutes are lost.").get("minutes", 0)) if cost.exists() else 0.0
