"""The process ``quipwright``: signals, exit codes, and one line for whatever goes wrong.

Next to nothing is imported before the signal handlers are in place, so that Ctrl-C and SIGTERM end the
command in the same way at any instant.
"""

from __future__ import annotations

import os
import signal
import sys

from quipwright.core.os_errors import os_remedy

TYPE_CHECKING = False  # as typing's; modules that take their time are imported behind the handlers
if TYPE_CHECKING:
    import threading
    from types import FrameType
    from typing import Any

GRACE = 8.0  # seconds a command has to end by itself once it was told to
_DISK, _WEIGHTS, _INPUT, _USAGE = 10, 6, 3, 2  # exit codes as in core.errors


def main() -> None:
    """Entry point: run the command and leave with its exit code; errors are one line, and Ctrl-C keeps what is finished."""
    stop = Stop()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from quipwright.cli.app import run

        code = run()
        sys.stdout.flush()
        if stop.signal:  # the option parser turns the interruption into a code
            code = _ended(KeyboardInterrupt(), stop)
    except BaseException as error:
        code = _ended(error, stop)
    if stop.signal:  # threads that still wait for an answer would hold up a plain exit
        os._exit(stop.code)
    stop.done()
    sys.exit(code)


class Stop:
    """Turns SIGINT and SIGTERM into ``KeyboardInterrupt``, and leaves by force where that is not enough.

    A library may swallow the exception while it is imported, and native code may run on for long: after ``GRACE``
    seconds, or at a second signal, the process ends as after a kill, which loses nothing that was finished.
    """

    def __init__(self) -> None:
        """Install the handlers; outside the main thread there is nothing to install."""
        self.signal = 0
        self._timer: threading.Timer | None = None
        self._before: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._told)
            except ValueError:  # not the main thread
                return

    @property
    def code(self) -> int:
        """The exit code after a signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    def done(self) -> None:
        """The command has ended by itself: give the signals back."""
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _told(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            self._leave()
        import threading

        self.signal = number
        self._timer = threading.Timer(GRACE, self._leave)
        self._timer.daemon = True
        self._timer.start()
        raise KeyboardInterrupt

    def _leave(self) -> None:
        os.write(2, f"{stopped_line()}\n".encode(errors="replace"))
        os._exit(self.code)


def stopped_line() -> str:
    """What a stopped command says: what to do to go on."""
    import shlex

    command = shlex.join(["quipwright", *sys.argv[1:]])
    return f"quipwright: interrupted. Finished work is kept; go on with: {_harmless(command)}"


def explained(error: BaseException) -> tuple[str, int]:
    """One line on ``error``, with its remedy, and the exit code."""
    message = " ".join(str(error).split())[:400]
    if isinstance(exit_code := getattr(error, "exit_code", None), int) and hasattr(error, "problem"):
        return message, exit_code  # a QuipwrightError; importing its class here could fail like anything else
    if hasattr(error, "format_message"):  # of the option parser
        where = getattr(getattr(error, "ctx", None), "command_path", "quipwright")
        return f"{' '.join(str(error.format_message()).split())} Try {where} --help.", _USAGE
    kind = type(error).__name__
    if isinstance(error, OSError):
        name = error.filename or ""
        where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) and name else ""
        return f"{where}{error.strerror or message}. {os_remedy(error.errno)}.", _DISK
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return "There is not enough memory. Use a smaller batch, context or model, or free memory.", 1
    if isinstance(error, RecursionError):
        return "Something is nested too deeply. Check the files that the command reads.", _INPUT
    if kind == "SafetensorError":
        full = "os error" in message
        remedy = "Free disk space, or write elsewhere." if full else "Make or fetch the weights again."
        return f"Weights could not be {'written' if full else 'read'}: {message}. {remedy}", _DISK if full else _WEIGHTS
    return f"unexpected {kind}: {message}. This is a defect; -v shows where.", 1


def _ended(error: BaseException, stop: Stop) -> int:
    """Say what ended the command, and return its exit code."""
    if stop.signal or isinstance(error, KeyboardInterrupt):  # whatever an interrupted import made of the signal
        _say(stopped_line())
        return 128 + (stop.signal or signal.SIGINT)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError):  # the reader of the output has gone, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13
    log = sys.modules.get("quipwright.core.log")  # importing it here could fail like anything else
    if os.environ.get("QUIPWRIGHT_TRACEBACK") or (log is not None and log.SHOWN.verbose):
        import traceback

        traceback.print_exception(error)
    line, code = explained(error)
    _say(f"quipwright: {_harmless(line)}")
    return code


def _harmless(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError, UnicodeError):  # a closed terminal, or one that lacks the letters
        os.write(2, line.encode("ascii", "backslashreplace") + b"\n")
