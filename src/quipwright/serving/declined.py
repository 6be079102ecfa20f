"""A sentence that must not be joked about, on its way back."""

from __future__ import annotations

from quipwright.data.care.judgment import DECLINED
from quipwright.students.base import Generated


class Declined(str):
    """A sentence that was given back as it came; ``kind`` is what made it sensitive."""

    reason = DECLINED
    kind: str

    def __new__(cls, sentence: str, kind: str) -> Declined:
        """``sentence`` with its ``kind``, one of :data:`~quipwright.data.care.classifier.KINDS`."""
        text = super().__new__(cls, sentence)
        text.kind = kind
        return text


def given_back(sentence: str, kind: str) -> Generated:
    """``sentence`` in the place of what the student would have written."""
    return Generated(sentence, truncated=False, declined=kind)
