"""Each stage is ended at random instants; the run that goes on finds what the straight run found.

An instant is chosen in processor time, so that a busy machine changes nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

from quipwright.core.storage.stage_cache import StageCache
from tests.drill.small_run import CONCURRENCY, LITERALS, Drill

INSTANTS = 20
"""Of each stage."""
CODES = {signal.SIGKILL: -signal.SIGPROF, signal.SIGTERM: 143, signal.SIGINT: 130}
"""How a command that was sent the signal ends; a timer that nobody handles stands in for SIGKILL."""
SIGNALS = (*[signal.SIGKILL] * 3, signal.SIGTERM, signal.SIGINT)


def kills(drill: Drill) -> None:
    """See the module. No answer that was stored is asked for again."""
    drill.fresh()
    expected = drill.result()
    for stage, seconds in drill.seconds.items():
        for instant in range(INSTANTS):
            number = SIGNALS[instant % len(SIGNALS)]
            how = f"stopped in {stage}"
            drill.fresh()
            _take_away(drill, stage)
            sent = len(drill.server.bodies)
            stopped = drill.distil(ended_in(stage, drill.rng.uniform(0, seconds), number))
            if stopped.code not in (0, CODES[number]) or stopped.broke:
                drill.note("distil", how, f"exit {stopped.code}", f"{number.name}: {stopped.err[-600:]}")
                continue
            again = drill.distil()
            asked = len(drill.server.bodies) - sent
            if again.code or drill.result() != expected:
                drill.note("distil", how, "another result", f"{number.name}: {again.err[-600:] or 'exit 0'}")
            elif asked > len(LITERALS) + CONCURRENCY:
                drill.note("distil", how, "asked again", f"{asked} requests for {len(LITERALS)} answers")
            else:
                drill.note("distil", how, "again: same result")


def _take_away(drill: Drill, stage: str) -> None:
    """Take away ``stage`` and all that was made after it; with the teacher's stage the stored answers too."""
    for file in ("summary.json", "report.html"):
        (drill.run / file).unlink()
    stages = drill.stages()
    names = [name for name, _ in stages]
    for _, folder in stages[names.index(stage) :]:
        shutil.rmtree(drill.run / "stages" / folder)
    if stage == names[0]:
        for file in drill.run.glob("calls.*"):
            file.unlink()


def ended_in(stage: str, seconds: float, number: signal.Signals) -> Callable[[], None]:
    """What makes a process send itself the signal ``number`` after so many ``seconds`` of processor time in ``stage``."""

    def hook() -> None:
        announce = StageCache._announce
        if number is not signal.SIGKILL:  # a timer's own signal ends the process without a word
            signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), number))

        def announced(cache: StageCache, key: Any) -> None:
            announce(cache, key)
            if cache.current == stage:
                signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-4))

        StageCache._announce = announced  # type: ignore[method-assign]

    return hook
