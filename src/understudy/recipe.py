"""The recipe: every setting of a run in one frozen object, composed from the settings of its rooms and doors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from understudy.critic.reward import RewardSettings
from understudy.evaluate import EvaluateSettings
from understudy.examples import DataSettings
from understudy.llm.corpus import RecordedTeacher
from understudy.objectives import DPO, MLE, Objective
from understudy.pairs import BestWorst, RankRule, Selector
from understudy.resources import recipe_path
from understudy.sample import Candidates, SampleSettings
from understudy.settings import Settings, override, read_yaml, validate
from understudy.students import StudentSettings
from understudy.train import TrainSettings


class Imitation(Settings):
    """Phase 1: MLE on the teacher's paraphrases (Ravi et al. 2024 sec. 3.1)."""

    objective: MLE = MLE()
    train: TrainSettings = TrainSettings()


class Learning(Settings):
    """Phase 2: what is learnt from the critic's rankings. ``copy_share``: for that share of them, an extra pair in
    which the chosen response beats the literal itself, so that copying never pays."""

    objective: Objective = DPO()
    train: TrainSettings = TrainSettings(lr=2e-4, epochs=2)
    copy_share: float = Field(0.25, ge=0, le=1)


class Recipe(Settings):
    """A whole run. Defaults are the embedded parts; ``recipes/demo.yaml`` is the smallest complete example."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(0, ge=0)
    task: str = "humour"
    data: DataSettings = DataSettings()
    teacher: RecordedTeacher = RecordedTeacher()
    student: StudentSettings = StudentSettings()
    imitation: Imitation = Imitation()
    rounds: int = Field(1, ge=0)
    candidates: Candidates = SampleSettings()
    feedback: int | None = Field(
        None, ge=1, description="training literals that are sampled for feedback; all if unset"
    )
    select: Selector = BestWorst()
    critic: RewardSettings = RewardSettings()
    rank: RankRule = RankRule()
    learn: Learning = Learning()
    evaluate: EvaluateSettings = EvaluateSettings()

    @field_validator("candidates", mode="before")
    @classmethod
    def _nucleus_unless_named(cls, value: Any) -> Any:
        return {"kind": "nucleus", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        least = self.learn.objective.min_columns
        if self.rounds and self.candidates.k < max(2, least):
            kind = self.learn.objective.kind
            raise ValueError(
                f"candidates.k is {self.candidates.k}, but {kind} compares {max(2, least)} candidates; set k >= 2"
            )
        return self


def load_recipe(reference: str, assignments: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """The recipe of a file, or of a name that ships, with ``--set`` overrides applied, and the folder its relative
    paths start from. Raises :class:`~understudy.errors.RecipeError` or ``DataError`` in one line."""
    path = Path(reference) if reference.endswith((".yaml", ".yml")) else recipe_path(reference)
    tree = override(read_yaml(path, "Recipe"), assignments)
    tree.setdefault("name", path.stem)
    return validate(Recipe, tree, f"Recipe {path}"), path.parent
