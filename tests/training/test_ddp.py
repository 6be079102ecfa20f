"""Two processes end with the weights of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

_SCRIPT = """
import sys
from pathlib import Path
import torch
from quipwright.testing.tiny_models import CharacterTask, causal_student, seq2seq_student
from quipwright.training.objectives import BRIO, DPO, MLE
from quipwright.students.scoring import score_rows
from quipwright.training.loop import train
from quipwright.training.settings import TrainSettings
folder, family, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
# plain gradient descent: Adam would turn rounding of tiny gradients into whole steps
torch.optim.AdamW = lambda groups, lr: torch.optim.SGD(groups, lr)
student = causal_student() if family == "llama" else seq2seq_student(family)
objective = {"mle": MLE(), "dpo": DPO(), "brio": BRIO(rank_weight=1)}[name]
rows = CharacterTask.rows[:7]  # the last step of an epoch has 3 rows: unequal shares
how = TrainSettings(epochs=2, batch_size=4, micro_batch_size=1, lr=0.01, warmup_ratio=0, save_every=1)
log = train(student, rows, objective, how, folder / "work", seed=1, reference=score_rows(student, rows, 7))
if int(__import__("os").environ.get("RANK", 0)) == 0:
    student.save(folder / "end")
    print([round(s["loss"], 5) for s in log.steps])
"""


def run(folder: Path, family: str, name: str, world: int) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    started = []
    for rank in range(world):
        env = dict(common)
        if world > 1:
            env |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "LOCAL_WORLD_SIZE": str(world),
            }
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", _SCRIPT, str(folder), family, name]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=500) for process in started]
    assert [p.returncode for p in started] == [0] * world, outputs[0][1][-1500:]
    return outputs[0][0]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), [("llama", "dpo"), ("bart", "brio")])
def test_two_processes_are_one(family: str, name: str, tmp_path: Path) -> None:
    losses = [run(tmp_path / str(world), family, name, world) for world in (1, 2)]
    assert losses[0] == losses[1]
    one, two = (load_file(tmp_path / str(world) / "end" / "student.safetensors") for world in (1, 2))
    assert all((one[key] - two[key]).abs().max() < 1e-5 for key in one)
