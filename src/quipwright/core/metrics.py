"""A run's figures as one stream, ``metrics.jsonl``, and the trackers that replay it.

The file is the record; a tracker is only sent what stands in it. So a run that was killed, or that is given a tracker
later, ends with the same curves as one that was not.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from quipwright.core.errors import DamagedError, RecipeError
from quipwright.core.records import Record, content_hash
from quipwright.core.storage.files import AppendOnly, disk_errors, read_lines, write_atomic

FILE = "metrics.jsonl"
Tracker = Literal["tensorboard", "trackio", "wandb"]


class Point(Record):
    """One line of the stream: ``values`` by name at a step of a stage. ``time`` is in seconds since 1970, UTC."""

    model_config = ConfigDict(allow_inf_nan=False)

    time: float
    stage: str
    round: int
    step: int
    values: dict[str, float]

    def tagged(self) -> dict[str, float]:
        """The values by ``stage/name``."""
        return {f"{self.stage}/{name}": value for name, value in self.values.items()}


Send = Callable[[int, Point], None]
"""Takes a line's number, from 0, and its point."""


class Metrics:
    """The open ``metrics.jsonl`` of one run. Use :meth:`open`."""

    def __init__(self, file: AppendOnly | None, points: Sequence[Point], trackers: Sequence[Send]) -> None:
        """``points`` already stand in ``file``; ``trackers`` were sent them."""
        self._file, self._trackers, self._lines = file, trackers, len(points)
        self._seen = {(p.stage, p.round, p.step, name) for p in points for name in p.values}

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, name: str, track: Sequence[Tracker] = (), config: Mapping[str, Any] | None = None
    ) -> Iterator[Metrics]:
        """The stream of run folder ``folder``, replayed to the trackers in ``track`` as run ``name``.

        Raises :class:`RecipeError` where a tracker cannot start, :class:`DamagedError` where a line is unreadable.
        """
        with ExitStack() as stack:
            file = AppendOnly(folder / FILE)
            stack.callback(file.close)
            points = _points(folder / FILE)
            trackers = [stack.enter_context(_TRACKERS[kind](folder, name, dict(config or {}))) for kind in track]
            for send in trackers:
                for number, point in enumerate(points):
                    send(number, point)
            yield cls(file, points, trackers)

    @classmethod
    @contextmanager
    def nowhere(cls) -> Iterator[Metrics]:
        """A stream that keeps nothing, for a process that does not own the run."""
        yield cls(None, (), ())

    def add(self, stage: str, round: int, step: int, values: Mapping[str, float | None]) -> None:
        """Append a point. Left out is what is unknown (``None`` or not finite) and what was written before, by a step
        that is repeated after a kill. Raises :class:`DiskError` where the file cannot be written."""
        fresh = {
            name: value
            for name, value in values.items()
            if value is not None and math.isfinite(value) and (stage, round, step, name) not in self._seen
        }
        if not fresh or self._file is None:
            return
        point = Point(time=_now(), stage=stage, round=round, step=step, values=fresh)
        self._file.append([point.to_line()])
        self._seen |= {(stage, round, step, name) for name in fresh}
        for send in self._trackers:
            send(self._lines, point)
        self._lines += 1


def _now() -> float:
    return round(time.time(), 3)


def _points(path: Path) -> list[Point]:
    try:
        return [Point.from_line(line) for line in read_lines(path)]
    except (ValueError, RecursionError):
        raise DamagedError(
            f"{path} holds a line that is no point or was changed.",
            "Remove the file: finished stages are written to it anew.",
        ) from None


@contextmanager
def _tensorboard(folder: Path, name: str, config: dict[str, Any]) -> Iterator[Send]:
    from accelerate.tracking import TensorBoardTracker

    place = folder / "tensorboard"
    with disk_errors(place):
        shutil.rmtree(place, ignore_errors=True)  # event files do not know what they hold: they are written anew
        tracker = _started("tensorboard", TensorBoardTracker("", place))

    def send(number: int, point: Point) -> None:
        tracker.log(point.tagged(), step=point.step, walltime=point.time)

    try:
        yield send
    finally:
        tracker.finish()


@contextmanager
def _wandb(folder: Path, name: str, config: dict[str, Any]) -> Iterator[Send]:
    from accelerate.tracking import WandBTracker

    settings = {"id": _unique(name, folder), "resume": "allow", "config": config, "dir": str(folder)}
    tracker = _started("wandb", WandBTracker("quipwright", name=name, **settings))
    try:
        yield _numbered(tracker, tracker.tracker.starting_step)
    finally:
        tracker.finish()


@contextmanager
def _trackio(folder: Path, name: str, config: dict[str, Any]) -> Iterator[Send]:
    """trackio does not say what a resumed run holds, so the run folder notes how many lines it was sent.

    The note is written once trackio has finished: after a kill some points may be sent twice, but none is lost.
    """
    from accelerate.tracking import TrackioTracker

    note = folder / "trackio.sent"
    settings = {"name": _unique(name, folder), "config": config, "resume": "allow"}
    tracker = _started("trackio", TrackioTracker("quipwright", **settings))
    lines = held = _noted(note)
    send_new = _numbered(tracker, held)

    def send(number: int, point: Point) -> None:
        nonlocal lines
        send_new(number, point)
        lines = max(lines, number + 1)

    try:
        yield send
    finally:
        tracker.finish()
        write_atomic(note, str(lines))


_TRACKERS = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}


def _noted(path: Path) -> int:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return int(text) if text.isdecimal() and len(text) < 12 else 0


def _numbered(tracker: Any, held: int) -> Send:
    """Sends line n as the run's step n, from ``held`` on: what a resumed run has already is not sent twice."""

    def send(number: int, point: Point) -> None:
        if number >= held:
            tracker.log({**point.tagged(), f"{point.stage}/step": point.step}, step=number)

    return send


def _unique(name: str, folder: Path) -> str:
    """A name by which a tracker finds the run of this folder again."""
    return f"{name}-{content_hash(str(folder.resolve()))}"


def _started(kind: Tracker, tracker: Any) -> Any:
    """``tracker`` of Accelerate, started. Raises :class:`RecipeError` where its package is missing or refuses."""
    from accelerate import PartialState

    PartialState()  # Accelerate's trackers log through it
    try:
        tracker.start()
    except ImportError:
        package = "tensorboardX" if kind == "tensorboard" else kind
        raise RecipeError(
            f"track names {kind}, but the package {package} is not installed.",
            f"Install it: pip install 'quipwright[{kind}]', or leave it out: {FILE} holds the same figures.",
        ) from None
    except Exception as error:  # each package has its own: no key, no server, a project of that name elsewhere
        raise RecipeError(
            f"{kind} did not start: {str(error) or type(error).__name__}.",
            f"Mend that, or leave {kind} out of track: {FILE} holds the same figures.",
        ) from None
    return tracker
