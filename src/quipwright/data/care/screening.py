"""What is learnt from passes the same filter as what is written on: sensitive texts are marked and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quipwright.core.progress import console
from quipwright.core.records import Response, Status
from quipwright.data.care.judgment import care_identity, sensitive_kinds
from quipwright.data.task import Task


def screened(responses: Sequence[Response], literals: Mapping[str, str], task: Task) -> list[Response]:
    """``responses``, those marked unusable of which the text or the literal (in ``literals`` by example id) is sensitive,
    unless ``task`` allows it."""
    usable = [] if task.allow_sensitive else [r for r in responses if r.usable]
    texts = list(dict.fromkeys(text for r in usable for text in (literals[r.example_id], r.text)))
    flagged = {text for text, kind in zip(texts, sensitive_kinds(texts), strict=True) if kind}
    marked = {r.id for r in usable if r.text in flagged or literals[r.example_id] in flagged}
    return [r.model_copy(update={"status": Status.SENSITIVE}) if r.id in marked else r for r in responses]


def screening_identity(task: Task) -> str:
    """What a stage whose texts are screened depends on besides; "" where nothing is screened."""
    return "" if task.allow_sensitive else care_identity()


def tell_screened(responses: Sequence[Response]) -> None:
    """Say how many of ``responses`` were marked, if any."""
    if count := sum(response.status is Status.SENSITIVE for response in responses):
        console.print(f"Left out as sensitive: {count} of {len(responses)} texts.", markup=False, highlight=False)
