"""What a run will ask for, before anything is spent: calls, tokens, money and time of its teacher and critic.

``python -m understudy.estimate`` prints the table of Ravi et al. 2024's setting (12,000 literals, three paraphrases
each, one pair a literal in both orders) for three example prices. Token counts are reckoned from the real prompts at
four characters a token unless a handful of calls was measured.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pydantic import Field

from understudy.critic.mcp import ANSWER_TOKENS, MCPCritic, Reader
from understudy.llm import Capabilities, Choice, Completion, Message, Request
from understudy.llm.calls import Calls
from understudy.llm.chatdoor import CHOICE_TOKENS
from understudy.llm.spend import Price
from understudy.records import Sampling
from understudy.settings import Settings, validate
from understudy.task import Task
from understudy.teacher import teacher_request

CHARACTERS_PER_TOKEN = 4.0  # English text under current tokenisers; measured counts replace it
REASON_TOKENS = 40  # 15 to 20 words and the answer
FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND = 0.5, 50.0  # a middling server; measured times replace both
TYPICAL = "I was so scared when the lights went out last night that I hid in my room."


class Work(Settings):
    """How much is asked for. ``pairs`` are judged in both orders; ``n`` unset is the task's number."""

    literals: int = Field(12_000, ge=0)
    n: int | None = Field(None, ge=1)
    pairs: int = Field(12_000, ge=0)
    reader: Reader = Reader()
    teacher: str = "teacher"
    critic: str = "critic"
    concurrency: int = Field(32, ge=1)


@dataclass(frozen=True)
class Line:
    """One role's share. Tokens and ``seconds`` are of one call, ``cost`` of all (``None``: the price is unknown)."""

    role: str
    model: str
    calls: int
    tokens_in: float
    tokens_out: float
    seconds: float
    cost: float | None = None
    measured: bool = False

    def priced(self, prices: Mapping[str, Price]) -> Line:
        """With its cost by ``prices``."""
        price = prices.get(self.model)
        if price is None:
            return replace(self, cost=None)
        each = price.call + (self.tokens_in * price.input + self.tokens_out * price.output) / 1e6
        return replace(self, cost=self.calls * each)


@dataclass(frozen=True)
class Estimate:
    """All roles of a run; ``hours`` with so many calls under way at once."""

    lines: tuple[Line, ...]
    concurrency: int

    @property
    def cost(self) -> float | None:
        """Money in all, ``None`` where a price is unknown."""
        known = [line.cost for line in self.lines if line.cost is not None]
        return sum(known) if len(known) == len(self.lines) else None

    @property
    def hours(self) -> float:
        """Time in all."""
        return sum(line.calls * line.seconds for line in self.lines) / self.concurrency / 3600

    def table(self) -> str:
        """For people, as Markdown."""
        rows = ["| role | model | calls | tokens in | tokens out | cost |", "|---|---|--:|--:|--:|--:|"]
        for line in self.lines:
            tokens = f"{line.calls * line.tokens_in / 1e6:.2f} M | {line.calls * line.tokens_out / 1e6:.2f} M"
            how = "" if line.measured else " (reckoned)"
            rows.append(f"| {line.role}{how} | {line.model} | {line.calls:,} | {tokens} | {_money(line.cost)} |")
        total = f"| all | | {sum(line.calls for line in self.lines):,} | | | {_money(self.cost)} |"
        return "\n".join([*rows, total, "", f"About {self.hours:.1f} hours with {self.concurrency} calls under way."])


def estimate(task: Task, work: Work, prices: Mapping[str, Price], literals: Sequence[str] = (TYPICAL,)) -> Estimate:
    """The estimate of ``work`` from the prompts that would be sent about (up to 200 of) ``literals``."""
    shown = list(literals[:200])
    lines = []
    if work.literals:
        requests = [teacher_request(task, text, work.n or task.teacher.n) for text in shown]
        said = fmean(tokens_of(text) for text in shown) * 1.2 + 4  # a joke is a little longer, and has a number
        lines.append(_line("teacher", work.teacher, work.literals, requests, (work.n or task.teacher.n) * said))
    if work.pairs:
        per_showing, out = _readings(work.reader)
        asked = [_showing(task, work.reader, text) for text in shown]
        lines.append(_line("critic", work.critic, work.pairs * 2 * per_showing, asked, out))
    return Estimate(tuple(line.priced(prices) for line in lines), work.concurrency)


def measured(line: Line, calls: Calls, ask: Callable[[], object], prices: Mapping[str, Price]) -> Line:
    """``line`` with the tokens and the time of the handful of calls that ``ask`` makes (they are stored, not lost).

    What the store already held, or a server that does not count tokens, leaves the reckoned figures.
    """
    before = replace(calls.ledger)
    seen = len(list(calls.store.rows()))
    ask()
    rows = list(calls.store.rows())[seen:]
    now = calls.ledger
    count = now.calls - before.calls
    if not count:
        return line
    tokens_in, tokens_out = (now.tokens_in - before.tokens_in) / count, (now.tokens_out - before.tokens_out) / count
    better = replace(line, seconds=fmean(row.seconds for row in rows), measured=True)
    if tokens_in and tokens_out:
        better = replace(better, tokens_in=tokens_in, tokens_out=tokens_out)
    return better.priced(prices)


def tokens_of(text: str) -> int:
    """Tokens of ``text``, reckoned."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def _line(role: str, model: str, calls: int, requests: Sequence[Request], tokens_out: float) -> Line:
    tokens_in = fmean(sum(tokens_of(m.content) + 4 for m in request.messages) for request in requests)
    return Line(role, model, calls, tokens_in, tokens_out, FIRST_TOKEN_SECONDS + tokens_out / TOKENS_PER_SECOND)


def _readings(reader: Reader) -> tuple[int, float]:
    """Calls a showing and tokens out a call."""
    if reader.reading == "answer_only":
        return 1, CHOICE_TOKENS
    return (reader.samples, ANSWER_TOKENS) if reader.reading == "sampled" else (reader.reasons, REASON_TOKENS)


def _showing(task: Task, reader: Reader, literal: str) -> Request:
    critic = MCPCritic(_Unasked(), task, reader)
    return Request(critic.messages(literal, literal, literal), Sampling())


class _Unasked:
    """A model that is never asked: only the questions to it are looked at."""

    name = "unasked"
    capabilities = Capabilities(logprobs=20)

    def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        raise NotImplementedError

    def choose(self, messages: Sequence[Message], options: Sequence[str], sampling: Sampling) -> Choice:
        raise NotImplementedError

    def score(self, text: str) -> float | None:
        return None


EXAMPLES = {
    "small open model": Price(input=0.10, output=0.40),
    "mid-size model": Price(input=0.60, output=2.40),
    "large model": Price(input=2.50, output=10.00),
}


def main(arguments: Sequence[str] = ()) -> int:
    """Print the paper's setting at the example prices; ``--reading NAME`` picks the critic's reading."""
    reading = arguments[1] if len(arguments) == 2 and arguments[0] == "--reading" else "answer_only"
    task, reader = Task.load(), validate(Reader, {"reading": reading}, "--reading")
    for name, price in EXAMPLES.items():
        work = Work(reader=reader, teacher=name, critic=name)
        print(f"\n**{name}**: {price.input:g} in, {price.output:g} out for a million tokens\n")
        print(estimate(task, work, {name: price}).table())
    return 0


def _money(cost: float | None) -> str:
    return "unknown" if cost is None else f"{cost:,.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
