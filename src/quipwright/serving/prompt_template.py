"""The task's prompt in the languages of other tools: a Jinja chat template, and the Go template of an Ollama Modelfile.

A chat template of ours takes a plain sentence as the user's turn and shows the student what it was trained on, in the
task's default style where it names styles. Of a longer conversation it shows the last user's turn and what the assistant
says to it: a student keeps no conversation.
"""

from __future__ import annotations

import json
from typing import Any

from quipwright.data.task import Task

_SLOT = "{literal}"
_TURNS = """\
{%- set ns = namespace(literal='', answer=none) -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- set ns.answer = none -%}
{%- if message['content'] is string -%}
{%- set ns.literal = message['content'] | trim -%}
{%- else -%}
{%- set ns.literal = message['content'] | map(attribute='text') | join(' ') | trim -%}
{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{%- set ns.answer = message['content'] -%}
{%- endif -%}
{%- endfor -%}
"""


def chat_template(task: Task, tokenizer: Any) -> str:
    """The Jinja template that renders ``task``'s prompt for a decoder-only student with ``tokenizer``.

    Where the task wants chat, the tokenizer's own template gets the prompt as the user's turn.
    """
    if task.student_chat:
        return wrapping(task) + str(tokenizer.chat_template)
    opening = _quoted(_opening(tokenizer))
    prompt = f"{{{{- {opening} + {_prompt(task)} -}}}}\n"
    answer = f"{{%- if ns.answer is not none -%}}\n{{{{- ' ' + ns.answer + {_quoted(tokenizer.eos_token)} -}}}}\n"
    return f"{_TURNS}{prompt}{answer}{{%- endif -%}}"


def wrapping(task: Task) -> str:
    """What stands before the tokenizer's own template where ``task`` wants chat: the sentence becomes the prompt."""
    answer = "([{'role': 'assistant', 'content': ns.answer}] if ns.answer is not none else [])"
    return f"{_TURNS}{{%- set messages = [{{'role': 'user', 'content': {_prompt(task)}}}] + {answer} -%}}\n"


def go_template(task: Task, tokenizer: Any) -> str:
    """The ``TEMPLATE`` of a Modelfile: the prompt around ``{{ .Prompt }}``, without the start token, which the runtime adds."""
    if not task.student_chat:
        return "{{ .Prompt }}".join(map(_escaped, task.prompt_in().split(_SLOT)))
    marker = "\ue000"  # of the private use area: no prompt has it
    turn = [{"role": "user", "content": task.prompt(marker)}]
    rendered = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    opening = _opening(tokenizer)
    return "{{ .Prompt }}".join(map(_escaped, rendered.removeprefix(opening).split(marker)))


def _prompt(task: Task) -> str:
    """The prompt as a Jinja expression over ``ns.literal``."""
    return " + ns.literal + ".join(map(_quoted, task.prompt_in().split(_SLOT)))


def _opening(tokenizer: Any) -> str:
    """What the tokenizer puts before every text, as text."""
    bare = list(tokenizer("a", add_special_tokens=False).input_ids)
    whole = list(tokenizer("a").input_ids)
    return str(tokenizer.decode(whole[: whole.index(bare[0])])) if bare else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """``text`` between actions of a Go template within three quotation marks."""
    parts = text.replace('"""', '""\ue000').split("{{")
    return "{{ `{{` }}".join(parts).replace("\ue000", '{{ `"` }}')
