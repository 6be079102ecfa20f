"""The frozen records that cross every wall. They import nothing of ours.

A record's ``id`` is a hash of its content, so that equal things are equal, lineage is explicit, and a flipped byte in
a stored row is noticed when the row is read back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "valid", "test", "ood"]
Verdict = Literal["A", "B", "tie", "unparsed"]
Order = Literal["ab", "ba"]
_SWAPPED: dict[Verdict, Verdict] = {"A": "B", "B": "A", "tie": "tie", "unparsed": "unparsed"}
_CREDIT: dict[Verdict, float | None] = {"A": 1.0, "tie": 0.5, "B": 0.0, "unparsed": None}


def credit(verdict: Verdict) -> float | None:
    """What text A earns by ``verdict``: 1 for a win, one half for a tie, 0 for a loss, ``None`` where it is unread."""
    return _CREDIT[verdict]


def swapped(verdict: Verdict) -> Verdict:
    """``verdict`` once A and B have changed places."""
    return _SWAPPED[verdict]


def content_hash(*parts: Any) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of ``parts``; stable across processes and machines."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot hash a {type(value).__name__}")


class Record(BaseModel):
    """Base: frozen, no unknown fields, content-hashed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @cached_property
    def id(self) -> str:
        """Content hash over the class name and all fields."""
        return content_hash(type(self).__name__, self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but the copy computes an ``id`` of its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("id", None)
        return copy

    def to_line(self) -> str:
        """One JSON line (no newline), ``id`` first."""
        return json.dumps({"id": self.id, **self.model_dump(mode="json")}, ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Inverse of :meth:`to_line`. Raises ``ValueError`` where the line is no record or its id not the content's."""
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        stored = fields.pop("id", None)
        record = cls.model_validate(fields)
        if stored != record.id:
            raise ValueError(f"stored id {stored} is not the content's id {record.id}")
        return record


def ids_hash(records: Iterable[Record]) -> str:
    """One hash over the ids of ``records``, in order: the identity of a stage's input."""
    return content_hash([record.id for record in records])


class Example(Record):
    """A literal sentence. ``source`` names the data set it is from."""

    text: str
    split: Split = "train"
    source: str = ""


class Sampling(Record):
    """How a text was drawn. ``temperature`` 0 and ``beams`` > 1 mean beam search; ``top_p`` 1 is the full nucleus."""

    temperature: float = 0.0
    top_p: float = 1.0
    beams: int = 1
    max_tokens: int = 64
    seed: int = 0
    index: int = 0


class DiverseBeams(Record):
    """How a text was written by diverse beam search: which of ``groups`` it is, and the ``penalty`` in nats a vote."""

    groups: int
    penalty: float
    max_tokens: int = 64
    index: int = 0


class Status(StrEnum):
    """What became of a response; the value is the word that reports show.

    Of the whole answer to an example: no model gave one (``UNANSWERED``), it was declined (``REFUSED``), it holds no list
    (``UNPARSED``). Of a single text: all others.
    """

    OK = "ok"
    UNANSWERED = "unanswered"
    REFUSED = "refused"
    UNPARSED = "no list"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    COPY = "copy"
    DUPLICATE = "duplicate"
    EMPTY = "empty"
    SYMBOLS = "symbols"
    REPEATS = "repeats"
    TOO_LONG = "too long"
    SENSITIVE = "sensitive"


class Response(Record):
    """A paraphrase of an example. ``author`` is ``teacher:…``, ``student:<checkpoint>``, ``rule:…`` or ``human``.

    ``style`` is that which was asked for, by its name in the task; empty where the task has no styles. ``status`` says
    whether it is used or only kept on record, and why; ``detail`` is the reason in words, if there is more to say.
    """

    example_id: str
    text: str
    author: str
    style: str = ""
    sampling: Sampling | DiverseBeams | None = None
    call_id: str | None = None
    status: Status = Status.OK
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether it is a text to work with."""
        return self.status is Status.OK


class Pair(Record):
    """Two responses of one example, to be compared. ``selector`` names the rule that picked them, or what they are for."""

    example_id: str
    a_id: str
    b_id: str
    selector: str
    round: int = 0


@dataclass(frozen=True)
class Comparison:
    """A pair with its texts: what a critic reads. ``literal`` is the source sentence of both."""

    pair: Pair
    literal: str
    a: str
    b: str

    def swapped(self) -> Comparison:
        """The same two texts, A and B having changed places. It is another pair, with an id of its own."""
        pair = self.pair.model_copy(update={"a_id": self.pair.b_id, "b_id": self.pair.a_id})
        return Comparison(pair, self.literal, self.b, self.a)


class Judgment(Record):
    """One reading of one pair by one judge in one presentation order.

    ``shown`` is ``ab`` when A stood first. ``p_a`` in [0, 1] is the probability that A is better (whatever the order),
    or ``None`` where the judge gives no probability. ``answered`` is false where no model answered; ``reason`` then says
    why. People and critics write the same record.
    """

    pair_id: str
    judge: str
    shown: Order = "ab"
    p_a: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    verdict: Verdict
    question: str = "overall"
    reason: str = ""
    answered: bool = True
    call_id: str | None = None

    @property
    def credit(self) -> float | None:
        """The probability that A is better. Without one, the credit of the verdict. ``None`` where it is unread."""
        return credit(self.verdict) if self.verdict == "unparsed" or self.p_a is None else self.p_a

    def swapped(self, pair_id: str | None = None) -> Judgment:
        """The same reading of the swapped pair, whose id is ``pair_id`` (see :meth:`Comparison.swapped`)."""
        changed = {
            "pair_id": pair_id or self.pair_id,
            "shown": "ba" if self.shown == "ab" else "ab",
            "p_a": None if self.p_a is None else 1 - self.p_a,
            "verdict": swapped(self.verdict),
        }
        return self.model_copy(update=changed)


class Grade(Record):
    """An absolute reading of one response: a score in nats of preference and, where predicted, grade probabilities.

    ``levels`` are the probabilities of the grades that the task names, worst first; they add up to 1. ``score`` is ``None``
    where the reading could not be read. ``readings``: of a judge that names a level, the number of each one that it named,
    in another order of the texts each time. ``answered`` is false where no model answered; ``reason`` then says why.
    """

    response_id: str
    judge: str
    score: float | None = Field(allow_inf_nan=False)
    levels: tuple[float, ...] | None = None
    readings: tuple[int, ...] = ()
    reason: str = ""
    answered: bool = True
    call_id: str | None = None


class SequenceScore(Record):
    """Summed log-probability in nats of one response under one checkpoint, with the tokens scored (end included)."""

    response_id: str
    checkpoint_id: str
    total: float
    tokens: int


class Ranking(Record):
    """Responses of one example, best first, as its judgments order them.

    ``strength`` is the probability of the order (of its weakest neighbouring step); ``agreement`` says whether the
    two presentation orders named the same winner (``None`` where a judge is shown no order).
    """

    example_id: str
    best_first: tuple[str, ...]
    strength: float
    agreement: bool | None = None
    judgment_ids: tuple[str, ...] = ()


class Checkpoint(Record):
    """A trained student. ``path`` is relative to the folder that holds the run's stages."""

    path: str
    student: str
    objective: str
    round: int
    parent_id: str | None
    settings_hash: str
    data_hash: str
    weights_hash: str
