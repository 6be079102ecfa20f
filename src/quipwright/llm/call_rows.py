"""What the store of calls holds: answers, and requests that were not answered, each checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipwright.core.storage.files import damaged
from quipwright.core.storage.sealed_files import read_sealed
from quipwright.llm.costs import Spent

SPENT = "calls.spent.json"  # beside the store: what it must hold, so that its loss is noticed
_REMEDY = "Restore it from a copy, or remove it: it is written anew from what the store holds."
UNFINISHED = "stopped before an answer came"


@dataclass(frozen=True)
class Stored:
    """One answered call, as it stands in the store. ``cost`` is ``None`` where unknown; ``seconds`` of the last try.

    ``charged`` is what attempts whose cost nobody told us may have come to (see :class:`~quipwright.llm.costs.CostLedger`).
    ``stage``: on whose account it was asked; the store fills it in.
    """

    key: str
    model: str
    request: dict[str, Any]
    reply: dict[str, Any]
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    charged: float = 0.0
    seconds: float = 0.0
    attempts: int = 1
    stage: str = ""

    def value(self) -> str:
        """All but the key, as canonical ASCII JSON (half a surrogate pair could not be stored otherwise)."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "key"}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Failed:
    """One request that was not answered, for the record: never an answer, and asked again by the next run.

    The run gave it up for ``reason``, or was itself stopped first (:data:`UNFINISHED`); what its attempts may have cost
    counts either way.
    """

    key: str
    model: str
    reason: str
    status: int | None
    attempts: int
    charged: float = 0.0

    @property
    def given_up(self) -> bool:
        """False where the run stopped before it could tell."""
        return self.reason != UNFINISHED


@dataclass(frozen=True)
class Spending:
    """What was spent on a store's calls: requests sent, and money at most."""

    attempts: int
    money: float

    @classmethod
    def beside(cls, store: Path) -> Spending | None:
        """As the file beside ``store`` says; ``None`` where there is none."""
        path = store.with_name(SPENT)
        if not path.exists():
            return None
        spent = read_sealed(path, _REMEDY)
        try:
            return cls(int(spent["attempts"]), float(spent["money"]))
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, error, _REMEDY) from None


def spent_by_stage(answers: Iterable[Stored], failures: Iterable[Failed], damaged: int) -> list[Spent]:
    """What ``answers`` and ``failures`` cost by stage and model, in the order of their first answers; of the ``damaged``
    answers nothing is known but their number."""
    spent: dict[tuple[str, str], Spent] = {}

    def add(one: Spent) -> None:
        key = (one.stage, one.model)
        spent[key] = spent[key] + one if key in spent else one

    for row in answers:
        add(
            Spent(
                stage=row.stage, model=row.model, calls=1, tokens_in=row.tokens_in, tokens_out=row.tokens_out,
                uncounted=int(row.tokens_in is None or row.tokens_out is None), cost=row.cost,
                unpriced=int(row.cost is None), charged=row.charged, seconds=row.seconds,
            )
        )  # fmt: skip
    for failure in failures:
        if failure.given_up or failure.charged:
            add(Spent(stage="given up", model=failure.model, charged=failure.charged))
    if damaged:
        add(Spent(stage="damaged", model="unknown", calls=damaged, uncounted=damaged, unpriced=damaged))
    return list(spent.values())


def row_hash(key: str, value: str) -> str:
    """Hash over a row\'s key and value."""
    return hashlib.sha256(f"{key}\n{value}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read_row(key: Any, value: Any, hashed: Any) -> Stored | None:
    """A row of the store, or ``None`` when it does not match its hash."""
    if not isinstance(key, str) or not isinstance(value, str) or row_hash(key, value) != hashed:
        return None
    fields: Mapping[str, Any] = json.loads(value)
    return Stored(key=key, **fields)


def read_note(name: Any, value: Any, hashed: Any) -> Any:
    """The fact in a note of the store, or ``None`` when it does not match its hash."""
    return json.loads(value) if isinstance(value, str) and row_hash(name, value) == hashed else None


def read_text(raw: bytes) -> str:
    """A text of the store. A flipped byte may have left no UTF-8: it is read all the same, its hash will tell."""
    return raw.decode("utf-8", "replace")
