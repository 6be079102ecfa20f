"""What a run found: one typed object, written by the run as ``summary.json`` and read by everything that comes later."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from quipwright.core.errors import DamagedError, RunError
from quipwright.core.records import Checkpoint, Record
from quipwright.core.results import Note, PairedDifference, PairScores, PairwiseResult, Quality, Sample
from quipwright.core.storage.files import damaged, file_sha256, read_json, write_atomic
from quipwright.core.storage.run_folder import MANIFEST, read_manifest, record_fact, stages_of
from quipwright.core.storage.stage_cache import StageTime, read_sealed_rows
from quipwright.data.teacher import Yield
from quipwright.llm.costs import Spent

R = TypeVar("R", bound=Record)
SUMMARY = "summary.json"


class TrainingPoint(BaseModel):
    """What validation read at an epoch's end within a round: ``number`` is the step."""

    model_config = ConfigDict(frozen=True)

    number: int
    rate: float
    issues: tuple[str, ...] = ()


class TrainingFacts(BaseModel):
    """One training: its rows, losses by step, validation losses by epoch (nats per token), BRIO's mean length, and what
    validation read on the way."""

    model_config = ConfigDict(frozen=True)

    rows: int
    losses: list[float]
    validation: list[float] = []
    mean_length: float | None = None
    readings: list[TrainingPoint] = []


class Counts(BaseModel):
    """How much of everything a run had. ``left_out``: rows of the data that were not used, by reason.
    ``dropped``: statuses of unusable responses with their numbers, by stage;
    ``unanswered``: rows that no model answered, by stage; ``selected``: pairs, those within the length rule, literals
    with pairs and those paired, by stage; ``rankings`` and ``strength``: their number and mean strength by round;
    ``teacher_yield``: of a live teacher."""

    model_config = ConfigDict(frozen=True)

    literals: dict[str, int]
    teacher: int
    untaught: int
    left_out: dict[str, int] = {}
    rankings: list[int] = []
    strength: list[float] = []
    selected: dict[str, dict[str, int]] = {}
    dropped: dict[str, dict[str, int]] = {}
    unanswered: dict[str, int] = {}
    teacher_yield: Yield | None = None


class RunSummary(BaseModel):
    """What a run found. Rates carry their intervals; nothing here is computed twice elsewhere.

    ``recipe`` and ``task`` are the settings and the whole task file as JSON, so that a student can be used where those
    files are not; ``defaults`` are those of a recipe that sets nothing.
    ``scores``: the training critic's, input by input, for paired comparisons of runs. ``spent``: on calls,
    of this run. ``models``: what is known of what each teacher or critic can do.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    recipe: dict[str, Any]
    defaults: dict[str, Any] = {}
    versions: dict[str, str]
    pairwise: list[PairwiseResult]
    differences: list[PairedDifference]
    quality: list[Quality]
    stages: list[StageTime]
    critic: dict[str, Any]
    checkpoints: dict[str, Checkpoint]
    training: dict[str, TrainingFacts]
    counts: Counts
    warnings: list[Note]
    samples: list[Sample]
    scores: list[PairScores] = []
    spent: list[Spent] = []
    task: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}

    @property
    def style(self) -> str:
        """The style in which its students were sampled and evaluated; empty for a task without styles."""
        return str(self.task.get("default_style") or next(iter(self.task.get("styles") or ()), ""))

    def write(self, run: Path) -> None:
        """Write the summary to the folder of its run, and its SHA-256 into the run's manifest."""
        write_atomic(run / SUMMARY, self.model_dump_json(indent=1))
        record_fact(run, SUMMARY, file_sha256(run / SUMMARY))

    def stage_rows(self, run: Path, kind: type[R], *stages: str) -> list[R]:
        """The rows of the run's ``stages`` (``teach``, ``judge`` …; all parts of each), read through their seals.

        Raises :class:`~quipwright.core.errors.DamagedError` where a file was changed or is gone.
        """
        folders: Iterable[str] = (time.folder for time in self.stages if time.stage in stages)
        return [row for folder in dict.fromkeys(folders) for row in read_sealed_rows(stages_of(run) / folder, kind)]


def read_run(run: Path) -> RunSummary:
    """The summary of the finished run in folder ``run``.

    Raises :class:`RunError` where there is none of this version, and
    :class:`~quipwright.core.errors.DamagedError` where the file cannot be read or is not what the run wrote.
    """
    path = run / SUMMARY
    if not path.exists():
        reason = "is not finished" if (run / MANIFEST).exists() else "is no run folder"
        raise RunError(f"{run} {reason}.", "Name the folder of a finished run (quipwright distil RECIPE --run DIR).")
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise damaged(path, ValueError("not a JSON object"))
    if file_sha256(path) != read_manifest(run).get(SUMMARY):
        raise DamagedError(
            f"{path} is not what its run wrote: its hash is not the one in {MANIFEST}.",
            "Run the recipe again: the summary is written anew, and what is finished is not made twice.",
        )
    try:
        return RunSummary.model_validate(tree)
    except ValidationError as error:
        issue = error.errors(include_url=False)[0]
        where = ".".join(map(str, issue["loc"]))
        raise RunError(
            f"{path} is no summary of this version: {where}: {issue['msg']}.",
            "Run the recipe again; what is finished is not made twice.",
        ) from None
