"""A real model behind a real server: llama.cpp's own (``pip install '.[server-test]'``) with the embedded GGUF."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quipwright.core.paths import PACKAGE
from quipwright.core.records import Example, Sampling
from quipwright.critics.base import BuildContext
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.data.task import Task
from quipwright.data.teacher import ModelTeacher
from quipwright.llm.calls import Calls
from quipwright.llm.http_models import Anthropic, Chat
from quipwright.llm.retry import Retry
from quipwright.llm.types import Failure, Message, Request, complete
from quipwright.testing.asking import comparison
from quipwright.testing.llama_server import llama_server
from quipwright.testing.recipes import LITERALS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("xllamacpp"), reason="needs pip install 'quipwright[server-test]'"),
]


PATIENT = Retry(timeout=600, deadline=3600)  # a test must not fail because the machine is busy


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The humour task with a question to the teacher that so small a model can answer."""
    tree = yaml.safe_load((PACKAGE / "tasks" / "humour.yaml").read_text(encoding="utf-8"))
    tree["teacher"] |= {"user": "Say this again in one short and funny sentence: {literal} ({n})", "n": 1}
    tree["teacher"] |= {"max_tokens": 48}
    tree["length"] = {"minimum": 0.0}  # a student of a few steps writes short and long
    path = tmp_path_factory.mktemp("task") / "short.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def chat(url: str, **fields: Any) -> Chat:
    return Chat(model="smollm2", base_url=url, concurrency=2, retry=PATIENT, **fields)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with llama_server() as address:
        yield address


def test_the_probe_finds_what_llama_cpp_can_do(url: str, tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        able = chat(url).build(calls).capabilities
    assert (able.logprobs, able.raw_logprobs) == (20, True)
    assert (able.prefill, able.echoes) == ("plain", True)
    assert able.system


def test_a_begun_answer_goes_on_and_is_read_at_its_label(url: str, tmp_path: Path) -> None:
    asked = (Message("user", "Which is larger, 1 or 2? Reply with Answer: 1 or Answer: 2."),)
    begun = Request((*asked, Message("assistant", "Answer:")), Sampling(max_tokens=4), ("1", "2"))
    with Calls.open(tmp_path) as calls:
        (choice,) = chat(url).build(calls).choose_many([begun])
    assert choice.coverage > 0.5
    assert not choice.text.startswith("Answer:")


def test_the_messages_api_of_the_same_server(url: str, tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        model = Anthropic(model="smollm2", base_url=url, concurrency=2).build(calls)
        answer = complete(model, [Message("user", "Say hello.")], Sampling(max_tokens=8))
        assert (answer.finish, answer.tokens_out) == ("length", 8)
        assert model.capabilities.logprobs == 0


def test_a_prompt_too_long_for_a_slot_is_refused_in_the_servers_words(url: str, tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        door = chat(url).build(calls)
        short, long = (Request((Message("user", "word " * n),), Sampling(max_tokens=2)) for n in (3, 3000))
        answered, refused = door.complete_many([short, long])
    assert not isinstance(answered, Failure)
    assert isinstance(refused, Failure)
    assert (refused.status, refused.attempts) == (400, 1)
    assert "context" in refused.reason


def test_the_teacher_is_read(url: str, task: Path, tmp_path: Path) -> None:
    with Calls.open(tmp_path) as calls:
        teacher = ModelTeacher(model=chat(url, extra={"stop": ["\n"]})).build(calls, Task.load(str(task)))
        taught = teacher.teach([Example(text=text) for text in LITERALS[:2]])
        assert taught.counts.asked == 2
        assert taught.counts.failed == 0
        assert len(taught.responses) == taught.counts.kept > 0


@pytest.mark.parametrize("reading", ["answer_only", "reason_then_answer", "sampled"])
def test_the_critic_is_read(url: str, tmp_path: Path, reading: str) -> None:
    with Calls.open(tmp_path) as calls:
        critic = MultipleChoice(model=chat(url), reading=reading, samples=2, reason_tokens=40).build(
            BuildContext(None, Task.load(), calls)
        )
        judged = critic.judge([comparison("My socks now swim.", "It did rain."), comparison("Wet!", "It rained, ha.")])
        assert critic.name == f"multiple_choice-{reading}:smollm2"
        assert calls.ledger.failures == 0
    assert [j.shown for j in judged] == ["ab", "ba"] * 2
    assert not any((j.reason or "").startswith("failed") for j in judged)
    if reading != "reason_then_answer":  # a model so small seldom closes with its answer
        assert all(j.p_a is not None and 0 < j.p_a < 1 for j in judged)


RECIPE = """
name: over-http
seed: 5
task: {task}
data: {{path: {data}}}
teacher: {{kind: model, model: {{extra: {{stop: ["\\n"]}}, {model}}}}}
student: {{weights: embedded, context: 256}}
imitation: {{train: {{epochs: 4, batch_size: 2, micro_batch_size: 2, lr: 0.002}}}}
candidates: {{k: 5, temperature: 0.9, max_tokens: 60, top_up: 2}}
select: {{kind: diverse}}
critic: {{kind: multiple_choice, model: {{{model}}}}}
rank: {{tie: 0.0, strength: 0.5}}
learn: {{train: {{epochs: 1, batch_size: 4, micro_batch_size: 2, lr: 0.0001}}}}
evaluate: {{decode: {{beams: 1, max_tokens: 20}}, best_of: 0, resamples: 100}}
"""


def test_a_whole_run_whose_teacher_and_critic_are_behind_http(
    url: str, task: Path, tmp_path: Path, quipwright: Callable[..., tuple[int, str, str]]
) -> None:
    with (PACKAGE / "data" / "humour.jsonl").open(encoding="utf-8") as corpus:
        texts = [json.loads(line)["literal"] for line, _ in zip(corpus, range(22), strict=False)]
    # so many that the showings of some pair name one winner: so small a critic mostly takes what stands first
    lines = [{"literal": text, "split": "train" if i < 20 else "test"} for i, text in enumerate(texts)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    model = f"kind: chat, model: smollm2, base_url: '{url}', concurrency: 2, retry: {{timeout: 600, deadline: 3600}}"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(task=task, data="data.jsonl", model=model), encoding="utf-8")
    code, out, err = quipwright("estimate", str(recipe), "--probe")
    assert (code, err) == (0, "")
    assert out.count("capabilities: {logprobs: 20, raw_logprobs: true, prefill: plain, echoes: true") == 2
    folder = tmp_path / "run"
    code, _, err = quipwright("distil", str(recipe), "--run", str(folder))
    assert (code, err) == (0, "")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert {"imitation", "feedback"} == summary["checkpoints"].keys()
    rates = [w for w in summary["win_rates"] if w["candidate"] == "feedback"]
    assert rates
    assert all(w["judge"] == "multiple_choice-answer_only:smollm2" for w in rates)
    code, _, err = quipwright("distil", str(recipe), "--run", str(folder))
    assert (code, err) == (0, "")
    again = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert all(stage["skipped"] for stage in again["stages"])
