"""A trained student out of its run: the adapter alone (megabytes), or a Hugging Face folder any tool loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from quipwright.core.errors import RunError
from quipwright.core.storage.files import disk_errors
from quipwright.data.task import Task
from quipwright.evaluation.systems import read_summary
from quipwright.serving.writer import Writer
from quipwright.students.base import Student
from quipwright.students.common import WEIGHTS_FILE

Form = Literal["adapter", "hf"]


def export(run: Path, target: Path, name: str | None, form: Form) -> Path:
    """Write student ``name`` of ``run`` (default: the last trained) to the new folder ``target``, with a model card.

    ``adapter``: the trained tensors in bf16 and ``student.json``, which ``student.adapter`` of a recipe reads.
    ``hf``: merged weights and tokenizer, for transformers' ``from_pretrained``.
    """
    if target.exists() and any(target.iterdir()):
        raise RunError(f"{target} is not empty.", "Name a new folder.")
    summary = read_summary(run)
    writer = Writer.of_run(run, name)
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        if form == "adapter":
            _adapter(writer.student, target)
        else:
            _merged(writer.student, target)
        chosen = name or list(summary["checkpoints"])[-1]
        (target / "README.md").write_text(card(summary, chosen, writer.task), encoding="utf-8")
    return target


def _adapter(student: Student, target: Path) -> None:
    student.save(target)
    tensors = {key: value.to(torch.bfloat16) for key, value in load_file(target / WEIGHTS_FILE).items()}
    save_file(tensors, target / WEIGHTS_FILE)
    (target / WEIGHTS_FILE).chmod(0o644)
    settings = student.settings.model_dump(mode="json")
    (target / "student.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _merged(student: Student, target: Path) -> None:
    student.merged().save_pretrained(target)
    student.tokenizer.save_pretrained(target)


def card(summary: dict[str, Any], name: str, task: Task) -> str:
    """A model card in Markdown: how the student was made and how good it measured."""
    recipe, checkpoint = summary["recipe"], summary["checkpoints"][name]
    lines = [
        "---",
        f"base_model: {_base(recipe['student']['weights'])}",
        "library_name: quipwright",
        "tags: [humour, distillation, style-transfer]",
        "---",
        "",
        f"# {summary['name']}: student `{name}`",
        "",
        f"Made by Quipwright {summary['versions']['quipwright']} from {_base(recipe['student']['weights'])} for the task",
        f"`{recipe['task']}`: objective {checkpoint['objective']}, round {checkpoint['round']}, weights",
        f"{checkpoint['weights_hash']}, data {checkpoint['data_hash']}, settings {checkpoint['settings_hash']}.",
        "",
        "Prompt, as the user's turn of the chat template:" if task.student_chat else "Prompt:",
        "",
        "```",
        task.student_prompt,
        "```",
        "",
        "## Measured",
        "",
        f"Judge: {summary['critic']['name']}, which agrees with {_percent(summary['critic']['agreement'])} of",
        f"{summary['critic']['n']} held-out verdicts. It also trained the student, so these are no proof of humour.",
        "",
        "| candidate | baseline | judge | split | win-tie rate | 95 % | win/tie/loss | length ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for w in summary["win_rates"]:
        if w["candidate"] == name or w["candidate"].startswith(f"{name}-"):
            interval = f"{_percent(w['low'])} – {_percent(w['high'])}"
            counts = f"{w['wins']}/{w['ties']}/{w['losses']}"
            head = f"| {w['candidate']} | {w['baseline']} | {w['judge']} | {w['split']} | {_percent(w['rate'])} |"
            lines.append(f"{head} {interval} | {counts} | {w['length_ratio']:.2f} |")
    lines += [
        "",
        "| system | split | n | copies | broken | plain | funny | distinct-2 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for q in summary["quality"]:
        grades = " | ".join(_percent(q[grade]) for grade in ("broken", "plain", "funny"))
        lines.append(
            f"| {q['system']} | {q['split']} | {q['n']} | {_percent(q['copy_rate'])} | {grades} | {q['distinct_2']:.2f} |"
        )
    lines += ["", "Broken, plain and funny are mean grade probabilities by the same critic.", ""]
    return "\n".join(lines)


def _base(weights: str) -> str:
    return "HuggingFaceTB/SmolLM2-135M-Instruct" if weights == "embedded" else weights


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
