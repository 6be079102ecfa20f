"""The recipe: every setting of a run in one frozen object, composed from the settings of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from quipwright.core.config_files import override, read_yaml, validate
from quipwright.core.metrics import Tracker
from quipwright.core.paths import recipe_path
from quipwright.core.records import Example
from quipwright.core.settings import Settings, identity_of
from quipwright.critics.config import CriticConfig
from quipwright.critics.reward_model.critic import RewardModelConfig
from quipwright.data.examples import DataSettings, Paths
from quipwright.data.graded import TOP_GRADE
from quipwright.data.recorded_teacher import RecordedTeacher
from quipwright.data.task import DEFAULT_TASK, Task
from quipwright.data.teacher import ModelTeacher
from quipwright.evaluation.settings import EvaluateSettings
from quipwright.llm.costs import Budget, Price
from quipwright.students.base import StudentSettings
from quipwright.training.early_stopping import EarlyStopping
from quipwright.training.objectives import BRIO, DPO, MLE, Objective
from quipwright.training.preference.candidates import Candidates, SampleSettings
from quipwright.training.preference.graded import GradedPairs
from quipwright.training.preference.pairs import BestWorst, Diverse, Selector
from quipwright.training.preference.ranking import RankRule
from quipwright.training.settings import TrainSettings

AnyTeacher = Annotated[RecordedTeacher | ModelTeacher, Field(discriminator="kind")]


class Imitation(Settings):
    """Phase 1: MLE on the teacher's paraphrases (Ravi et al. 2024 sec. 3.1)."""

    objective: MLE = MLE()
    train: TrainSettings = TrainSettings()


class Learning(Settings):
    """Phase 2: what is learnt from the critic. ``train.epochs`` are those of each round, so ten epochs in all are
    ``rounds: 1`` with 10, ``rounds: 2`` with 5 or ``rounds: 10`` with 1. ``copy_share``: for that share of the rankings,
    an extra pair in which the chosen response beats the literal itself, so that copying never pays.

    ``source``: ``verdicts`` (ranked pairs or lists; under MLE the preferred only, the paper's SD), ``best_of_n`` (MLE
    on the critic's best of each literal's candidates), or ``teacher`` (MLE on the teacher's responses: the warm start
    trained on, the paper's FT). ``anchor``: a teacher's response as target of the objective's MLE term; unset means for
    BRIO only, whose published forms have it.
    """

    objective: Objective = DPO()
    train: TrainSettings = TrainSettings(lr=2e-4, epochs=2)
    source: Literal["verdicts", "best_of_n", "teacher"] = "verdicts"
    copy_share: float = Field(0.25, ge=0, le=1)
    anchor: bool | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Learning:
        if self.source != "verdicts" and self.objective.kind != "mle":
            raise ValueError(f"source {self.source} is imitation; use objective: {{kind: mle}}")
        return self

    @property
    def anchored(self) -> bool:
        """True where rows carry a teacher's response beside the compared ones."""
        return self.objective.kind == "brio" if self.anchor is None else self.anchor


class TeacherPreferences(Settings):
    """A step between imitation and the rounds: the critic compares the *teacher's* responses, and the student learns
    from that (the BRIO of BRIO-DPO, Ravi et al. 2024 sec. 3.2). ``select`` as for the student's candidates."""

    select: Selector = Diverse()
    learn: Learning = Learning(objective=BRIO(), copy_share=0)

    @model_validator(mode="after")
    def _by_pairs(self) -> TeacherPreferences:
        _of_pairs(self.learn)
        return self


class OfflinePreferences(Settings):
    """A step between imitation and the rounds: the student learns from verdicts that are on file already, given on
    attempts of earlier students of its kind. Nothing is sampled and nothing asked.

    Of each training literal the ``pairs`` best: winner's grade first, then strength. A pair needs a ``strength`` and,
    where it is graded, a winner of at least ``grade``; copies never win. ``teacher``: also pairs that a text of the
    teacher won. ``path``: one file or several.
    """

    kind: Literal["verdicts"] = "verdicts"
    path: Paths = "bundled:verdicts.jsonl"
    pairs: int = Field(2, ge=1)
    strength: int = Field(2, ge=1, le=3)
    grade: int = Field(1, ge=0, le=3)
    teacher: bool = False
    learn: Learning = Learning()

    @model_validator(mode="after")
    def _by_pairs(self) -> OfflinePreferences:
        _of_pairs(self.learn)
        return self


