"""Provider batches and answers made elsewhere: shuffled, expired, errored, crashed in between, and never paid twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from quipwright.core.errors import BudgetError, ModelError
from quipwright.core.records import Example
from quipwright.critics.multiple_choice import MultipleChoice
from quipwright.data.teacher import ModelTeacher
from quipwright.llm.batch_api import Batch
from quipwright.llm.call_store import CallStore
from quipwright.llm.costs import Budget, Price
from quipwright.llm.http_models import Chat
from quipwright.llm.offline_files import Files
from quipwright.llm.types import Capabilities, Completion, Failure
from quipwright.pipeline.recipe import Recipe
from quipwright.pipeline.stages.teach import teach
from quipwright.testing.asking import FAST, ask, comparison, requests
from quipwright.testing.faulty_server import FaultyServer
from quipwright.testing.runs import judge_pairs, run_context
from quipwright.training.preference.pairs import Diverse


class Provider:
    """Files and batches in memory. ``spoil(custom_id, batch_number)`` names what goes wrong with a line."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.batches: list[dict[str, Any]] = []
        self.spoil: Any = lambda key, number: None
        self.looks = self.looks_until_done = 0
        self.lose_reply = False
        self.created: Callable[[], None] = lambda: None

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        number = len(self.batches)
        lines = [json.loads(line) for line in self.files[wanted["input_file_id"]].splitlines()]
        random.Random(number).shuffle(lines)
        out, errors = [], []
        for line in lines:
            key, asked = line["custom_id"], line["body"]["messages"][-1]["content"]
            fault = self.spoil(asked, number)
            body = {"choices": [{"message": {"content": f"answer to {asked}"}}], "usage": {"prompt_tokens": 5}}
            if fault == "expired":
                errors.append(
                    {"custom_id": key, "response": None, "error": {"code": "batch_expired", "message": "late"}}
                )
            elif fault == "missing":
                continue
            elif fault and fault.isdigit():
                errors.append({"custom_id": key, "response": {"status_code": int(fault), "body": {}}, "error": None})
            else:
                out.append({"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None})
        names = {"output_file_id": f"out{number}", "error_file_id": f"err{number}"}
        self.files[names["output_file_id"]] = "\n".join(map(json.dumps, out)) + "\nnot json\n"
        self.files[names["error_file_id"]] = "\n".join(map(json.dumps, errors))
        batch = {"id": f"b{number}", "status": "in_progress", "lines": len(lines), **wanted, **names}
        self.batches.append(batch)
        self.created()
        return batch

    def shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.looks += 1
        return batch | {"status": "completed"} if self.looks >= self.looks_until_done else batch


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            if self.path.endswith("/files"):
                name = f"in{len(made.files)}"
                made.files[name] = (
                    re.split(rb"\r\n\r\n", raw)[2 if b'name="purpose"' in raw[:300] else 1].split(b"\r\n--")[0].decode()
                )
                return self._send({"id": name})
            created = made.create(json.loads(raw))
            if made.lose_reply:
                made.lose_reply = False
                self.close_connection = True
                return None
            return self._send(created)

        def do_GET(self) -> None:
            if "/files/" in self.path:
                return self._send(made.files[self.path.split("/")[-2]])
            if "/batches/" in self.path:
                return self._send(made.shown(made.batches[int(self.path.split("/b")[-1])]))
            return self._send({"data": made.batches[::-1], "has_more": False})

        def _send(self, content: Any) -> None:
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"  # type: ignore[attr-defined]
    yield made
    server.shutdown()
    server.server_close()


def batch(provider: Any, **fields: Any) -> Batch:
    return Batch(**({"model": "m", "base_url": provider.url, "poll": 0.01, "retry": FAST} | fields))


def texts(answers: list[Any]) -> list[str | None]:
    return [a.text if isinstance(a, Completion) else None for a in answers]


def test_shuffled_lines_find_their_questions_and_a_rerun_submits_nothing(provider: Provider, tmp_path: Path) -> None:
    provider.looks_until_done = 3
    for _ in range(2):
        answers = ask(tmp_path, batch(provider), requests(50))
        assert texts(answers) == [f"answer to q{i}" for i in range(50)]
        assert len(provider.batches) == 1


def test_only_missing_ids_are_submitted_again_and_a_permanent_error_is_recorded(
    provider: Provider, tmp_path: Path
) -> None:
    faults = {"q1": "expired", "q2": "missing", "q3": "429", "q4": "500"}
    provider.spoil = lambda asked, number: "400" if asked == "q5" else faults.get(asked) if number == 0 else None
    answers = ask(tmp_path, batch(provider), requests(20))
    assert [b["lines"] for b in provider.batches] == [20, 4]
    assert texts(answers) == [f"answer to q{i}" if i != 5 else None for i in range(20)]
    assert isinstance(answers[5], Failure)
    assert answers[5].status == 400


def test_what_never_comes_is_given_up_after_three_submissions(provider: Provider, tmp_path: Path) -> None:
    provider.spoil = lambda asked, number: "expired" if asked == "q0" else None
    answers = ask(tmp_path, batch(provider), requests(3))
    assert [b["lines"] for b in provider.batches] == [3, 1, 1]
    assert answers[0].reason == "batch: no answer in 3 submissions"  # type: ignore[union-attr]


def test_a_crash_between_submission_and_saving_its_id_submits_nothing_again(provider: Provider, tmp_path: Path) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    provider.created = lambda: os.kill(os.getpid(), signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(tmp_path, batch(provider), requests(10))
    finally:
        signal.signal(signal.SIGINT, handler)
    provider.created = lambda: None
    assert texts(ask(tmp_path, batch(provider), requests(10))) == [f"answer to q{i}" for i in range(10)]
    assert len(provider.batches) == 1


def test_a_lost_reply_to_a_submission_submits_nothing_again(provider: Provider, tmp_path: Path) -> None:
    provider.lose_reply = True
    assert len(texts(ask(tmp_path, batch(provider), requests(10)))) == 10
    assert len(provider.batches) == 1


def test_impatience_leaves_the_batch_to_be_collected_later(provider: Provider, tmp_path: Path) -> None:
    provider.looks_until_done = 10**6
    with pytest.raises(ModelError, match=r"batch b0 is in_progress\. Run the same command again later"):
        ask(tmp_path, batch(provider, patience=0.05), requests(5))
    provider.looks_until_done = 0
    assert None not in texts(ask(tmp_path, batch(provider), requests(5)))
    assert len(provider.batches) == 1


def test_answers_of_a_changed_recipe_are_kept_too(provider: Provider, tmp_path: Path) -> None:
    provider.looks_until_done = 10**6
    with pytest.raises(ModelError):
        ask(tmp_path, batch(provider, patience=0.02), requests(5))
    provider.looks_until_done = 0
    ask(tmp_path, batch(provider), requests(2))
    ask(tmp_path, batch(provider), requests(5))
    assert len(provider.batches) == 1


def test_a_batch_is_no_larger_than_the_caps_allow(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"budget\.calls is reached"):
        ask(tmp_path, batch(provider), requests(10), budget=Budget(calls=4))
    assert [b["lines"] for b in provider.batches] == [4]
    prices = {"m": Price(input=0, output=0, call=1.0)}
    with pytest.raises(BudgetError, match=r"budget\.money (is reached|leaves)"):
        ask(tmp_path / "money", batch(provider), requests(10), budget=Budget(money=3.5), prices=prices)
    assert provider.batches[-1]["lines"] == 3


def test_a_batch_that_counts_no_tokens_is_charged_at_its_most(provider: Provider, tmp_path: Path) -> None:
    prices = {"m": Price(input=0, output=1e6 / 64)}  # at most 1 a call; the provider counts only what came in
    for _ in range(2):
        with pytest.raises(BudgetError, match=r"budget\.money"):
            ask(tmp_path, batch(provider), requests(10), budget=Budget(money=3.5), prices=prices)
        assert [b["lines"] for b in provider.batches] == [3]
    with CallStore.open(tmp_path) as store:
        assert (store.ledger.cost, store.ledger.charged, store.ledger.unpriced) == (0.0, 3.0, 3)


def test_answers_made_elsewhere_are_merged_by_id(tmp_path: Path) -> None:
    door = Files(model="a colleague", answers="answers.jsonl", capabilities=Capabilities())
    run, base = tmp_path / "run", tmp_path
    with pytest.raises(ModelError, match=r"4 questions for a colleague wait in .*questions\.jsonl; 0 answers"):
        ask(run, door, requests(4), base=base)
    questions = [json.loads(line) for line in (run / "batches" / "questions.jsonl").read_text().splitlines()]
    assert questions[0]["body"]["messages"][-1]["content"] == "q0"
    lines = [json.dumps({"custom_id": q["custom_id"], "text": f"by hand {i}"}) for i, q in enumerate(questions)]
    (base / "answers.jsonl").write_text("\n".join(lines[2:]))
    with pytest.raises(ModelError, match=r"2 questions .* 2 answers were read"):
        ask(run, door, requests(4), base=base)
    (base / "answers.jsonl").write_text("\n".join(reversed(lines)))
    assert texts(ask(run, door, requests(4), base=base)) == [f"by hand {i}" for i in range(4)]
    (base / "answers.jsonl").unlink()
    assert texts(ask(run, door, requests(4), base=base)) == [f"by hand {i}" for i in range(4)]


# --- a run whose models answer nothing before they were asked everything ------------------------------------------------


def recipe_by_files(folder: Path) -> Recipe:
    """A recipe whose teacher and critic are asked by files in ``folder``."""
    elsewhere = Files(model="m", answers=str(folder / "answers.jsonl"))
    critic = MultipleChoice(model=elsewhere, reading="reason_then_answer")
    return Recipe(name="x", teacher=ModelTeacher(model=elsewhere), select=Diverse(), critic=critic)


def answered(folder: Path, text: str) -> int:
    """Answer every question that waits with ``text``; gives their number."""
    lines = (folder / "run" / "batches" / "questions.jsonl").read_text().splitlines()
    with open(folder / "answers.jsonl", "a") as file:
        file.writelines(json.dumps({"custom_id": json.loads(line)["custom_id"], "text": text}) + "\n" for line in lines)
    return len(lines)


def test_a_stage_puts_all_its_questions_into_one_file(tmp_path: Path) -> None:
    examples = [Example(text=f"It rained {i} times.") for i in range(150)]
    compared = [comparison(f"joke {i}", f"pun {i}", f"It rained {i} times.") for i in range(100)]
    recipe = recipe_by_files(tmp_path)
    with run_context(recipe, tmp_path / "run", tmp_path) as ctx:
        with pytest.raises(ModelError, match="150 questions"):
            teach(ctx, recipe.teacher, examples)
        assert answered(tmp_path, "1. A wet joke.\n2. A dry pun.") == 150
        taught = teach(ctx, recipe.teacher, examples).responses
        assert [len(own) for own in taught.values()] == [2] * 150
        with pytest.raises(ModelError, match="200 questions"):
            judge_pairs(ctx, recipe, compared)
        assert answered(tmp_path, "Answer: 1") == 200
        judged = judge_pairs(ctx, recipe, compared)
    assert [j.pair_id for j in judged] == [c.pair.id for c in compared for _ in range(2)]
    lines = next(tmp_path.glob("run/stages/judge-1-*/rows.jsonl")).read_text().splitlines()
    assert sum(line.startswith('{"chunk"') for line in lines) == 2


def test_a_stage_keeps_as_much_under_way_as_its_model_allows(tmp_path: Path) -> None:
    examples = [Example(text=f"It rained {i} times.") for i in range(400)]
    with FaultyServer(lambda body: "1. A wet joke.", hang=30.0) as server:
        # by the 200th answer the client may have 204 under way: from there on none is answered before 65 wait
        server.hold = lambda number: number >= 200 and server.most_under_way <= 64
        model = Chat(model="m", base_url=server.url, concurrency=256, capabilities=Capabilities())
        recipe = Recipe(name="x", teacher=ModelTeacher(model=model))
        with run_context(recipe, tmp_path, tmp_path) as ctx:
            taught = teach(ctx, recipe.teacher, examples).responses
    assert list(taught) == [e.id for e in examples]
    assert server.most_under_way > 64
    lines = next(tmp_path.glob("stages/teach-*/rows.jsonl")).read_text().splitlines()
    assert sum(line.startswith('{"chunk"') for line in lines) == 7
