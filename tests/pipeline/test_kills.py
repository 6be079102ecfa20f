"""A run that is killed or torn goes on to the very result of the straight run.

The stages marked slow are for ``make test-all``; the fault drill kills at many more instants.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quipwright.data.run_summary import RunSummary
from quipwright.testing.runs import run
from tests.pipeline.results import result

Straight = tuple[Path, Path, RunSummary]
Kill = Callable[[str, Path], None]

ORDINARY = ("sft-imitation", "sample-1", "judge-1", "preference-1", "judge-test")
THOROUGH = ("teach", "select-1", "rank-1", "reference-1", "decode-feedback-test", "grade-test")
IN_TRAINING = "in training"

# Reads "stage<tab>folder" lines, runs the recipe in a fork that kills itself there, and answers with how the fork ended.
# The libraries are imported once; the forks have one thread, like this process.
_KILLER = """
import os, signal, sys
from pathlib import Path
import accelerate, peft, transformers.models.llama
from quipwright.core.metrics import Metrics
from quipwright.core.storage import stage_cache
from quipwright.pipeline import distil
from quipwright.testing.runs import run

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def killed(stage, folder):
    seal, add = stage_cache.seal, Metrics.add
    def seal_or_die(place, *rest):
        die() if place.name.startswith(stage + "-") else seal(place, *rest)
    def add_and_die(metrics, stage, round, step, values):
        add(metrics, stage, round, step, values)
        if step == 10:  # three steps behind the state that the next run resumes from
            die()
    if stage == "in training":
        Metrics.add = add_and_die
    else:
        stage_cache.seal = seal_or_die
    run(Path(sys.argv[1]), Path(folder))

for line in sys.stdin:
    fork = os.fork()
    if fork == 0:
        try:
            killed(*line.rstrip("\\n").split("\\t"))
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def kill(straight: Straight, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kill]:
    """Run the recipe in a folder until it is killed by SIGKILL before it seals a stage, or in the middle of training."""
    complaints = tmp_path_factory.mktemp("killer") / "stderr.txt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with (
        complaints.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", _KILLER, str(straight[0])], env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
        ) as killer,
    ):  # fmt: skip
        assert killer.stdin is not None
        assert killer.stdout is not None

        def run_until(stage: str, folder: Path) -> None:
            print(stage, folder, sep="\t", file=killer.stdin, flush=True)
            assert killer.stdout.readline() == f"{-signal.SIGKILL}\n", complaints.read_text()[-800:]

        yield run_until
        killer.stdin.close()


@pytest.mark.parametrize("stage", [*ORDINARY, *(pytest.param(stage, marks=pytest.mark.slow) for stage in THOROUGH)])
def test_killed_before_a_stage_is_sealed_it_resumes_to_the_same_result(
    straight: Straight, kill: Kill, tmp_path: Path, stage: str
) -> None:
    recipe, folder, summary = straight
    copy = tmp_path / "run"
    # Everything up to the stage stands; the process dies after the stage's work and before its seal.
    shutil.copytree(folder, copy)
    for arrow in (copy / "stages").iterdir():
        if arrow.name.startswith(stage + "-") or arrow.stat().st_mtime > _sealed_at(folder, stage):
            shutil.rmtree(arrow)
    kill(stage, copy)
    assert result(run(recipe, copy)) == result(summary)


def _sealed_at(folder: Path, stage: str) -> float:
    return next((folder / "stages").glob(f"{stage}-*")).stat().st_mtime


def test_killed_in_the_middle_of_training_it_resumes_to_the_same_weights(
    straight: Straight, kill: Kill, tmp_path: Path
) -> None:
    recipe, _, summary = straight
    kill(IN_TRAINING, tmp_path / "run")
    assert result(run(recipe, tmp_path / "run"))["checkpoints"] == result(summary)["checkpoints"]


def test_a_torn_chunk_is_made_again(straight: Straight, tmp_path: Path) -> None:
    recipe, folder, summary = straight
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    sample = next((copy / "stages").glob("sample-1-*"))
    (sample / "done.json").unlink()
    rows = (sample / "rows.jsonl").read_bytes()
    (sample / "rows.jsonl").write_bytes(rows[: int(len(rows) * 0.6)])
    assert result(run(recipe, copy)) == result(summary)
    assert (sample / "rows.jsonl").read_bytes() == rows
