"""Several processes make one run: its rows byte for byte those of one process, its weights to rounding."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quipwright.core.records import Checkpoint
from quipwright.core.storage.shares import Parts
from quipwright.core.storage.stage_cache import ROWS
from quipwright.data.examples import load_examples
from quipwright.data.run_summary import RunSummary
from quipwright.pipeline.recipe import load_recipe
from quipwright.pipeline.stages.sample import sample
from quipwright.testing.runs import run_context
from quipwright.training.resume import LogEntry

Straight = tuple[Path, Path, RunSummary]

# Runs the recipe of argv in forks, as a launcher does: one that fails ends all. Fork number argv[4] kills itself at its
# chunk number argv[5] of the stages that are shared out. The libraries are imported once.
_LAUNCHER = """
import os, signal, sys
from pathlib import Path
import accelerate, peft, transformers.models.llama
from quipwright.core.storage.files import AppendOnly
from quipwright.core.storage.ranks import Ranks
from quipwright.core.storage.run_folder import RunFolder
from quipwright.pipeline.distil import distil, take_part
from quipwright.pipeline.recipe import load_recipe

recipe_file, folder, world, killed, chunks = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])

def work(rank):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    append, left = AppendOnly.append, [chunks]
    def counted(file, lines):
        if rank == killed and file.path.name.startswith("share-"):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        append(file, lines)
    AppendOnly.append = counted
    recipe, base = load_recipe(recipe_file, ())
    ranks = Ranks.of_environment()
    with RunFolder.open(folder, recipe.model_dump(mode="json"), identity=recipe.results_key(), ranks=ranks) as run:
        (distil if ranks.first else take_part)(recipe, run, base)
    ranks.part()

forks = {}
for rank in range(world):
    pid = os.fork()
    if pid == 0:
        try:
            work(rank)
            os._exit(0)
        except BaseException:
            __import__("traceback").print_exc()
            os._exit(1)
    forks[pid] = rank
worst = 0
while forks:
    pid, status = os.wait()
    forks.pop(pid)
    if code := os.waitstatus_to_exitcode(status):
        worst = worst or code
        for other in forks:
            os.kill(other, signal.SIGKILL)
sys.exit(worst if worst >= 0 else 128 - worst)
"""


def launched(straight: Straight, folder: Path, world: int, killed: int = -1, chunks: int = 0) -> int:
    """Run the recipe of ``straight`` in ``folder`` with ``world`` processes. Returns the first exit code that is not 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
    }  # fmt: skip
    command = [sys.executable, "-c", _LAUNCHER, str(straight[0]), str(folder), *map(str, (world, killed, chunks))]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert killed >= 0 or ended.returncode == 0, ended.stderr[-3000:]
    return ended.returncode


def entries(run: Path, stage: str) -> list[LogEntry]:
    """The training log of ``stage``."""
    (folder,) = run.glob(f"stages/{stage}-*")
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_rows_are_those_of_one_process_after_a_kill_and_with_another_number_of_processes(
    straight: Straight, tmp_path: Path
) -> None:
    run, draw = tmp_path / "run", random.Random(5)
    shutil.copytree(straight[1], run)
    made = [place for place in (run / "stages").iterdir() if (place / ROWS).exists()]
    assert {"sample", "reference", "judge", "grade", "decode", "best_of"} <= {
        place.name.split("-")[0] for place in made
    }
    for place in made:
        shutil.rmtree(place)
    (run / "summary.json").unlink()
    for world, most in ((2, 4), (3, 2)):
        code = launched(straight, run, world, killed=draw.randrange(2), chunks=draw.randrange(most))
        assert code == 128 + 9
    assert launched(straight, run, 2) == 0
    for place in made:
        assert (run / "stages" / place.name / ROWS).read_bytes() == (
            straight[1] / "stages" / place.name / ROWS
        ).read_bytes()
    one, many = (RunSummary.model_validate_json((where / "summary.json").read_text()) for where in (straight[1], run))
    assert many.model_dump(exclude={"stages"}) == one.model_dump(exclude={"stages"})


@pytest.mark.slow
def test_two_processes_train_what_one_does(straight: Straight, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert launched(straight, run, 2) == 0
    one, two = (entries(where, "sft-imitation") for where in (straight[1], run))
    assert len(one) == len(two)
    for alone, together in zip(one[:5], two[:5], strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert together["lr"] == alone["lr"]
    assert entries(run, "preference-1")[0]["step"] == 1
    assert not list(run.glob("stages/*/share-*"))


@pytest.mark.parametrize("stage", ["sample", "decode"])
def test_attempts_are_shared_out_whether_or_not_they_are_learnt_from(
    straight: Straight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    recipe, base = load_recipe(str(straight[0]))
    examples = load_examples(recipe.data, base)
    imitation: Checkpoint = straight[2].checkpoints["imitation"]
    made = []
    with run_context(recipe, tmp_path / "run", base) as ctx:
        monkeypatch.setattr(ctx.cache, "rows", lambda key, kind, chunks, **more: made.append(chunks) or [])
        sample(ctx, stage, "1", imitation, examples, recipe.candidates)
    assert isinstance(made[0], Parts)
    assert made[0].count == len(examples)
