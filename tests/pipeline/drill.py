"""The fault drill: a run is killed, damaged and starved of disk in every way listed here, and each outcome is noted.

``python -m tests.pipeline.drill`` prints a table of outcomes. Commands run in forked children of this
process, so that a kill is a real kill and the libraries are imported once. An instant is chosen in processor time, so
that a busy machine changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from quipwright.cli.main import main
from quipwright.core.records import Judgment
from quipwright.core.storage.stage_cache import StageCache
from quipwright.data.run_summary import read_run
from quipwright.data.task import Task
from quipwright.evaluation.human.ratings import Ratings, items_of_run
from quipwright.testing.tiny_models import causal_network, tokenizer

KILLS = 3  # instants of each stage
LIMITS = tuple(2**n for n in range(12, 32))  # bytes: 20 sizes; what the command says goes to a file too
REFUSALS = (3, 4, 5, 6)
DISK_FULL = 10
DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {}
THINGS = ("bus", "cat", "boss", "lift", "printer", "soup", "train", "phone")


def damage(change: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], None]:
    """Note ``change`` as one way to damage a file."""
    DAMAGES[change.__name__] = change
    return change


@damage
def flipped(path: Path, rng: random.Random) -> None:
    """One bit is the other one."""
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@damage
def cut(path: Path, rng: random.Random) -> None:
    """The file ends somewhere within."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(max(1, len(content)))])


@damage
def emptied(path: Path, rng: random.Random) -> None:
    """The file has no bytes."""
    path.write_bytes(b"")


@damage
def deleted(path: Path, rng: random.Random) -> None:
    """The file is gone."""
    path.unlink()


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: killed by that signal), what it said, the files it opened."""

    code: int
    out: str
    err: str
    opened: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line of its error."""
        return next((line for line in self.err.splitlines() if line.startswith("quipwright: ")), "")


@dataclass
class Drill:
    """The straight run in ``folder`` and the outcomes so far: (part, what was done, outcome) with their numbers."""

    folder: Path
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The folder of the run that is damaged."""
        return self.folder / "run"

    def note(self, part: str, done: str, outcome: str, detail: str = "") -> None:
        """Count an ``outcome``; one with a ``detail`` is wrong."""
        self.outcomes[part, done, outcome] += 1
        if detail:
            self.wrong.append(f"{part}, {done}: {outcome}: {detail}")

    def fresh(self) -> None:
        """Put the straight run in place."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.folder / "straight", self.run)

    def distil(self, before: Callable[[], None] = lambda: None) -> Ended:
        """Run the recipe."""
        return child(["distil", str(self.folder / "tiny.yaml"), "--run", str(self.run)], self.folder, before)

    def result(self) -> str:
        """What the run found: its summary without how long each stage took."""
        kept = json.loads((self.run / "summary.json").read_text(encoding="utf-8"))
        kept.pop("stages")
        return json.dumps(kept, sort_keys=True)


def child(arguments: list[str], folder: Path, before: Callable[[], None] = lambda: None) -> Ended:
    """Run ``quipwright arguments`` in a forked child that calls ``before`` first."""
    out, err, opened = folder / "out.txt", folder / "err.txt", folder / "opened.txt"
    opened.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        _command(arguments, out, err, opened, before)
    _, status = os.waitpid(pid, 0)
    files = tuple(opened.read_text().splitlines()) if opened.exists() else ()
    told, said = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return Ended(os.waitstatus_to_exitcode(status), told, said, files)


def _command(arguments: list[str], out: Path, err: Path, opened: Path, before: Callable[[], None]) -> None:
    code = 1
    try:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        files: dict[str, None] = {}

        def note(event: str, values: tuple[object, ...]) -> None:
            if event in ("open", "sqlite3.connect"):
                files[str(values[0])] = None

        sys.addaudithook(note)
        sys.argv = ["quipwright", *arguments]
        before()
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        sys.stdout.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        opened.write_text("\n".join(files))
    finally:
        os._exit(code)


