"""A run is ended at a random instant of each of its stages, one after the other, and still finds what it would have found.

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

RUNS = 20
"""Each is ended once in every stage: so many instants of each stage."""
CODES = {signal.SIGKILL: (-signal.SIGKILL, -signal.SIGPROF), signal.SIGTERM: (143,), signal.SIGINT: (130,)}
"""How a command that was sent the signal ends; a timer that nobody handles stands in for SIGKILL."""
SIGNALS = (*[signal.SIGKILL] * 3, signal.SIGTERM, signal.SIGINT)


def kills(drill: Drill) -> None:
    """See the module. No answer that was stored is asked for again."""
    drill.fresh()
    expected = drill.result()
    for run in range(RUNS):
        shutil.rmtree(drill.run)
        sent = len(drill.server.bodies)
        for number, (stage, seconds) in enumerate(drill.seconds.items()):
            stop = SIGNALS[(run + number) % len(SIGNALS)]
            stopped = drill.distil(ended_in(stage, drill.rng.uniform(0, seconds), stop))
            if stopped.code not in (0, *CODES[stop]) or stopped.broke:
                drill.note(
                    "distil", f"stopped in {stage}", f"exit {stopped.code}", f"{stop.name}: {stopped.err[-600:]}"
                )
        ended = drill.distil()
        asked = len(drill.server.bodies) - sent
        if ended.code or drill.result() != expected:
            words, detail = "another result", f"run {run}: {ended.err[-600:] or 'exit 0'}"
        elif asked > len(LITERALS) + CONCURRENCY:
            words, detail = "answers asked for again", f"run {run}: {asked} requests for {len(LITERALS)} answers"
        else:
            words, detail = "again: same result", ""
        for stage in drill.seconds:
            drill.note("distil", f"stopped in {stage}", words, detail)


def ended_in(stage: str, seconds: float, number: signal.Signals) -> Callable[[], None]:
    """What makes a process send itself the signal ``number`` after so many ``seconds`` of processor time in ``stage``, and
    at the stage's end at the latest."""

    def hook() -> None:
        announce = StageCache._announce
        if number is not signal.SIGKILL:  # a timer's own signal ends the process without a word
            signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), number))
        begun: list[str] = []

        def announced(cache: StageCache, key: Any) -> None:
            announce(cache, key)
            if cache.current == stage:
                begun.append(stage)
                signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-4))
            elif begun:
                signal.setitimer(signal.ITIMER_PROF, 0)
                os.kill(os.getpid(), number)

        StageCache._announce = announced  # type: ignore[method-assign]

    return hook
