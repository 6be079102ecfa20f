"""The real process: signals at any instant, help that loads nothing, and one line for whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from quipwright.cli.main import explained
from quipwright.core.errors import RecipeError

COMMAND = [sys.executable, "-m", "quipwright"]


def heard() -> None:
    """Hear Ctrl-C in a child, whoever started the tests: what a shell runs in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, preexec_fn=heard,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Wait for a line of standard error with ``words``."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"never saw {words!r}")


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "loading libraries"),
        (signal.SIGTERM, " steps"),
        pytest.param(signal.SIGTERM, "loading libraries", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, " steps", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_with_its_code_and_the_way_to_go_on(
    number: signal.Signals, moment: str, tiny_recipe: Path, tmp_path: Path
) -> None:
    process = start("distil", tiny_recipe, "--run", tmp_path / "run")
    read_until(process, moment)
    process.send_signal(number)
    _, rest = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in rest
    assert rest.splitlines()[-1] == (
        "quipwright: interrupted. Finished work is kept; go on with: "
        f"quipwright distil {tiny_recipe} --run {tmp_path / 'run'}"
    )


def test_a_server_ends_with_the_signals_code(tmp_path: Path) -> None:
    code = (
        "import sys; from quipwright.cli import main, app\n"
        "from quipwright.serving.http_server import make_server\n"
        "async def page(scope, receive, send): ...\n"
        "def run():\n"
        "    print('ready', file=sys.stderr, flush=True); make_server(page).run(); return 0\n"
        "app.run = run; main.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, bufsize=1)
    read_until(process, "ready")
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate()
    assert process.returncode == 143
    assert "Traceback" not in rest


@pytest.mark.slow
def test_an_interrupted_file_goes_on_with_the_line_that_was_shown(tiny_weights: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.tsv"
    source.write_text("".join(f"The train was late on day {day}.\n" for day in range(300)))  # more than one batch
    process = start("write", "--run", tiny_weights, "--input", source, "--output", target)
    read_until(process, "write: 75/300")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert not target.exists()
    shown = rest.splitlines()[-1]
    assert shown == (
        "quipwright: interrupted. Finished work is kept; go on with: "
        f"quipwright write --run {tiny_weights} --input {source} --output {target}"
    )
    again = subprocess.run([*COMMAND, *shlex.split(shown)[-7:]], capture_output=True, text=True, check=True)
    assert "write: 300/300" in again.stderr
    assert "write: 75/300" not in again.stderr
    assert len(target.read_text().splitlines()) == 301


def test_standard_input_and_output_are_files_too(tiny_weights: Path) -> None:
    command = [*COMMAND, "write", "--run", tiny_weights, "--input", "-", "--output", "-", "--format", "jsonl"]
    rows = '{"id": 1, "text": "It rains."}\n{"id": 2}\n'
    done = subprocess.run(command, input=rows, capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["id"] == 1
    assert isinstance(first["humorous"], list)
    assert second["id"] == 2
    assert "no field" in second["error"]


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("distil", "-h")])
def test_help_is_printed_and_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from quipwright.cli.app import run\n"
        "try: run()\n"
        "finally: print(sorted({'torch', 'transformers', 'numpy', 'rich', 'uvicorn'} & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True).stdout
    assert "Usage:" in shown
    assert "-h, --help" in shown
    assert shown.splitlines()[-1] == "[]"


def test_quiet_a_log_file_and_json_are_options_of_every_command(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "day.log"
    (tmp_path / "d.jsonl").write_text('{"literal": "It rains.", "split": "train"}\n{"literal": "It rains."}\n')
    sets = ["--set", f"data.path={tmp_path / 'd.jsonl'}", "--set", "data.duplicates=drop"]
    command = [*COMMAND, "distil", "demo", "--dry", *sets, "--log-file", str(log), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert [row["text"] for row in told["examples"]] == ["It rains."]
    failed = subprocess.run([*COMMAND, "data", "none", "--log-file", str(log), "-q"], capture_output=True, text=True)
    assert failed.returncode == 3
    assert failed.stderr.count("\n") == 1
    lines = log.read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["INFO", "INFO", "ERROR"]
    assert "quipwright distil demo --dry" in lines[0]
    assert "does not ship" in lines[-1]


def test_what_loads_is_said_at_once_and_not_to_those_who_want_quiet(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('{"literal": "It rains.", "a": "x", "b": "y", "verdict": "a"}\n')
    command = [*COMMAND, "audit", "--labels", str(tmp_path / "l.jsonl"), "--critic", "rule:longer"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stderr.splitlines()[0] == "loading libraries …"
    quiet = subprocess.run([*command, "-q"], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    assert "agreement" in quiet.stdout


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str, place: int) -> list[str]:
        shell = {"_QUIPWRIGHT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        return subprocess.run(COMMAND, capture_output=True, text=True, env={**os.environ, **shell}).stdout.split()

    assert completed("quipwright wri", 1) == ["write"]
    assert "--log-file" in completed("quipwright write --lo", 2)


def test_a_wrong_option_names_the_help_of_its_command() -> None:
    done = subprocess.run([*COMMAND, "audit"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "quipwright: Missing option '--labels'. Try quipwright audit --help.\n",
    )


def test_data_cannot_command_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"literal": "A \\u001b]0;PWNED\\u0007 sentence.", "split": "train"}\n')
    done = subprocess.run(
        [*COMMAND, "data", "demo", "--set", f"data.path={tmp_path / 'd.jsonl'}"], capture_output=True, text=True
    )
    assert r"A \x1b]0;PWNED\x07 sentence." in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_letters_that_a_terminal_lacks_end_no_command(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"literal": "Das Café war zu, 皆.", "split": "train"}\n', encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, "data", "demo", "--set", f"data.path={tmp_path / 'd.jsonl'}"],
        capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert r"Das Caf\xe9 war zu, \u7686." in done.stdout


def test_letters_that_the_locale_lacks_are_read_or_told(quipwright: Callable[..., tuple[int, str, str]]) -> None:
    code, _, told = quipwright("write", "\udcc2\udcbf!")  # as Python gives the bytes of UTF-8 in such a locale
    assert (code, "There is no sentence in '\xbf!'" in told) == (3, True)
    code, _, told = quipwright("data", "demo", "--set", "data.path=caf\udcc3\udca9.jsonl")
    assert (code, "Use a UTF-8 one: LC_ALL=C.UTF-8" in told) == (2, True)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RecipeError("x is wrong.", "Mend it."), 2, ["x is wrong. Mend it."]),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            10,
            ["/data/x: No space left", "Free disk space"],
        ),
        (OSError(errno.EMFILE, "Too many open files"), 10, ["Too many open files", "ulimit -n"]),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n"), 10, ["File name too long", "shorter name"]),
        (MemoryError(), 1, ["not enough memory"]),
        (RecursionError("maximum recursion depth"), 3, ["nested too deeply"]),
        (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), 10, ["written", "disk"]),
        (SafetensorError("Error while deserializing header: invalid"), 6, ["could not be read"]),
        (KeyError("x"), 1, ["unexpected KeyError", "This is a defect"]),
    ],
)
def test_every_error_is_one_line_with_a_code(error: Exception, code: int, words: list[str]) -> None:
    line, exit_code = explained(error)
    assert exit_code == code
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_defect_shows_no_traceback_unless_asked() -> None:
    code = "from quipwright.cli import main, app\ndef run(): raise KeyError('lost\\x1b[2J')\napp.run = run; main.main()"
    for more, traces in (({}, 0), ({"QUIPWRIGHT_TRACEBACK": "1"}, 1)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **more})
        assert done.returncode == 1
        assert done.stderr.count("Traceback") == traces
        assert "quipwright: unexpected KeyError" in done.stderr.splitlines()[-1]
        assert "\x1b" not in done.stderr
