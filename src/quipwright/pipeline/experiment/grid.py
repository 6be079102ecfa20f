"""A grid of recipe variants x seeds -> one table: means, intervals, paired differences with Holm's p-values, and cost.

Variants write into one shared folder of stages, so that what they have in common (teaching, the imitation student) is
made once, and ask through one store of calls beside it, so that no question is paid for twice. A variant that fails
keeps its reason in the table and stops nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from quipwright.core.config_files import override, read_yaml, validate
from quipwright.core.errors import QuipwrightError, RecipeError
from quipwright.core.paths import recipe_path
from quipwright.core.settings import Settings
from quipwright.core.storage.files import write_atomic
from quipwright.core.storage.run_folder import STAGES, RunFolder
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import task_path
from quipwright.evaluation.experiment_table import Result, tabulate, total
from quipwright.evaluation.report.markdown import experiment_markdown
from quipwright.evaluation.report.pages import write_experiment
from quipwright.llm.call_store import FILE, CallStore
from quipwright.llm.costs import Spent
from quipwright.pipeline.distil import distil
from quipwright.pipeline.experiment.judges import Judge, judged
from quipwright.pipeline.recipe import Recipe

Assignments = dict[str, Any]
"""Values by dotted path, as ``--set`` takes them."""


class Variant(Settings):
    """One row of the table: what it changes in the recipe (``set``), and which of the run's students it is."""

    set: Assignments = Field(default_factory=dict)
    student: str = "feedback"


class Scale(Settings):
    """Another size of the same experiment: its recipe, seeds and settings replace or add to the experiment's.

    ``set`` applies to every variant *after* its own; ``variants`` adds to single ones. ``judges``: further judges here;
    those of the experiment are not asked.
    """

    recipe: str | None = None
    seeds: tuple[int, ...] | None = None
    set: Assignments = Field(default_factory=dict)
    variants: dict[str, Assignments] = Field(default_factory=dict)
    judges: dict[str, Judge] = Field(default_factory=dict)


class Experiment(Settings):
    """A grid: ``variants`` of ``recipe`` (a file beside the experiment's, or one that ships) under each of ``seeds``.

    Every variant's student meets ``opponent`` on ``split``; differences are to the variant named ``baseline``.
    ``set`` holds what all variants share. ``paper``: figures to print beside ours, by variant. ``judges``, by the name of
    their column, read the recorded answers once more; one may be added when the grid is finished.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    recipe: str
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    opponent: str = "teacher"
    split: str = "test"
    baseline: str
    set: Assignments = Field(default_factory=dict)
    variants: dict[str, Variant] = Field(min_length=1)
    paper: dict[str, float] = Field(default_factory=dict)
    judges: dict[str, Judge] = Field(default_factory=dict)
    scales: dict[str, Scale] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_exist(self) -> Experiment:
        scaled = (name for scale in self.scales.values() for name in scale.variants)
        judges = [*self.judges.values(), *(judge for scale in self.scales.values() for judge in scale.judges.values())]
        judged = (name for judge in judges for name in judge.paper)
        unknown = [n for n in (self.baseline, *self.paper, *scaled, *judged) if n not in self.variants]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no variant; variants are {', '.join(self.variants)}")
        return self

    def at(self, scale: str | None) -> Experiment:
        """The experiment at ``scale`` (``None``: as written). Raises :class:`RecipeError` for an unknown one."""
        if scale is None:
            return self
        if scale not in self.scales:
            raise RecipeError(f"{self.name} has no scale {scale!r}.", f"It has: {', '.join(self.scales) or 'none'}.")
        how = self.scales[scale]
        variants = {
            name: v.model_copy(update={"set": v.set | how.set | how.variants.get(name, {})})
            for name, v in self.variants.items()
        }
        changed = {
            "recipe": how.recipe or self.recipe,
            "seeds": how.seeds or self.seeds,
            "variants": variants,
            "judges": how.judges,
        }
        return self.model_copy(update={**changed, "name": f"{self.name}-{scale}"})


def load_experiment(path: Path, scale: str | None = None) -> tuple[Experiment, Path]:
    """The experiment of a YAML file at ``scale``, and the folder its relative paths start from."""
    tree = read_yaml(path, "Experiment")
    tree.setdefault("name", path.stem)
    return validate(Experiment, tree, f"Experiment {path}").at(scale), path.parent


def run_experiment(
    experiment: Experiment, base: Path, folder: Path, told: Callable[[str], None] = lambda line: None
) -> Result:
    """Run what is not finished of the grid under ``folder``, and write ``result.json``, ``table.md`` and ``report.html`` there."""
    recipes = {
        (name, seed): recipe_of(experiment, base, name, seed)
        for name in experiment.variants
        for seed in experiment.seeds
    }
    found: dict[tuple[str, int], RunSummary | str] = {}
    for (name, seed), (recipe, place) in recipes.items():
        told(f"{name}, seed {seed}")
        found[name, seed] = one = _run(recipe, place, folder, f"{name}-{seed}")
        if isinstance(one, str):
            told(f"{name}, seed {seed} failed: {one}")
    recipe, place = recipes[experiment.baseline, experiment.seeds[0]]
    said = judged(experiment, found, folder, base, str(task_path(recipe.task, place)))
    minutes = {key: _minutes(folder / f"{key[0]}-{key[1]}") for key in found}
    result = tabulate(experiment, found, minutes, said)
    result = result.model_copy(update={"spent": _spent(folder)})
    write_atomic(folder / "result.json", result.model_dump_json(indent=1))
    write_atomic(folder / "table.md", experiment_markdown(result))
    write_experiment(result, folder / "report.html")
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
            try:
                return distil(recipe, run, base)
            finally:
                spent = _minutes(run.path) + sum(s.seconds for s in run.cache.times if not s.skipped) / 60
                write_atomic(run.path / "cost.json", json.dumps({"minutes": round(spent, 3)}))
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
    return float(json.loads(cost.read_text(encoding="utf-8"))["minutes"]) if cost.exists() else 0.0
