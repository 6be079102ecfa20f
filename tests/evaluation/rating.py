"""Three literals with the answers of three systems, to be rated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from quipwright.core.records import Judgment
from quipwright.core.results import Sample
from quipwright.data.task import Task
from quipwright.evaluation.human.items import items_of_run
from quipwright.evaluation.human.ratings import Ratings
from quipwright.testing.summaries import finished_run, made_summary

TASK = Task.load()
QUESTIONS = tuple(TASK.questions)
SAMPLES = [
    Sample(
        literal=f"The bus number {i} was late again.",
        example_id=f"bus-{i}",
        split="test",
        answers={
            "feedback-dpo": f"Bus {i} runs on island time.",
            "imitation": f"Bus {i} was late, and nobody was surprised.",
            "teacher": f"Bus {i} is a rumour with wheels.",
        },
    )
    for i in range(3)
]


def open_ratings(folder: Path, checks: int = 0) -> Ratings:
    items = items_of_run(SAMPLES, ["feedback-dpo", "imitation"], QUESTIONS, checks=checks)
    return Ratings.open(folder / "ratings", items)


def write_summary(run: Path, *students: str) -> None:
    """A finished run with ``SAMPLES`` and these students."""
    made = made_summary(1)
    checkpoints = dict.fromkeys(students, made.checkpoints["imitation"])
    summary = made.model_copy(update={"samples": SAMPLES, "checkpoints": checkpoints})
    finished_run(run, summary)


def judgment(pair_id: str, judge: str, verdict: Any = "A", question: str = "humour") -> Judgment:
    return Judgment(pair_id=pair_id, judge=f"human:{judge}", verdict=verdict, question=question)


def answer(client: httpx2.Client, choice: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Send the form of the page that is shown, as a browser without script would."""
    fields = hidden(client.get("/").text)
    return client.post("/answer", data={**fields, "choice": choice}, headers=headers or {}, follow_redirects=True)


def hidden(page: str) -> dict[str, str]:
    return {name: page.split(f'name="{name}" value="')[1].split('"')[0] for name in ("item", "question")}
