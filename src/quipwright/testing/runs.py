"""Whole runs, and stages without one: open a run folder for a recipe and call one stage on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from quipwright.core.records import Comparison, Judgment, Record
from quipwright.core.storage.run_folder import RunFolder
from quipwright.core.storage.stage_cache import StageCache, StageKey, StageTime, single_chunk
from quipwright.data.run_summary import RunSummary
from quipwright.pipeline.context import Context, open_context
from quipwright.pipeline.distil import distil
from quipwright.pipeline.recipe import Recipe, load_recipe
from quipwright.pipeline.stages.judge import judge

R = TypeVar("R", bound=Record)


def run(recipe_file: Path, folder: Path, *sets: str) -> RunSummary:
    """Run the whole of ``recipe_file`` in ``folder``, with the changes ``sets`` (``key=value``)."""
    recipe, recipe_dir = load_recipe(str(recipe_file), sets)
    tree, identity = recipe.model_dump(mode="json"), recipe.results_key()
    with RunFolder.open(folder, tree, identity=identity) as opened:
        return distil(recipe, opened, recipe_dir)


@contextmanager
def run_context(
    recipe: Recipe, folder: Path, recipe_dir: Path, *, shared: Path | None = None, until: str | None = None
) -> Iterator[Context]:
    """The context of ``recipe`` in a run folder of its own."""
    tree, identity = recipe.model_dump(mode="json"), recipe.results_key()
    with (
        RunFolder.open(folder, tree, identity=identity, shared=shared, until=until) as run,
        open_context(recipe, run, recipe_dir) as ctx,
    ):
        yield ctx


def judge_pairs(ctx: Context, recipe: Recipe, comparisons: Sequence[Comparison], part: str = "1") -> list[Judgment]:
    """What the recipe's critic says of ``comparisons``, kept as stage ``judge-<part>``."""
    return judge(ctx, part, ctx.judges.of(recipe.critic), comparisons, copies_lose=recipe.copies_lose)


def stored_stage(cache: StageCache, stage: str, part: str, rows: Sequence[R], kind: type[R]) -> StageTime:
    """Keep ``rows`` as a finished stage. Returns its line in the run's diary."""
    key = StageKey(stage, part, ("stored",))
    cache.rows(key, kind, single_chunk(lambda: rows))
    return cache.times[-1]