class OfflineGrades(Settings):
    """As :class:`OfflinePreferences`, from grades of single attempts that are on file already. What is learnt follows from
    ``learn.objective``:

    * an objective of pairs: good attempts over worse ones of their literal and style, as ``pairs`` says;
    * ``kto``: each attempt alone, desirable where it is good;
    * ``mle``: the good attempts are imitated (rejection sampling); ``weighted`` ones as often as their grade is levels
      above the last that is not good.

    ``grade``: the least grade of what is good. ``styles``: attempts of these only (empty: all). ``teacher``: the recipe's
    teacher's texts are good too: they win pairs where the student's own do not suffice, and are imitated beside them.
    ``repairs``: files of repairs: each wins over its attempt, and is good by itself. ``learn.copy_share`` adds copies of
    the literal as losers.
    """

    kind: Literal["grades"] = "grades"
    path: Paths = "bundled:graded.jsonl"
    repairs: Paths = ()
    styles: tuple[str, ...] = ()
    grade: int = Field(2, ge=1, le=TOP_GRADE)
    teacher: bool = False
    weighted: bool = False
    pairs: GradedPairs = GradedPairs()
    learn: Learning = Learning()

    @model_validator(mode="after")
    def _from_verdicts(self) -> OfflineGrades:
        if self.learn.source != "verdicts":
            raise ValueError(f"this step learns from its files; learn.source {self.learn.source} has no meaning here")
        return self


OfflineStep = Annotated[OfflinePreferences | OfflineGrades, Field(discriminator="kind")]


def _of_pairs(learn: Learning) -> None:
    """Raises ``ValueError`` for what learns nothing from a pair, or would learn the loser's text too."""
    if learn.source != "verdicts" or learn.objective.kind == "mle":
        raise ValueError("this step learns from pairs; use learn: {objective: {kind: dpo}} or another of pairs")


