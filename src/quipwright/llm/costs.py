"""What calls cost: prices, caps, and the ledger's totals. An unknown price is unknown, never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from quipwright.core.errors import BudgetError, RecipeError
from quipwright.core.settings import Settings


class Price(Settings):
    """Money for a million tokens, in and out, and for a call. The currency is the user's own: we only add."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    call: float = Field(0.0, ge=0)

    def of(self, tokens_in: int | None, tokens_out: int | None) -> float | None:
        """Cost of one call; ``None`` where a token count that matters is unknown."""
        total = self.call
        for tokens, price in ((tokens_in, self.input), (tokens_out, self.output)):
            if price and tokens is None:
                return None
            total += (tokens or 0) * price / 1e6
        return total


Prices = Mapping[str, Price]


def cost_of(prices: Prices, model: str, tokens_in: int | None, tokens_out: int | None) -> float | None:
    """Cost of a call to ``model``, or ``None``: not in the table, or tokens not reported."""
    price = prices.get(model)
    return None if price is None else price.of(tokens_in, tokens_out)


class Budget(Settings):
    """Caps of a run: ``money`` in the price table's currency, ``calls`` counting every attempt. ``None`` is no cap."""

    money: float | None = Field(None, ge=0)
    calls: int | None = Field(None, ge=0)


class Spent(Settings):
    """What one stage's calls to one model came to. ``tokens_in``, ``tokens_out`` and ``cost`` add what is known and are
    ``None`` where nothing is; ``uncounted`` calls did not say how many tokens, ``unpriced`` ones have no known cost.

    ``charged`` as in :class:`CostLedger`. ``seconds`` of the answered calls, which may have run beside each other.
    """

    stage: str
    model: str
    calls: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    uncounted: int = 0
    cost: float | None = None
    unpriced: int = 0
    charged: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        """Both together, under this one's names."""
        known = {name: _sum(getattr(self, name), getattr(other, name)) for name in ("tokens_in", "tokens_out", "cost")}
        counts = ("calls", "uncounted", "unpriced", "charged", "seconds")
        added = {name: getattr(self, name) + getattr(other, name) for name in counts}
        return self.model_copy(update=known | added)

    @property
    def money(self) -> str:
        """The cost for people; what is unknown is said to be."""
        if self.cost is None:
            shown = "unknown" if self.unpriced else "0.0000"
        else:
            shown = f"{self.cost:.4f}" + (f" (calls of unknown cost: {self.unpriced})" if self.unpriced else "")
        return shown + (f", up to {self.charged:.4f} more for attempts of unknown cost" if self.charged else "")


def _sum(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else a + b


@dataclass
class CostLedger:
    """Totals of a run so far. ``cost`` adds what is known; ``unpriced`` counts answered calls whose cost is unknown.

    ``attempts`` counts every request sent, failed ones included; ``charged`` is the upper bound put down for attempts
    that a provider may bill without telling us: failed after the server may have worked for us (a time-out, a torn
    answer), or answered without a count of tokens.
    """

    calls: int = 0
    attempts: int = 0
    failures: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    charged: float = 0.0
    unpriced: int = 0

    def since(self, before: CostLedger, stage: str) -> Spent:
        """What was spent after ``before``, on ``stage``'s account."""
        calls, unpriced = self.calls - before.calls, self.unpriced - before.unpriced
        return Spent(
            stage=stage,
            model="",
            calls=calls,
            tokens_in=(self.tokens_in - before.tokens_in) or None,
            tokens_out=(self.tokens_out - before.tokens_out) or None,
            cost=self.cost - before.cost if calls > unpriced else None,
            unpriced=unpriced,
            charged=self.charged - before.charged,
        )

    @property
    def spent(self) -> float:
        """What counts against ``budget.money``."""
        return self.cost + self.charged

    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.calls} answers from {self.attempts} attempts, {self.failures} failures, "
            f"{self.tokens_in} tokens in, {self.tokens_out} out, cost {self.since(CostLedger(), '').money}"
        )


def check_priced(budget: Budget, prices: Prices, model: str) -> None:
    """Raises :class:`RecipeError` where money is capped and ``model`` has no price: the cap could not hold."""
    if budget.money is not None and model not in prices:
        raise RecipeError(
            f"budget.money is {budget.money:g}, but the price of {model!r} is unknown, so the cap could not hold.",
            f"Add {model!r} to prices (money for a million tokens in and out), or cap budget.calls.",
        )


def check_budget(budget: Budget, ledger: CostLedger) -> None:
    """Raises :class:`BudgetError` when one more call is not allowed. Attempts in flight are already in the ledger."""
    if budget.calls is not None and ledger.attempts >= budget.calls:
        raise BudgetError(
            f"budget.calls is reached: {ledger.attempts} of {budget.calls} calls were made.",
            "All answers are stored; raise budget.calls and run the same command again to go on.",
        )
    if budget.money is not None and ledger.spent >= budget.money:
        raise BudgetError(
            f"budget.money is reached: {ledger.spent:.4f} of {budget.money:g} is spent.",
            "All answers are stored; raise budget.money and run the same command again to go on.",
        )
