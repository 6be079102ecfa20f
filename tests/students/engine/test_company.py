"""A text depends on seed, prompt and sample number alone: shuffled, at any capacity, one prompt a call, more samples."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from quipwright.serving.writer import Writer
from quipwright.students.engine import Engine
from quipwright.students.engine import engine as module
from quipwright.students.engine.pool import Pool, Prompt, batches
from tests.students.engine.families import END, OPENINGS, fresh, prompts

SENTENCES = (
    "I missed the last bus home and had to walk.",
    "My neighbour plays the trumpet at night.",
    "The cat ate my sandwich before lunch.",
    "Our train was late again.",
    "I forgot my umbrella and it rained all day, from the moment I left the house until I came back in the evening.",
    "My sister borrowed my car and lost the key.",
    "The printer stopped working during the exam.",
    "I burned the rice while talking on the phone.",
    "Grandma sent me three scarves in one week.",
    "The meeting took two hours longer than planned.",
    "My son painted the wall with tomato sauce.",
    "I slept through the alarm on my first day at the new job in the city.",
)


@pytest.fixture(scope="module")
def shipped() -> tuple[Engine, list[list[int]], int]:
    """The student that ships, twelve prompts, and its end token."""
    writer = Writer.load()
    asked = [writer.student.prompt_ids(writer.task.prompt(text)) for text in SENTENCES]
    return Engine.of(writer.student.merged()), asked, writer.student.prompt_format.end


def check(
    engine: Engine,
    asked: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    alone: tuple[int, ...],
) -> None:
    """The same samples in every company; ``alone``: the prompts that are also written one by one."""
    texts = dict(engine.sample(asked, k=4, **options))
    order = random.Random(1).sample(range(len(asked)), len(asked))
    shuffled = dict(engine.sample([asked[i] for i in order], k=4, **options))
    assert {order[i]: row for i, row in shuffled.items()} == texts
    monkeypatch.setattr(module, "PLACES", {"cpu": 19})
    assert {i: row[1:] for i, row in texts.items()} == dict(engine.sample(asked, k=3, first_sample=1, **options))
    for i in alone:
        assert list(engine.sample([asked[i]], k=4, **options)) == [(0, texts[i])]
        assert list(engine.sample([asked[i]], k=1, first_sample=2, **options)) == [(0, texts[i][2:3])]


def test_the_shipped_student_writes_the_same_in_any_company(shipped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked, end = shipped
    options = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 4, "end": end, "seed": 1}
    check(engine, asked, monkeypatch, options, alone=(4,))


@pytest.mark.slow
def test_the_shipped_student_writes_generates_tokens(shipped: Any) -> None:
    engine, asked, end = shipped
    network = Writer.load().student.merged().float().eval()
    greedy = dict(engine.beam(asked[:2], beams=1, max_tokens=8, end=end))
    beams = dict(engine.beam(asked[:2], beams=3, max_tokens=8, end=end))
    for number, prompt in enumerate(asked[:2]):
        for found, count in ((greedy, 1), (beams, 3)):
            config = GenerationConfig(
                max_new_tokens=8, num_beams=count, do_sample=False, eos_token_id=end, pad_token_id=end
            )
            ids = torch.tensor([prompt])
            with torch.inference_mode():
                out = network.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
            row = out[0, len(prompt) :].tolist()
            assert found[number] == [row[: row.index(end) + 1] if end in row else row]


@pytest.mark.slow
def test_the_shipped_students_beams_are_the_same_in_any_company(shipped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked, end = shipped
    texts = dict(engine.beam(asked[:6], beams=3, n=2, max_tokens=4, end=end))
    monkeypatch.setattr(module, "PLACES", {"cpu": 9})
    shuffled = dict(engine.beam(asked[5::-1], beams=3, n=2, max_tokens=4, end=end))
    assert shuffled == {5 - i: text for i, text in texts.items()}
    assert list(engine.beam(asked[:1], beams=3, n=2, max_tokens=4, end=end)) == [(0, texts[0])]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "t5", "bart"])
def test_families_write_the_same_in_any_company(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.of(fresh(family), OPENINGS.get(family))
    options = {"temperature": 0.9, "top_p": 0.9, "max_tokens": 14, "end": END, "seed": 3}
    check(engine, prompts(12, seed=4), monkeypatch, options, alone=(0, 3))


@pytest.mark.parametrize("family", ["llama", "t5", "bart"])
def test_samples_share_a_row_for_as_long_as_they_are_alike(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.of(fresh(family), OPENINGS.get(family))
    step, steps = Pool.step, []

    def counted(self: Pool) -> torch.Tensor:
        steps.append((len(self.rows), {(row.prompt.number, *row.tokens) for row in self.rows}))
        return step(self)

    monkeypatch.setattr(Pool, "step", counted)
    options = {"top_p": 1.0, "max_tokens": 8, "end": -1, "seed": 5}
    texts = dict(engine.sample(prompts(4), k=5, temperature=0.4, **options))
    beginnings = {(i, *text[:t]) for i, row in texts.items() for text in row for t in range(1, 8)}
    assert len(beginnings) < 4 * 5 * 7
    assert sum(rows for rows, _ in steps) == len(beginnings)
    assert set().union(*(seen for _, seen in steps)) == beginnings
    steps.clear()
    list(engine.sample(prompts(4), k=5, temperature=0.0, **options))
    assert [rows for rows, _ in steps] == [4] * 7  # five equal texts a prompt


def test_seeds_differ_and_equal_prompts_get_equal_texts() -> None:
    engine = Engine.of(fresh("llama"))
    options = {"k": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 12, "end": END}
    asked = prompts(3)
    texts = dict(engine.sample([*asked, asked[0]], seed=1, **options))
    assert texts[3] == texts[0]
    assert texts[0][0] != texts[0][1]
    assert dict(engine.sample(asked, seed=2, **options)) != {i: texts[i] for i in range(3)}


def test_results_come_as_prompts_end_and_tokens_as_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES", {"cpu": 4})
    engine = Engine.of(fresh("llama"))
    heard: list[tuple[int, int, list[int]]] = []
    asked = prompts(6)
    options = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 12, "end": END, "seed": 1}
    results = engine.sample(asked, k=2, on_token=lambda i, n, ids: heard.append((i, n, list(ids))), **options)
    number, texts = next(results)
    assert {i for i, _, _ in heard} != set(range(6))  # the last prompts have not begun when the first are done
    assert [ids for i, n, ids in heard if (i, n) == (number, 1)] == [texts[1][:t] for t in range(1, len(texts[1]) + 1)]
    assert sorted([number, *(i for i, _ in results)]) == list(range(6))


@pytest.mark.parametrize("family", ["llama", "t5", "bart"])
def test_out_of_memory_halves_the_rows_and_changes_no_text(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.of(fresh(family), OPENINGS.get(family))
    options = {"k": 3, "temperature": 0.9, "top_p": 0.9, "max_tokens": 12, "end": END, "seed": 3}
    asked = prompts(12)
    expected = dict(engine.sample(asked, **options))
    step, tried = Pool.step, []

    def scarce(self: Pool) -> torch.Tensor:
        tried.append(self.places)
        if len(self.rows) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self)

    monkeypatch.setattr(Pool, "step", scarce)
    results = list(engine.sample(asked, **options))
    assert dict(results) == expected
    assert len(results) == 12  # none came twice
    assert tried[0] == 36
    assert tried[-1] == max(9, 16)  # 36, 18, 9; a CPU's products have 16 rows at least


def test_memory_bounds_the_rows() -> None:
    engine = Engine.of(fresh("llama"), memory=400_000)
    asked = [[3] * 20] * 50
    # a column holds 2 layers x 2 heads x (8 + 8) float32 numbers: a row of 48 columns and three rows of 64 logits take
    # 13,056 bytes, a prompt of 32 columns 8,192
    assert engine._places(asked, 2, 44) == 400_000 // (13_056 + 8_192)
    assert engine._places(asked[:3], 2, 44) == 6
    assert Engine.of(fresh("llama"), memory=1)._places(asked, 5, 44) == 5


def test_prompts_are_read_with_little_padding() -> None:
    asked = sorted((Prompt(i, [3] * n) for i, n in enumerate([40, 38, 36, 20, 19, 18, 3])), key=lambda p: -len(p.ids))
    groups = [[len(p.ids) for p in group] for group in batches(asked)]
    assert groups == [[40, 38, 36], [20, 19, 18], [3]]
