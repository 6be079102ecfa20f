"""A run's figures as one stream, ``metrics.jsonl``, and the trackers that replay it.

The file is the record; a tracker is only told what stands in it. So a run that was killed, or that is given a tracker
later, ends with the same curves as one that was not.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from quipwright.core.errors import DamagedError, RecipeError
from quipwright.core.records import content_hash
from quipwright.core.storage.files import disk_errors

FILE = "metrics.jsonl"
Tracker = Literal["tensorboard", "trackio", "wandb"]
Send = Callable[[int, Mapping[str, Any]], None]
"""Takes a line's number, from 0, and the line."""


class Metrics:
    """The open ``metrics.jsonl`` of one run. Use :meth:`open`.

    A line is a point: ``time`` (seconds since 1970), ``stage``, ``round``, ``step`` and ``values`` by name.
    """

    def __init__(self, file: TextIO, points: Sequence[Mapping[str, Any]], trackers: Sequence[Send]) -> None:
        """``points`` already stand in ``file``; ``trackers`` have been told of them."""
        self._file, self._trackers, self._lines = file, trackers, len(points)
        self._seen = {(p["stage"], p["round"], p["step"], name) for p in points for name in p["values"]}

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, name: str, track: Sequence[Tracker] = (), config: Mapping[str, Any] | None = None
    ) -> Iterator[Metrics]:
        """The stream of run folder ``folder``, replayed to the trackers in ``track`` as run ``name``.

        Raises :class:`RecipeError` where a tracker cannot start, :class:`DamagedError` where a line is unreadable.
        """
        path = folder / FILE
        points = _points(path)
        with ExitStack() as stack:
            trackers = [stack.enter_context(_TRACKERS[kind](folder, name, dict(config or {}))) for kind in track]
            for send in trackers:
                for number, point in enumerate(points):
                    send(number, point)
            with disk_errors(path):
                file = stack.enter_context(open(path, "a", encoding="utf-8"))
            yield cls(file, points, trackers)

    def add(self, stage: str, round: int, step: int, values: Mapping[str, float | None]) -> None:
        """Append a point; what is unknown, or was written before (a step repeated after a kill), is left out."""
        fresh = {n: v for n, v in values.items() if v is not None and (stage, round, step, n) not in self._seen}
        if not fresh:
            return
        point = {"time": _now(), "stage": stage, "round": round, "step": step, "values": fresh}
        with disk_errors(Path(self._file.name)):
            self._file.write(json.dumps(point, allow_nan=False) + "\n")
            self._file.flush()
        self._seen |= {(stage, round, step, n) for n in fresh}
        for send in self._trackers:
            send(self._lines, point)
        self._lines += 1


def _now() -> float:
    return round(time.time(), 3)


def _points(path: Path) -> list[dict[str, Any]]:
    """The whole lines of ``path``; a torn last one is cut off, its point will be made again."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        with disk_errors(path):
            os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        raise DamagedError(
            f"{path} holds a line that is not JSON.", "Remove the file: finished stages are written to it anew."
        ) from None


@contextmanager
def _tensorboard(folder: Path, name: str, config: dict[str, Any]) -> Iterator[Send]:
    package, place = _package("tensorboard", "tensorboardX"), folder / "tensorboard"
    with disk_errors(place):
        shutil.rmtree(place, ignore_errors=True)  # event files do not know what they hold: they are written anew
        writer = package.SummaryWriter(str(place))

    def send(number: int, point: Mapping[str, Any]) -> None:
        for tag, value in _tagged(point).items():
            writer.add_scalar(tag, value, point["step"], walltime=point["time"])

    try:
        yield send
    finally:
        writer.close()


@contextmanager
def _trackio(folder: Path, name: str, config: dict[str, Any]) -> Iterator[Send]:
    package = _package("trackio", "trackio")
    with _starting("trackio"):
        run = package.init(project="quipwright", name=_unique(name, folder), config=config, resume="allow")
    with _numbered(run, run._next_step) as send:
        yield send


@contextmanager
def _wandb(folder: Path, name: str, config: dict[str, Any]) -> Iterator[Send]:
    package, unique = _package("wandb", "wandb"), _unique(name, folder)
    with _starting("wandb"):
        run = package.init(project="quipwright", name=name, id=unique, resume="allow", config=config, dir=str(folder))
    with _numbered(run, run.starting_step) as send:
        yield send


_TRACKERS = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}


@contextmanager
def _numbered(run: Any, held: int) -> Iterator[Send]:
    """Sends line n as the run's step n, from ``held`` on: what a resumed run has already is not sent twice."""

    def send(number: int, point: Mapping[str, Any]) -> None:
        if number >= held:
            run.log({**_tagged(point), f"{point['stage']}/step": point["step"]}, step=number)

    try:
        yield send
    finally:
        run.finish()


def _tagged(point: Mapping[str, Any]) -> dict[str, float]:
    return {f"{point['stage']}/{name}": value for name, value in point["values"].items()}


def _unique(name: str, folder: Path) -> str:
    """A name by which a tracker finds the run of this folder again."""
    return f"{name}-{content_hash(str(folder.resolve()))}"


def _package(tracker: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RecipeError(
            f"track names {tracker}, but the package {name} is not installed.",
            f"Install it: pip install 'quipwright[{tracker}]', or leave it out: {FILE} holds the same figures.",
        ) from None


@contextmanager
def _starting(tracker: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each package has its own: no key, no server, a project of that name elsewhere
        raise RecipeError(
            f"{tracker} did not start: {str(error) or type(error).__name__}.",
            f"Mend that, or leave {tracker} out of track: {FILE} holds the same figures.",
        ) from None