def prepare(folder: Path) -> Drill:
    """Tiny weights, two dozen literals, a recipe of every stage, and its straight run with votes of two people."""
    texts = [f"The {thing} in building {number} is broken again." for number in (1, 2, 3) for thing in THINGS]
    words = tokenizer(["<end>"], "$A", [*texts, "Plain: Funny: and nobody was surprised. Breaking news:"], 400,
                      eos_token="<end>", pad_token="<end>")  # fmt: skip
    words.save_pretrained(folder / "tiny")
    causal_network("llama", len(words), spread=0.02, positions=512).save_pretrained(folder / "tiny")
    splits = ["train"] * 16 + ["valid"] * 4 + ["test"] * 4
    with open(folder / "corpus.jsonl", "w", encoding="utf-8") as file:
        for text, split in zip(texts, splits, strict=True):
            answers = [text.replace("broken", "on strike"), f"Breaking news: {text.lower()}"]
            file.write(json.dumps({"literal": text, "split": split, "humorous": answers}) + "\n")
    train = "batch_size: 8, micro_batch_size: 4"
    (folder / "tiny.yaml").write_text(
        f"""
name: tiny
data: {{path: corpus.jsonl}}
teacher: {{kind: recorded, path: corpus.jsonl}}
student: {{weights: {folder}/tiny, precision: fp32, tuning: full, context: 300}}
imitation: {{train: {{epochs: 24, {train}, lr: 0.02, save_every: 12}}}}
candidates: {{k: 4, temperature: 1.0, top_p: 1.0, max_tokens: 60}}
select: {{kind: random}}
critic: {{kind: cloze, model: {{kind: local, weights: {folder}/tiny}}}}
rank: {{tie: 0.0, strength: 0.5}}
learn: {{train: {{epochs: 2, {train}, lr: 0.0005, save_every: 1}}}}
evaluate: {{decode: {{beams: 2, max_tokens: 60}}, best_of: 0, base: false, resamples: 200}}
""",
        encoding="utf-8",
    )
    drill = Drill(folder)
    ended = drill.distil(lambda: _clocked(folder / "seconds.json"))
    if ended.code:
        raise RuntimeError(f"the straight run failed: {ended.err[-800:]}")
    drill.seconds = json.loads((folder / "seconds.json").read_text())
    _let_people_rate(drill.run)
    shutil.move(drill.run, folder / "straight")
    return drill


def _let_people_rate(run: Path) -> None:
    items = items_of_run(read_run(run).samples, ["feedback", "teacher"], list(Task.load().questions))
    ratings = Ratings.open(run / "ratings", items)
    for pair, item in ratings.items.items():
        for person in ("ann", "bo"):
            for question in item.questions:
                ratings.vote(Judgment(pair_id=pair, judge=f"human:{person}", verdict="A", question=question))
    ratings.close()


def _clocked(target: Path) -> None:
    """Write to ``target`` how much processor time each stage takes."""
    announce, note = StageCache._announce, StageCache._note
    begun: dict[str, float] = {}

    def announced(cache: StageCache, key: object) -> None:
        announce(cache, key)
        begun[cache.current] = -time.process_time()

    def noted(cache: StageCache, key: object, *rest: object, **named: object) -> None:
        begun[cache.current] += time.process_time()
        target.write_text(json.dumps(begun))
        note(cache, key, *rest, **named)

    StageCache._announce, StageCache._note = announced, noted


def _killed_in(stage: str, seconds: float) -> None:
    """End this process without a word after so many ``seconds`` of processor time in ``stage``."""
    announce = StageCache._announce

    def announced(cache: StageCache, key: object) -> None:
        announce(cache, key)
        if cache.current == stage:
            signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-4))  # its signal's default is to end the process

    StageCache._announce = announced


def kills(drill: Drill) -> None:
    """Each stage is killed at random instants; the run that goes on finds what the straight run found."""
    drill.fresh()
    expected = drill.result()
    for stage, seconds in drill.seconds.items():
        for _ in range(KILLS):
            drill.fresh()
            _from(drill.run, stage)
            instant = drill.rng.uniform(0, seconds)
            killed = drill.distil(lambda stage=stage, instant=instant: _killed_in(stage, instant))
            if killed.code not in (0, -signal.SIGPROF):
                drill.note("killed", stage, "failed", killed.err[-400:])
            ended = drill.distil()
            same = ended.code == 0 and drill.result() == expected
            drill.note("killed", stage, "same result" if same else "different", "" if same else ended.err[-400:])


def _from(run: Path, stage: str) -> None:
    """Take away ``stage`` and all that was made after it."""
    for file in ("summary.json", "report.html"):
        (run / file).unlink()
    times = read_times(run.with_name("straight"))
    for folder in times[[name for name, _ in times].index(stage) :]:
        shutil.rmtree(run / "stages" / folder[1])


def read_times(run: Path) -> list[tuple[str, str]]:
    """The stages of a run with their folders, in their order."""
    return [(time.name, time.folder) for time in read_run(run).stages]


def commands(drill: Drill) -> dict[str, list[str]]:
    """Every command that reads a run's folder; what it writes goes to the folder ``made``."""
    run, made = str(drill.run), str(drill.folder / "made")
    return {
        "distil": ["distil", str(drill.folder / "tiny.yaml"), "--run", run],
        "write": ["write", "The bus in building 1 is broken again.", "--run", run],
        "export": ["export", run, f"{made}/student"],
        "compare": ["compare", f"{run}:feedback", f"{run}:imitation", "--judge", "rule:longer", "--json", f"{made}/c.json"],
        "report": ["report", run, "--output", f"{made}/report.html"],
        "rate": ["rate", run, "--export", f"{made}/votes.jsonl"],
        "train-critic": ["train-critic", "--run", run, "--export", f"{made}/verdicts.jsonl"],
    }  # fmt: skip


