"""What a command says beside its results: to people on standard error, and with the time to a log file if one is named."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quipwright.core.text import printable
from quipwright.core.version import VERSION

LOG = logging.getLogger("quipwright")
"""Everything that is said goes through here; without a log file nothing keeps it."""
LOG.addHandler(logging.NullHandler())
LOG.setLevel(logging.INFO)
LOG.propagate = False


@dataclass
class Shown:
    """How much people are told on standard error."""

    quiet: bool = False
    verbose: bool = False


SHOWN = Shown()


def loading(what: str) -> None:
    """Say at once what is being loaded, before it takes its seconds."""
    say(f"loading {what} …")


def say(line: str) -> None:
    """One line for people, unless they want quiet."""
    shown = printable(line)
    LOG.info(shown)
    if not SHOWN.quiet:
        print(shown, file=sys.stderr, flush=True)


def detail(line: str) -> None:
    """One line for those who want to know more."""
    shown = printable(line)
    LOG.info(shown)
    if SHOWN.verbose and not SHOWN.quiet:
        print(shown, file=sys.stderr, flush=True)


def open_log(path: Path, command: Sequence[str]) -> None:
    """Add to ``path`` from here on. Raises :class:`~quipwright.core.errors.DiskError` where it cannot be written."""
    from quipwright.core.storage.files import disk_errors  # takes its time, and few ask for a log

    close_log()
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    LOG.info("quipwright %s: %s", VERSION, printable(" ".join(command)))


def close_log() -> None:
    """Close the log file, if one is open, and be as talkative as usual again."""
    for handler in [h for h in LOG.handlers if isinstance(h, logging.FileHandler)]:
        LOG.removeHandler(handler)
        logging.getLogger("py.warnings").removeHandler(handler)
        handler.close()
        logging.captureWarnings(False)
