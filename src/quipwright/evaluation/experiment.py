"""The settings of an experiment: a grid of recipe variants and seeds, and who judges it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from quipwright.core.errors import RecipeError
from quipwright.core.settings import Settings
from quipwright.critics.loading import Chosen

Run = tuple[str, int]
"""A variant's name and a seed."""
Verdicts = Mapping[Run, Mapping[str, float | None]]
"""Of each run, the share of its presentation orders that the variant won or tied, by example id."""
Assignments = dict[str, Any]
"""Values by dotted path, as ``--set`` takes them."""


class Variant(Settings):
    """One row of the table: what it changes in the recipe (``set``), and which of the run's students it is."""

    set: Assignments = Field(default_factory=dict)
    student: str = "feedback"


class Judge(Chosen):
    """A critic that judges what a grid's recipes left recorded. ``paper``: figures to print beside its own, by variant."""

    paper: dict[str, float] = Field(default_factory=dict)


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
        size = self.scales[scale]
        variants = {
            name: v.model_copy(update={"set": v.set | size.set | size.variants.get(name, {})})
            for name, v in self.variants.items()
        }
        changed = {
            "recipe": size.recipe or self.recipe,
            "seeds": size.seeds or self.seeds,
            "variants": variants,
            "judges": size.judges,
        }
        return self.model_copy(update={**changed, "name": f"{self.name}-{scale}"})
