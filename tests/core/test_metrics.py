"""The stream of a run's figures: complete, never doubled, whatever happened; and trackers that are told the same."""

from __future__ import annotations

import importlib
import json
import shutil
import struct
import sys
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import DamagedError, RecipeError
from quipwright.core.metrics import Metrics, Point
from quipwright.data.run_summary import RunSummary
from quipwright.testing.recipes import write_recipe
from quipwright.testing.runs import run

SETS = (
    "evaluate.best_of=0",
    "evaluate.base=false",
    "select={kind: random}",
    "imitation.train.epochs=12",
    "early_stopping={}",
)


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, tiny_critic: Path, corpus_file: Path
) -> tuple[Path, Path, RunSummary]:
    """An uninterrupted run without trackers: its recipe, folder and summary."""
    folder = tmp_path_factory.mktemp("tracked")
    recipe = write_recipe(folder, tiny_weights, tiny_critic, corpus_file)
    return recipe, folder / "run", run(recipe, folder / "run", *SETS)


def points(folder: Path) -> list[dict[str, Any]]:
    """The stream without its times and ids."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("time", "id")} for line in lines]


def test_every_step_and_every_figure_is_a_line(straight: tuple[Path, Path, RunSummary]) -> None:
    _, folder, summary = straight
    all_points = points(folder)
    for stage, round in (("sft-imitation", 0), ("preference-1", 1)):
        of_stage = [p for p in all_points if p["stage"] == stage]
        losses = summary.training[stage].losses
        assert [p["step"] for p in of_stage] == list(range(1, len(losses) + 1))
        assert [p["values"]["loss"] for p in of_stage] == pytest.approx(losses, abs=1e-5)
        assert {p["round"] for p in of_stage} == {round}
        assert all(p["values"]["lr"] > 0 and p["values"]["grad_norm"] > 0 for p in of_stage[:-1])
    read = [p["values"]["validation"] for p in all_points if "validation" in p["values"]]
    assert read == pytest.approx(summary.training["sft-imitation"].validation, abs=1e-5)
    figures = {
        name: (p["round"], v) for p in all_points if p["stage"] == "evaluate-test" for name, v in p["values"].items()
    }
    for w in summary.pairwise:
        round = summary.checkpoints[w.candidate].round
        assert figures[f"{w.candidate}/against-{w.baseline}/win_tie_rate"] == (round, w.headline.rate.value)
    for q in summary.quality:
        assert figures[f"{q.system}/copy_rate"][1] == q.copy_rate
    assert figures["feedback/minus-imitation/against-teacher"] == (1, summary.differences[0].difference.value)
    assert [p["round"] for p in all_points if p["stage"] == "validate"] == [1]


def test_running_again_adds_nothing(straight: tuple[Path, Path, RunSummary]) -> None:
    recipe, folder, _ = straight
    before = (folder / "metrics.jsonl").read_bytes()
    run(recipe, folder, *SETS)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_stream_lost_or_made_before_there_was_one_is_written_from_what_is_finished(
    straight: tuple[Path, Path, RunSummary], tmp_path: Path
) -> None:
    recipe, folder, _ = straight
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    run(recipe, tmp_path / "run", *SETS)
    assert sorted(map(str, points(tmp_path / "run"))) == sorted(map(str, points(folder)))


def test_a_killed_run_ends_with_the_same_stream(
    straight: tuple[Path, Path, RunSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder, _ = straight

    class Killed(BaseException):
        """The process died here."""

    add = Metrics.add

    def dying(metrics: Metrics, stage: str, round: int, step: int, values: dict[str, Any]) -> None:
        add(metrics, stage, round, step, values)
        if step == 10:  # three steps behind the state that the next run resumes from
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Metrics, "add", dying)
        with pytest.raises(Killed):
            run(recipe, tmp_path / "run", *SETS)
    assert [p["step"] for p in points(tmp_path / "run")] == list(range(1, 11))
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"time": 1, "stage": "imi')  # torn by the kill
    run(recipe, tmp_path / "run", *SETS)
    assert points(tmp_path / "run") == points(folder)


def events(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar in a folder of TensorBoard's event files."""
    proto = importlib.import_module("tensorboardX.proto.event_pb2")
    shown = []
    for path in sorted(folder.iterdir()):
        raw, at = path.read_bytes(), 0
        while at < len(raw):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", raw, at)
            event = proto.Event.FromString(raw[at + 12 : at + 12 + length])
            shown += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            at += 16 + length
    return shown


