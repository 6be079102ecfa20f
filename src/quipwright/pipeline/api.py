"""The functions of ``import quipwright``: what the commands do, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quipwright.core.paths import resolve
from quipwright.core.statistics import RESAMPLES
from quipwright.core.storage.run_folder import RunFolder
from quipwright.critics.loading import opened
from quipwright.data.examples import Row
from quipwright.data.run_summary import RunSummary
from quipwright.data.task import DEFAULT_TASK, Task
from quipwright.evaluation.audit import AuditReport, audit_critic
from quipwright.evaluation.compare import CompareResult
from quipwright.evaluation.compare import compare as compare_systems
from quipwright.evaluation.human.labels import read_labels, sampled_pairs
from quipwright.evaluation.report.pages import report_run
from quipwright.evaluation.similarity import Meaning
from quipwright.evaluation.systems import Outputs, distinct, open_system
from quipwright.pipeline.distil import distil as run_recipe
from quipwright.pipeline.recipe import Recipe, load_recipe
from quipwright.serving.writer import SHIPPED, Writer

CALLS = Path("runs") / "evidence"
"""Where answers of language models are kept, so that no question is paid for twice."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and everything that it found."""

    folder: Path
    summary: RunSummary

    def load(self, student: str | None = None) -> Writer:
        """The run's student of that name, by default the last one trained."""
        return Writer.of_run(self.folder, student)

    def report(self) -> Path:
        """Write the run's page, ``report.html`` in its folder, and return its path."""
        return report_run(self.folder)


def load(reference: str | Path = SHIPPED, *, student: str | None = None, allow_sensitive: bool = False) -> Writer:
    """A trained student, ready to write.

    ``reference`` is ``shipped``, the folder of a run, the folder of an export, or a hub id such as ``owner/name``.
    ``student`` names one of a run's students; by default it is the last one trained. A sentence about death, self-harm,
    abuse, illness, disaster or a protected group comes back as it is, unless ``allow_sensitive``.

    >>> quipwright.load().write("I missed the bus.")  # doctest: +SKIP
    ['The bus left without me, and it did not even look back.']

    Raises :class:`~quipwright.core.errors.RunError` for a run that is not finished,
    :class:`~quipwright.core.errors.DamagedError` where weights are not those that were trained, and
    :class:`~quipwright.core.errors.WeightsError` where there is nothing to load.
    """
    writer = Writer.load(reference, student)
    writer.allow_sensitive = allow_sensitive
    return writer


def distil(recipe: str | Path | Recipe, *, run: str | Path | None = None, settings: Sequence[str] = ()) -> Run:
    """Run ``recipe`` (a file, the name of one that ships, or a :class:`Recipe`) and return what it found.

    ``run`` is the folder (default: ``runs/NAME``); what is finished in it is not made twice. ``settings`` override the
    recipe's, each written as ``a.b=c``. Paths in a :class:`Recipe` start at the current folder, in a file at its folder.
    Raises :class:`~quipwright.core.errors.QuipwrightError` with the reason and the remedy in one line.
    """
    if isinstance(recipe, Recipe):
        loaded, base = recipe, Path.cwd()
    else:
        loaded, base = load_recipe(str(recipe), settings)
    folder = Path(run) if run is not None else Path("runs") / loaded.name
    with RunFolder.open(folder, loaded.model_dump(mode="json"), identity=loaded.results_key()) as opened_run:
        summary = run_recipe(loaded, opened_run, base)
    return Run(folder, summary)


def compare(
    *systems: str | Path | Outputs,
    judges: Sequence[str] = ("reward",),
    literals: Sequence[str] | None = None,
    task: str = DEFAULT_TASK,
    tie: float = 0.05,
    resamples: int = RESAMPLES,
    guard: bool = True,
    calls: Path = CALLS,
) -> CompareResult:
    """Every system against the last one, by every judge, with intervals, tests and length control.

    A system is ``RUN``, ``RUN:STUDENT``, a file of outputs, ``teacher`` or ``shipped`` (those that ship), an export's
    folder, a hub id, or :class:`~quipwright.evaluation.systems.Outputs`. ``judges`` are critics as ``quipwright audit``
    names them.
    ``literals``: sentences that students answer anew. ``tie`` is the half-width of the band around one half that counts
    as a tie. ``guard``: copies and broken texts lose, whatever the judge says.
    Raises :class:`~quipwright.core.errors.DataError` where the systems have no sentence in common.
    """
    chosen = Task.load(task)
    rows = None if literals is None else [Row(i, text, {}) for i, text in enumerate(literals, 1)]
    outputs = [s if isinstance(s, Outputs) else open_system(str(s), rows, chosen) for s in systems]
    with opened(judges, calls, task) as loaded:
        return compare_systems(
            distinct(outputs), [one.critic for one in loaded], grades=chosen.grades, tie=tie, resamples=resamples,
            guard=guard, meaning=Meaning.installed(),
        )  # fmt: skip


def audit(
    critic: str,
    labels: str | Path,
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    floor: float = 0.6,
    task: str = DEFAULT_TASK,
    calls: Path = CALLS,
) -> AuditReport:
    """How far ``critic`` agrees with people, with its biases and its calibration.

    ``critic`` is named as ``quipwright audit`` names it: ``reward``, ``rule:longer``, a trained critic's folder, a
    ``.yaml`` file … ``labels`` is a file of human verdicts (``bundled:NAME`` for one that ships) or the ``ratings``
    folder of a run. At most ``limit`` pairs of ``split`` are used, drawn by ``seed``. ``floor`` is the agreement that a
    critic must show. Raises :class:`~quipwright.core.errors.DataError` where there is no labelled pair.
    """
    chosen = Task.load(task)
    pairs = sampled_pairs(read_labels(resolve(str(labels), "Labels"), split, chosen), limit, seed)
    with opened([critic], calls, task) as (loaded,):
        return audit_critic(loaded.critic, pairs, floor, loaded.store, list(chosen.questions))
