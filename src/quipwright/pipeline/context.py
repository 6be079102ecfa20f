"""What every stage of a run stands on. It is made once and never changes while the run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from quipwright.core.metrics import Metrics
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.stage_cache import StageCache
from quipwright.data.task import Task
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.runtime import Judges, RunCalls, Students


@dataclass(frozen=True)
class Context:
    """``recipe_dir``: where relative paths of the recipe start. ``students`` and ``judges`` open models when a stage
    first needs them, so that a finished run is read back without loading any. ``metrics``: the stream of figures."""

    run_dir: Path
    recipe_dir: Path
    seed: int
    task: Task
    cache: StageCache
    calls: RunCalls
    students: Students
    judges: Judges
    metrics: Metrics


@contextmanager
def open_context(recipe: Recipe, run: RunFolder, recipe_dir: Path) -> Iterator[Context]:
    """The context of ``recipe`` in ``run``; what was opened is closed at the end.

    The stream of figures is opened first: a tracker that cannot start must not cost a training.
    """
    with ExitStack() as stack:
        run.record("base", str(recipe_dir.resolve()))
        config = recipe.model_dump(mode="json")
        written = (
            Metrics.open(run.path, recipe.name, recipe.track, config) if run.cache.ranks.first else Metrics.nowhere()
        )
        metrics = stack.enter_context(written)
        task = recipe.load_task(recipe_dir)
        calls = RunCalls(recipe, run, recipe_dir, stack)
        yield Context(
            run_dir=run.path,
            recipe_dir=recipe_dir,
            seed=recipe.seed,
            task=task,
            cache=run.cache,
            calls=calls,
            students=Students(recipe, task, run, recipe_dir),
            judges=Judges(calls, task, recipe_dir),
            metrics=metrics,
        )
