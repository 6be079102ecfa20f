"""The model card of an exported student: what it is made from, how well it measured, what it must not be used for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from quipwright.core.format import counts, hundred, number, percent, percent_range
from quipwright.core.results import PairwiseResult, Quality
from quipwright.data.task import Task

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary

_EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"
_FORM_TAGS: dict[str, dict[str, Any]] = {
    "adapter": {"library_name": "peft", "base_model_relation": "adapter"},
    "hf": {"library_name": "transformers", "base_model_relation": "finetune"},
}


def model_card(summary: RunSummary, name: str, task: Task, form: str) -> str:
    """The card of student ``name`` in Markdown, with the metadata that the Hugging Face Hub reads.

    ``form``: ``adapter`` or ``hf``, as exported. Paths of the machine that trained it do not appear.
    """
    checkpoint = summary.checkpoints[name]
    weights, family = summary.recipe["student"]["weights"], summary.recipe["student"]["kind"]
    base = base_model(weights)
    prompt = "Prompt, as the user's turn of the chat template:" if task.student_chat else "Prompt:"
    made_from = base or "weights that are not on the Hub"
    return "\n".join(
        [
            "---",
            yaml.safe_dump(_metadata(base, family, task, form), sort_keys=False, allow_unicode=True).rstrip(),
            "---",
            "",
            f"# {summary.name}: student `{name}`",
            "",
            f"Quipwright {summary.versions['quipwright']} made it from {made_from} for the task `{task.name}`: objective",
            f"{checkpoint.objective}, round {checkpoint.round}, weights {checkpoint.weights_hash}, data",
            f"{checkpoint.data_hash}, settings {checkpoint.settings_hash}.",
            "",
            prompt,
            "",
            "```",
            task.student_prompt,
            "```",
            "",
            "## Measured",
            "",
            *_judge_lines(summary),
            "",
            *_pairwise_table([r for r in summary.pairwise if _is_of(r.candidate, name)]),
            "",
            *_quality_table(summary.quality, task.grades),
            "",
            f"{', '.join(task.grades).capitalize()} are mean grade probabilities by the same critic, x 100 [95 %].",
            "Stock turns: answers whose last three words end another one too.",
            "",
        ]
    )


def base_model(weights: str) -> str | None:
    """The hub id of the weights that a student started from; ``None`` for a folder of the machine that trained it."""
    if weights == "embedded":
        return _EMBEDDED
    is_hub_id = weights.count("/") == 1 and not weights.startswith((".", "/", "~")) and not Path(weights).exists()
    return weights if is_hub_id else None


def _metadata(base: str | None, family: str, task: Task, form: str) -> dict[str, Any]:
    tags = _FORM_TAGS[form]
    metadata: dict[str, Any] = {"library_name": tags["library_name"]}
    if base is not None:
        metadata |= {"base_model": base, "base_model_relation": tags["base_model_relation"]}
    metadata["pipeline_tag"] = "text-generation" if family == "causal" else "text2text-generation"
    metadata["tags"] = ["quipwright", task.name, "distillation", "paraphrase"]
    return metadata


def _judge_lines(summary: RunSummary) -> list[str]:
    critic = summary.critic
    if critic["agreement"] is None:
        measured = "whose agreement with people or a better judge was not measured"
    else:
        measured = f"which agrees with {percent(critic['agreement'])} of {critic['n']} held-out verdicts"
    return [
        f"The critic that trained the student is {critic['name'].partition(':')[0]}, {measured}.",
        "Its own figures are therefore no proof of quality; those of an outside judge say more.",
    ]


def _pairwise_table(results: list[PairwiseResult]) -> list[str]:
    lines = [
        "| candidate | baseline | judge | split | win-tie rate | 95 % | win / tie / loss | length ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        rate = r.headline.rate
        cells = (
            r.candidate, r.baseline, r.judge, r.split, percent(rate.value), percent_range(rate.low, rate.high),
            counts(r.headline), number(r.length_ratio),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _quality_table(looks: list[Quality], grades: tuple[str, ...]) -> list[str]:
    heads = ("system", "split", "n", "copies", "stock turns", *grades, "distinct-2")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for q in looks:
        levels = [hundred(share) for share in q.shares(len(grades))]
        looks = (percent(q.copy_rate), percent(q.stock_turns))
        cells = (q.system, q.split, str(q.n), *looks, *levels, number(q.distinct_2))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _is_of(candidate: str, name: str) -> bool:
    return candidate == name or candidate.startswith(f"{name}-")
