"""The one way to every call: looked up in the store first, asked once, counted, capped and kept.

Every kind of model asks through :meth:`Calls.collect`; those behind HTTP send with the engine, local ones compute in
batches. The key of a call is everything that changes its answer and nothing that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from quipwright.core.records import content_hash
from quipwright.llm.call_rows import Failed, Stored
from quipwright.llm.call_store import CallStore
from quipwright.llm.costs import Budget, CostLedger, Price, cost_of
from quipwright.llm.engine import Engine
from quipwright.llm.thinking import without_thinking
from quipwright.llm.types import Choice, Completion, Failure, Request, choice_of, completion_of

Asked = tuple[str, Request]
Ask = Callable[[list[Asked]], Mapping[str, Stored | Failed]]


class _Asking(dict[str, "Future[Stored | Failed | None]"]):
    """The questions that are being asked now, by key."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()


@dataclass
class Calls:
    """A run's calls: the store, the engine that asks, the price table and the caps. ``base`` is where relative paths of a
    recipe start. Several threads may ask at once."""

    store: CallStore
    engine: Engine
    prices: Mapping[str, Price] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    base: Path | None = None
    asking: _Asking = field(default_factory=_Asking)

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        *,
        prices: Mapping[str, Price] | None = None,
        budget: Budget | None = None,
        base: Path | None = None,
    ) -> Iterator[Calls]:
        """The calls of run folder ``folder``; raises as :meth:`CallStore.open` does."""
        with CallStore.open(folder) as store, closing(Engine(store)) as engine:
            yield cls(store, engine, prices or {}, budget or Budget(), base)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.store.path.parent

    @property
    def ledger(self) -> CostLedger:
        """Totals so far."""
        return self.store.ledger

    def cost(self, model: str, tokens_in: int | None, tokens_out: int | None) -> float | None:
        """What an answer of ``model`` cost, ``None`` where unknown."""
        return cost_of(self.prices, model, tokens_in, tokens_out)

    def bound(self, model: str, request: Request) -> float | None:
        """The most ``request`` can cost, ``None`` where unknown: a byte is at most a token."""
        most = sum(len(message.content.encode("utf-8", "replace")) + 8 for message in request.messages)
        return self.cost(model, most, request.sampling.max_tokens)

    def collect(self, identity: Mapping[str, Any], requests: Sequence[Request], ask: Ask) -> list[Stored | Failed]:
        """One stored answer or failure a request, in order; ``ask`` is given what the store does not hold, once each.

        ``identity`` is all about the model that changes its answers. ``ask`` must store what it returns. What another
        thread is asking now is waited for.
        """
        keys = [key_of(identity, request) for request in requests]
        by_key = dict(zip(keys, requests, strict=True))
        rows: dict[str, Stored | Failed] = {}
        while missing := {key: request for key, request in by_key.items() if key not in rows}:
            with self.asking.lock:
                rows |= self.store.find(list(missing))
                mine = [key for key in missing if key not in rows and key not in self.asking]
                elsewhere = {key: self.asking[key] for key in missing if key in self.asking}
                self.asking |= {key: Future() for key in mine}
            rows |= self._ask([(key, missing[key]) for key in mine], ask)
            wait(elsewhere.values())
            rows |= {key: row for key, future in elsewhere.items() if (row := future.result()) is not None}
        return [rows[key] for key in keys]

    def _ask(self, mine: list[Asked], ask: Ask) -> Mapping[str, Stored | Failed]:
        """What ``ask`` gives, told to whoever waits for it; where it raises, they ask themselves."""
        rows: Mapping[str, Stored | Failed] = {}
        try:
            rows = ask(mine) if mine else {}
        finally:
            with self.asking.lock:
                for key, _ in mine:
                    self.asking.pop(key).set_result(rows.get(key))
        return rows

    def keep(self, rows: Iterable[Stored | Failed]) -> dict[str, Stored | Failed]:
        """Store and count answers made in this process; returns them by key."""
        kept = list(rows)
        answers = [row for row in kept if isinstance(row, Stored)]
        self.store.put(answers, [row for row in kept if isinstance(row, Failed)])
        for row in kept:
            if isinstance(row, Stored):
                self.store.add(row, counted=False)
            else:
                self.ledger.failures += 1
                self.ledger.attempts += row.attempts
        return {row.key: row for row in kept}


def key_of(identity: Mapping[str, Any], request: Request) -> str:
    """The key of a call: hash of the model's identity and the request's content."""
    return content_hash(dict(identity), request.content())


def as_completion(row: Stored | Failed) -> Completion | Failure:
    """A stored row as a completion: what the model answered, without what it thought aloud."""
    return without_thinking(completion_of(row.reply, row.key)) if isinstance(row, Stored) else as_failure(row)


def as_choice(row: Stored | Failed) -> Choice | Failure:
    """A stored row as a choice."""
    return choice_of(row.reply, row.key) if isinstance(row, Stored) else as_failure(row)


def as_failure(row: Failed) -> Failure:
    """A recorded failure, as the caller sees it."""
    return Failure(row.reason, row.status, row.attempts, row.key)