def test_tensorboard_shows_the_stream_once(straight: tuple[Path, Path, RunSummary], tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    recipe, folder, _ = straight
    shutil.copytree(folder, tmp_path / "run")
    for _ in range(2):  # a finished run may be given a tracker later, and asking twice doubles nothing
        run(recipe, tmp_path / "run", *SETS, "track=[tensorboard]")
    shown = events(tmp_path / "run" / "tensorboard")
    wanted = [(f"{p['stage']}/{n}", p["step"], v) for p in points(folder) for n, v in p["values"].items()]
    assert [t[:2] for t in shown] == [w[:2] for w in wanted]
    assert [t[2] for t in shown] == pytest.approx([w[2] for w in wanted], rel=1e-6)


class FakeRun:
    """What is used of a run of trackio and of wandb, which knows the step it would give next."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    @property
    def starting_step(self) -> int:
        """The first step it has not seen."""
        return self.sent[-1][0] + 1 if self.sent else 0

    def log(self, values: dict[str, Any], step: int) -> None:
        """Take one point."""
        self.sent.append((step, values))

    def finish(self) -> None:
        """The run is over for now."""
        self.finished += 1


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_a_tracker_that_resumes_is_sent_only_what_it_lacks(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, asked = FakeRun(), []

    def init(**settings: Any) -> FakeRun:
        asked.append(settings)
        return kept

    monkeypatch.setitem(sys.modules, kind, types.SimpleNamespace(init=init))
    for last in (2, 4):
        with suppress(KeyboardInterrupt), Metrics.open(tmp_path, "demo", (kind,), {"seed": 1}) as metrics:
            for step in range(1, last + 1):
                metrics.add("imitate", 0, step, {"loss": 1 / step})
            raise KeyboardInterrupt  # a run that is stopped tells its tracker so
    assert [step for step, _ in kept.sent] == [0, 1, 2, 3]
    assert kept.sent[3][1] == {"imitate/loss": 0.25, "imitate/step": 4}
    assert kept.finished == 2
    assert asked[0] == asked[1]
    assert asked[0]["resume"] == "allow"
    assert asked[0]["config"] == {"seed": 1}
    assert asked[0].get("project") == "quipwright"


@pytest.mark.parametrize("kind", ["tensorboard", "trackio", "wandb"])
def test_a_missing_tracker_is_one_line_before_anything_is_trained(
    kind: str, straight: tuple[Path, Path, RunSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tensorboardX" if kind == "tensorboard" else kind
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RecipeError, match=rf"track names {kind}, but .*pip install 'quipwright\[{kind}\]'") as error:
        run(straight[0], tmp_path / "run", f"track=[{kind}]")
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "stages").exists()


def test_a_tracker_that_cannot_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**settings: Any) -> Any:
        raise RuntimeError("no API key\nset one")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with (
        pytest.raises(RecipeError, match="wandb did not start: no API key set one"),
        Metrics.open(tmp_path, "demo", ("wandb",)),
    ):
        pass


@pytest.mark.parametrize(
    "line",
    [
        "{broken", "7", '{"time": 1}', '{"time": 1, "stage": "s", "round": 0, "step": 1, "values": 3}',
        Point(time=1, stage="s", round=0, step=1, values={"loss": 3}).to_line().replace("3.0", "2.0"),
    ],
)  # fmt: skip
def test_an_unreadable_line_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with (
        pytest.raises(DamagedError, match="holds a line that is no point or was changed"),
        Metrics.open(tmp_path, "demo"),
    ):
        pass


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    with Metrics.open(tmp_path, "demo") as metrics:
        metrics.add("train", 1, 2, {"loss": 0.5, "kl": None, "norm": float("nan"), "ratio": float("inf")})
        metrics.add("train", 1, 3, {"kl": None})
    assert points(tmp_path) == [{"stage": "train", "round": 1, "step": 2, "values": {"loss": 0.5}}]