class Recipe(Settings):
    """A whole run. Defaults are the embedded parts; ``recipes/demo.yaml`` is the smallest complete example.

    ``styles``: those of the task's styles that the teacher is asked for and the student is trained on (all if unset);
    ``style``: the one in which it is sampled for feedback and evaluated (the task's default if unset).
    ``scorer``: a cheap critic that scores single responses, for selectors that need scores, best-of-N and grades, where
    ``critic`` only compares pairs (or is too dear for that); unset, ``critic`` scores them itself if it can.
    ``imitation: null``: the adapter that the student starts from imitates its teacher already; it is taken as it is.
    ``copies_lose``: the rule of :mod:`quipwright.critics.copy_filter` stands before the critic. ``prices`` (by model) and
    ``budget`` are for teachers and critics that cost money. ``track``: who else is told the figures of
    ``metrics.jsonl``. ``memory``: GiB that a student's texts may take beside its weights while they are written together.
    These two change no result, so they are no part of what identifies a run.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(0, ge=0)
    task: str = DEFAULT_TASK
    styles: tuple[str, ...] | None = Field(None, min_length=1)
    style: str = ""
    data: DataSettings = DataSettings()
    teacher: AnyTeacher = RecordedTeacher()
    student: StudentSettings = StudentSettings()
    imitation: Imitation | None = Imitation()
    teacher_preferences: TeacherPreferences | None = None
    offline_preferences: OfflineStep | None = None
    rounds: int = Field(1, ge=0)
    keep_pairs: bool = Field(False, description="train each round on the earlier rounds' pairs too")
    reference: Literal["previous", "initial"] = "previous"
    early_stopping: EarlyStopping | None = None
    candidates: Candidates = SampleSettings()
    feedback_examples: int | None = Field(
        None, ge=1, description="training literals that are sampled for feedback; all if unset"
    )
    select: Selector = BestWorst()
    critic: CriticConfig = RewardModelConfig()
    scorer: CriticConfig | None = None
    copies_lose: bool = True
    rank: RankRule = RankRule()
    learn: Learning = Learning()
    evaluate: EvaluateSettings = EvaluateSettings()
    prices: dict[str, Price] = Field(default_factory=dict)
    budget: Budget = Budget()
    track: tuple[Tracker, ...] = Field((), exclude=True)
    memory: float = Field(2.0, gt=0, exclude=True)

    @property
    def students(self) -> tuple[str, ...]:
        """The names that the run's students can have."""
        steps = [name for name in ("teacher_preferences", "offline_preferences") if getattr(self, name) is not None]
        rounds = [f"round-{number}" for number in range(1, self.rounds + 1)]
        return ("imitation", *steps, *rounds, *(["feedback"] if self.rounds or self.offline_preferences else []))

    def taught(self, examples: Sequence[Example]) -> list[Example]:
        """Those of ``examples`` that the teacher answers: no stage reads its texts on a split that is neither learnt from
        nor measured on."""
        learns = self.rounds or self.teacher_preferences is not None or self.offline_preferences is not None
        splits = {*self.evaluate.splits, *(["train"] if learns else [])}
        splits |= {"train", "valid"} if self.imitation is not None else set()
        splits |= {"valid"} if self.early_stopping is not None else set()
        return [example for example in examples if example.split in splits]

    def load_task(self, recipe_dir: Path | None = None) -> Task:
        """The task, restricted to ``styles``, of which ``style`` is the default. Raises as :meth:`Task.load` and
        :meth:`Task.restricted`."""
        return Task.load(self.task, recipe_dir).restricted(self.styles, self.style)

    def results_key(self) -> dict[str, Any]:
        """What of the recipe a run folder belongs to: not its caps and prices, nor how its models are reached, nor the
        judges beside the critic and the noise floor, which change nothing that is there and may come later."""
        settings = {k: v for k, v in identity_of(self).items() if k not in ("prices", "budget")}
        evaluation = {k: v for k, v in settings["evaluate"].items() if k not in ("judges", "noise_floor")}
        return {**settings, "evaluate": evaluation}

    @property
    def grader(self) -> CriticConfig | None:
        """What scores single responses; ``None`` where nothing here does."""
        return self.scorer or (self.critic if self.critic.can_grade else None)

    @field_validator("scorer", mode="before")
    @classmethod
    def _reward_unless_named(cls, value: Any) -> Any:
        return {"kind": "reward", **value} if isinstance(value, dict) else value

    @field_validator("scorer")
    @classmethod
    def _scores_single_responses(cls, scorer: CriticConfig | None) -> CriticConfig | None:
        if scorer is not None and not scorer.can_grade:
            raise ValueError(
                f"a critic of kind {scorer.kind} does not score single responses; use kind: reward or grade"
            )
        return scorer

    @field_validator("offline_preferences", mode="before")
    @classmethod
    def _verdicts_unless_named(cls, value: Any) -> Any:
        return {"kind": "verdicts", **value} if isinstance(value, dict) else value

    @field_validator("candidates", mode="before")
    @classmethod
    def _nucleus_unless_named(cls, value: Any) -> Any:
        return {"kind": "nucleus", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.imitation is None and self.student.adapter is None:
            raise ValueError(
                "imitation is null, but student.adapter names no student that imitates already; set one of them"
            )
        least = self.learn.objective.min_columns
        if self.rounds and self.learn.source != "teacher" and self.candidates.k < max(2, least):
            kind = self.learn.objective.kind
            raise ValueError(
                f"candidates.k is {self.candidates.k}, but {kind} compares {max(2, least)} candidates; set k >= 2"
            )
        unknown = [name for name in self.evaluate.students or () if name not in self.students]
        if unknown:
            raise ValueError(
                f"evaluate.students names {unknown[0]!r}, but the run's students are {', '.join(self.students)}"
            )
        if self.grader is None and (needs := self._needs_scores()):
            raise ValueError(
                f"{needs[0]} needs each response scored alone, which critic {self.critic.kind} does not do; set scorer: "
                f"{{kind: reward}} (or grade), or {needs[1]}"
            )
        return self

    def _needs_scores(self) -> tuple[str, str] | None:
        """A setting that needs scores of single responses, and one to use instead of it."""
        if self.early_stopping is not None and self.early_stopping.measure == "mean_grade":
            return "early_stopping.measure mean_grade", "early_stopping.measure: win_tie_rate"
        if self.teacher_preferences is not None and self.teacher_preferences.select.needs_scores:
            return (
                f"teacher_preferences.select {self.teacher_preferences.select.kind}",
                "teacher_preferences.select: {kind: diverse}",
            )
        if self.rounds and self.learn.source == "best_of_n":
            return "learn.source best_of_n", "learn.source: verdicts"
        if self.rounds and self.learn.source == "verdicts" and self.select.needs_scores:
            return f"select {self.select.kind}", "select: {kind: diverse}"
        return None


def load_recipe(reference: str, assignments: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """The recipe of a file, or of a name that ships, with ``--set`` overrides applied, and the folder its relative
    paths start from. Raises :class:`~quipwright.core.errors.RecipeError` or ``DataError`` in one line."""
    path = recipe_path(reference)
    tree = override(read_yaml(path, "Recipe"), assignments)
    tree.setdefault("name", path.stem)
    return validate(Recipe, tree, f"Recipe {path}"), path.parent
