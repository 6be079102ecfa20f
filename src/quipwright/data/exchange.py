"""Training data in the shapes that other libraries read and write: TRL's preference, KTO and prompt-completion rows.

Plain rows join to what a student is trained on: the prompt, a space, the text. Conversational rows have the prompt as the
user's turn. All keep the sentence itself as ``literal``, which other libraries pass over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.records import content_hash
from quipwright.core.text import normalise
from quipwright.data.task import Task
from quipwright.data.verdicts import VerdictRow

Fields = Mapping[str, Any]
_HELDOUT = 20  # of a hundred literals


def preference_rows(verdicts: Iterable[VerdictRow], task: Task, chat: bool = False) -> list[dict[str, Any]]:
    """``prompt``, ``chosen`` and ``rejected`` of each verdict that names a winner (TRL's DPOTrainer and RewardTrainer)."""
    rows = []
    for row in verdicts:
        if row.verdict != "tie":
            better = row if row.verdict == "a" else row.swapped()
            texts = {"chosen": _answer(better.a, chat), "rejected": _answer(better.b, chat)}
            rows.append({"prompt": _asked(row.literal, task, chat), **texts, "literal": row.literal})
    return rows


def kto_rows(verdicts: Iterable[VerdictRow], task: Task, chat: bool = False) -> list[dict[str, Any]]:
    """``prompt``, ``completion`` and ``label`` of each text (TRL's KTOTrainer): true where it won more often than it lost,
    left out where both were equally often."""
    won = Counter[tuple[str, str]]()
    for row in verdicts:
        if row.verdict != "tie":
            better = row if row.verdict == "a" else row.swapped()
            won[row.literal, better.a] += 1
            won[row.literal, better.b] -= 1
    return [
        {
            "prompt": _asked(literal, task, chat), "completion": _answer(text, chat), "label": balance > 0,
            "literal": literal,
        }
        for (literal, text), balance in won.items()
        if balance
    ]  # fmt: skip


def sft_rows(taught: Mapping[str, Sequence[str]], task: Task, chat: bool = False) -> list[dict[str, Any]]:
    """``prompt`` and ``completion`` of each text by its literal (TRL's SFTTrainer)."""
    return [
        {"prompt": _asked(literal, task, chat), "completion": _answer(text, chat), "literal": literal}
        for literal, texts in taught.items()
        for text in texts
    ]


def read_preferences(rows: Iterable[tuple[str, Fields]], task: Task) -> list[VerdictRow]:
    """Verdicts from preference or KTO rows, each with its place in the file.

    Read are ``prompt``/``chosen``/``rejected``, as text or as conversations; conversations that hold the prompt themselves
    (as UltraFeedback's do); ``score_chosen`` and ``score_rejected``, which may make a tie; and ``prompt``/``completion``/
    ``label``, where each text labelled true beats each labelled false of its prompt. The verdict of a fifth of the
    literals is held out, by a hash of the text. Raises :class:`DataError` naming the first row that is of no such shape.
    """
    verdicts: list[VerdictRow] = []
    labelled: dict[str, dict[bool, list[str]]] = {}
    for where, fields in rows:
        if "label" in fields and "completion" in fields:
            if not isinstance(fields["label"], bool):
                raise DataError(f"{where}: label is no true or false.", "Write true for a text that is liked.")
            sides = labelled.setdefault(_literal(where, fields, task), {True: [], False: []})
            sides[fields["label"]].append(_text(where, fields, "completion"))
        else:
            scores = fields.get("score_chosen"), fields.get("score_rejected")
            tie = scores[0] is not None and scores[0] == scores[1]
            texts = _text(where, fields, "chosen"), _text(where, fields, "rejected")
            verdicts.append(_verdict(_literal(where, fields, task), *texts, "tie" if tie else "a"))
    for literal, sides in labelled.items():
        verdicts += [_verdict(literal, liked, other, "a") for liked, other in product(sides[True], sides[False])]
    return verdicts


def read_taught(rows: Iterable[tuple[str, Fields]], task: Task) -> dict[str, list[str]]:
    """Texts by literal from prompt-completion rows or whole conversations (``messages``), each with its place."""
    taught: dict[str, list[str]] = {}
    for where, fields in rows:
        name = "messages" if "messages" in fields else "completion"
        taught.setdefault(_literal(where, fields, task), []).append(_text(where, fields, name))
    return taught


def _asked(literal: str, task: Task, chat: bool) -> Any:
    prompt = task.prompt(literal)
    return [{"role": "user", "content": prompt}] if chat else prompt


def _answer(text: str, chat: bool) -> Any:
    return [{"role": "assistant", "content": text}] if chat else f" {text}"


def _verdict(literal: str, a: str, b: str, verdict: Any) -> VerdictRow:
    held = int(content_hash(normalise(literal)), 16) % 100 < _HELDOUT
    return VerdictRow(literal=literal, a=a, b=b, verdict=verdict, split="heldout" if held else "train")


def _text(where: str, fields: Fields, name: str) -> str:
    """The text of the answer in field ``name``: the last assistant's turn of a conversation."""
    value = fields.get(name)
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content") if value[-1].get("role") == "assistant" else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{where} has no text in {name!r}.", "Rows need prompt, chosen, rejected; or prompt, completion and label."
        )
    return normalise(value)


def _literal(where: str, fields: Fields, task: Task) -> str:
    """The sentence: the field ``literal``, or what stands in the task's prompt (of any style), or the whole prompt."""
    prompt = fields.get("literal") or fields.get("prompt") or fields.get("messages") or fields.get("chosen")
    if isinstance(prompt, list):
        users = [turn.get("content") for turn in prompt if isinstance(turn, Mapping) and turn.get("role") == "user"]
        prompt = users[-1] if users else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(f"{where} has no prompt.", "Rows need a prompt, as text or as a user's turn.")
    for style in task.styles or ("",):
        before, _, after = task.prompt_in(style).partition("{literal}")
        start, end = before.strip(), after.strip()
        if prompt.strip().startswith(start) and prompt.strip().endswith(end):
            return normalise(prompt.strip().removeprefix(start).removesuffix(end))
    return normalise(prompt)
