"""The model card of an exported student: what it is made from, how it is used, how well it measured, what it is not for."""

from __future__ import annotations

from typing import Any, Literal

import yaml

from quipwright.data.task import Task
from quipwright.serving.export.origin import EMBEDDED_ID, Origin
from quipwright.serving.export.usage import Family, usage

Form = Literal["adapter", "hf", "peft", "gguf"]
FORMS: tuple[Form, ...] = ("hf", "peft", "gguf", "adapter")
_LIBRARIES = {"adapter": "quipwright", "hf": "transformers", "peft": "peft", "gguf": "gguf"}
_RELATIONS = {"adapter": "adapter", "hf": "finetune", "peft": "adapter", "gguf": "quantized"}
_LIMITS = """\
It is a small model. It gets facts wrong, repeats itself and writes nonsense in part of its answers; the figures above say how
often. Do not use it on sentences about grief, illness, self-harm, abuse or disaster, to write about real persons or groups of
people, or anywhere that nobody reads an answer before others do. Quipwright's own commands give such sentences back unanswered;
these weights alone do not."""


def model_card(origin: Origin, task: Task, form: Form, family: Family, where: str = ".") -> str:
    """The card in Markdown, with the metadata that the Hugging Face Hub reads.

    ``where``: how the usage shown names the weights, a hub id or the folder itself.
    """
    metadata = yaml.safe_dump(card_metadata(origin, task, form, family), sort_keys=False, allow_unicode=True).rstrip()
    prompt = "Prompt, as the user's turn of the chat template:" if task.student_chat else "Prompt:"
    return f"""\
---
{metadata}
---

# {origin.title}

{origin.made}

{prompt}

```
{task.prompt_in()}
```
{_styles(task)}
## Use

{usage(form, family, where, task.prompt_in())}

## Measured

{origin.measured}

## Limits

{_LIMITS}

## Training

{origin.training}
"""


def _styles(task: Task) -> str:
    """How the prompt asks for each style; nothing for a task without styles."""
    if not task.styles:
        return ""
    known = ", ".join(f"`{name}` (`{task.prompt_in(name).splitlines()[-1]}`)" for name in task.styles)
    return f"\nThis asks for style `{task.style_named()}`. The prompt's last line names the style: {known}.\n"


def card_metadata(origin: Origin, task: Task, form: Form, family: Family) -> dict[str, Any]:
    """The head of the card. Licence and language are stated where the base model's are known: for the embedded weights."""
    metadata: dict[str, Any] = {"library_name": _LIBRARIES[form]}
    if origin.base == EMBEDDED_ID:
        metadata |= {"license": licence(origin), "language": ["en"]}
    if origin.base is not None:
        metadata |= {"base_model": origin.base, "base_model_relation": _RELATIONS[form]}
    if origin.datasets:
        metadata["datasets"] = list(origin.datasets)
    metadata["pipeline_tag"] = "text-generation" if family == "causal" else "text2text-generation"
    metadata["tags"] = ["quipwright", task.name, "distillation", "paraphrase"]
    return metadata


def licence(origin: Origin) -> str | None:
    """The SPDX name of the base model's licence in the hub's spelling, where it is known."""
    return "apache-2.0" if origin.base == EMBEDDED_ID else None
