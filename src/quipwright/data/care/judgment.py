"""What may not be joked about, decided for a sentence: the word list first, then the classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from quipwright.core.config_files import read_yaml
from quipwright.core.paths import resolve
from quipwright.core.records import content_hash
from quipwright.core.storage.files import file_sha256
from quipwright.core.text import normalise
from quipwright.data.care.classifier import CARD_FILE, KINDS, WEIGHTS_FILE, CareClassifier

REASON = "sensitive"
DECLINED = f"declined: {REASON}"
"""The reason that stands beside a sentence which comes back unchanged."""
HELP = (
    "If this is about you or somebody near you, you need not carry it alone: "
    "findahelpline.com lists people who listen, in every country."
)
"""What is said to whoever writes of self-harm."""
SHIPPED = "bundled:care"
_WORDS = Path(__file__).parent / "words.yaml"
_PARTS = {"person": "person", "gone": "gone", "group": "group_names"}


class Care:
    """Says of sentences what makes them sensitive."""

    def __init__(self, classifier: CareClassifier | None, patterns: Mapping[str, re.Pattern[str]]) -> None:
        """``patterns`` by kind. Without a ``classifier`` they decide alone."""
        self.classifier, self.patterns = classifier, patterns

    def kinds(self, texts: Sequence[str]) -> list[str]:
        """For each of ``texts`` one of :data:`~quipwright.data.care.classifier.KINDS`, or "" where none applies."""
        listed = [self.listed(text) for text in texts]
        left = [i for i, kind in enumerate(listed) if not kind]
        if self.classifier is not None and left:
            rows = self.classifier.probabilities([normalise(texts[i]) for i in left])
            for i, row in zip(left, rows, strict=True):
                if float(row.sum()) >= self.classifier.card.threshold:
                    listed[i] = KINDS[int(row.argmax())]
        return listed

    def listed(self, text: str) -> str:
        """The kind under which the word list has ``text``, or ""."""
        plain = normalise(text)
        return next((kind for kind, pattern in self.patterns.items() if pattern.search(plain)), "")


def help_for(kind: str) -> list[str]:
    """:data:`HELP` where a sentence of this ``kind`` asks for it, else nothing."""
    return [HELP] if kind == "self-harm" else []


@cache
def shipped_care() -> Care:
    """The classifier and the word list that ship. They are read once, when they are first needed."""
    return Care(CareClassifier.load(resolve(SHIPPED, "Classifier")), word_list())


def sensitive_kinds(texts: Sequence[str]) -> list[str]:
    """:meth:`Care.kinds` of what ships, which is not read for no text."""
    return shipped_care().kinds(texts) if texts else []


@cache
def care_identity() -> str:
    """What the judgments of what ships depend on: the content of the classifier and of the word list."""
    folder = resolve(SHIPPED, "Classifier")
    return content_hash([file_sha256(path) for path in (folder / WEIGHTS_FILE, folder / CARD_FILE, _WORDS)])


@cache
def word_list(path: Path = _WORDS) -> dict[str, re.Pattern[str]]:
    """One pattern a kind, of the list in ``path``."""
    tree = read_yaml(path, "Word list")
    parts = {slot: tree[name].replace("\n", "") for slot, name in _PARTS.items()}
    return {kind: _pattern(tree[kind].splitlines(), parts) for kind in KINDS}


def _pattern(alternatives: Sequence[str], parts: Mapping[str, str]) -> re.Pattern[str]:
    for name, part in parts.items():
        alternatives = [one.replace(f"{{{name}}}", part) for one in alternatives]
    return re.compile("|".join(f"(?:{one})" for one in alternatives), re.IGNORECASE)