def files(drill: Drill) -> None:
    """Each file of a finished run is damaged, under every command that reads it."""
    for name, arguments in commands(drill).items():
        drill.fresh()
        straight, expected = _made(drill, name, arguments)
        if straight.code:
            drill.note(f"quipwright {name}", "nothing", "failed", straight.err[-400:])
            continue
        for file in sorted(_read_by(drill, name, straight)):
            for done, change in DAMAGES.items():
                drill.fresh()
                change(drill.run / file, drill.rng)
                ended, result = _made(drill, name, arguments)
                outcome, detail = _outcome(ended, result == expected, file)
                drill.note(f"quipwright {name}", done, outcome, detail and f"{file}: {detail}")


def _made(drill: Drill, name: str, arguments: list[str]) -> tuple[Ended, str]:
    """Run a command and return how it ended, and one text of everything that it made."""
    made = drill.folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    ended = child(arguments, drill.folder)
    if name == "distil":
        return ended, drill.result() if ended.code == 0 else ""
    hashes = [(str(p.relative_to(made)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in sorted(made.rglob("*"))
              if p.is_file()]  # fmt: skip
    return ended, ended.out + json.dumps(hashes)


def _read_by(drill: Drill, name: str, ended: Ended) -> Iterator[Path]:
    """The files of the run that a command may read: all for ``distil``, else those that it opened."""
    for path in (p for p in (drill.folder / "straight").rglob("*") if p.is_file()):
        file = path.relative_to(drill.folder / "straight")
        if "lock" not in path.name and (name == "distil" or str(drill.run / file) in ended.opened):
            yield file


def _outcome(ended: Ended, same: bool, file: Path) -> tuple[str, str]:
    """The outcome in words, and what is wrong with it if anything is."""
    if ended.code == 0:
        return ("same result", "") if same else ("different result", "exit 0")
    if "Traceback" in ended.err or ended.code not in REFUSALS:
        return f"exit {ended.code}", ended.err[-600:]
    named = file.name in ended.line or file.parent.name in ended.line
    return (f"refused ({ended.code})", "") if named else ("refused, file not named", ended.line)


def full_disk(drill: Drill) -> None:
    """No file may grow beyond a limit: one line, and the run goes on to the same result once there is room."""
    drill.fresh()
    expected = drill.result()
    for limit in LIMITS:
        shutil.rmtree(drill.run)
        ended = drill.distil(lambda limit=limit: _starve(limit))
        outcome, detail = _starved(ended)
        drill.note("full disk", "quipwright distil", outcome, detail and f"{limit} bytes: {detail}")
        again = drill.distil()
        same = again.code == 0 and drill.result() == expected
        drill.note("full disk", "quipwright distil, again with room", "same result" if same else "different",
                   "" if same else f"{limit} bytes: {again.err[-400:]}")  # fmt: skip
    arguments = commands(drill)["export"]
    drill.fresh()
    _, expected = _made(drill, "export", arguments)
    for limit in LIMITS:
        shutil.rmtree(drill.folder / "made")
        ended = child(arguments, drill.folder, lambda limit=limit: _starve(limit))
        outcome, detail = _starved(ended)
        drill.note("full disk", "quipwright export", outcome, detail and f"{limit} bytes: {detail}")
        again, result = _made(drill, "export", arguments)
        same = again.code == 0 and result == expected
        drill.note("full disk", "quipwright export, again with room", "same result" if same else "different",
                   "" if same else f"{limit} bytes: {again.err[-400:]}")  # fmt: skip


def _starve(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _starved(ended: Ended) -> tuple[str, str]:
    if ended.code in (0, DISK_FULL) and "Traceback" not in ended.err:
        return ("refused (10)", "") if ended.code else ("room enough", "")
    return f"exit {ended.code}", ended.err[-600:]


def table(drill: Drill) -> str:
    """All outcomes in Markdown."""
    rows = [f"| {part} | {done} | {outcome} | {n} |" for (part, done, outcome), n in sorted(drill.outcomes.items())]
    return "\n".join(["| what | how | outcome | times |", "| --- | --- | --- | ---: |", *rows])


PARTS = {"kills": kills, "files": files, "full-disk": full_disk}


def run_drill(folder: Path, parts: tuple[str, ...] = tuple(PARTS)) -> Drill:
    """Run the ``parts`` of the drill in ``folder``."""
    torch.set_num_threads(1)  # forked children must not wait for threads that they do not have
    drill = prepare(folder)
    for part in parts:
        PARTS[part](drill)
    return drill


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        finished = run_drill(Path(place), tuple(sys.argv[1:]) or tuple(PARTS))
    print(table(finished))
    print("\n".join(finished.wrong), file=sys.stderr)
    sys.exit(bool(finished.wrong))
