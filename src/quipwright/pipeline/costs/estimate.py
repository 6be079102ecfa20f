"""What a run will ask for, before anything is spent: calls, tokens, money and time of its teacher and critic.

``python -m quipwright.pipeline.costs.estimate`` prints the table of Ravi et al. 2024's setting (12,000 literals, three paraphrases
each, one pair a literal in both orders) for three example prices. Token counts are reckoned from the real prompts at
four characters a token unless a handful of calls was measured.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pydantic import Field

from quipwright.core.config_files import validate
from quipwright.core.records import Sampling
from quipwright.core.settings import Settings
from quipwright.critics.grading import GradeReader, GradingCritic, Shown
from quipwright.critics.multiple_choice import ANSWER_TOKENS, MultipleChoiceCritic
from quipwright.critics.reader import Reader, Reading
from quipwright.data.task import Task
from quipwright.data.teacher import teacher_request
from quipwright.llm.calls import Calls
from quipwright.llm.chat_model import CHOICE_TOKENS
from quipwright.llm.costs import Price
from quipwright.llm.types import Capabilities, Choice, Completion, Failure, Request

CHARACTERS_PER_TOKEN = 4.0  # English text under current tokenisers; measured counts replace it
REASON_TOKENS = 40  # 15 to 20 words and the answer
GRADE_TOKENS = 5  # a number, a colon, a level's name, the end of the line
FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND = 0.5, 50.0  # a middling server; measured times replace both
TYPICAL = "I was so scared when the lights went out last night that I hid in my room."


class Work(Settings):
    """How much is asked for. ``pairs`` are judged in both orders; ``n`` unset is the task's number. ``lists``: how many
    lists of how many texts each are graded, as ``grading`` reads.

    ``able``: what the critic's model can do; one without log-probabilities is asked as its reader then falls back.
    ``concurrency`` unset: answers come whenever a provider's batch or people are done.
    """

    literals: int = Field(12_000, ge=0)
    n: int | None = Field(None, ge=1)
    pairs: int = Field(12_000, ge=0)
    reader: Reader = Reader()
    lists: tuple[tuple[int, int], ...] = ()
    grading: GradeReader = GradeReader()
    teacher: str = "teacher"
    critic: str = "critic"
    able: Capabilities = Capabilities(logprobs=20)
    concurrency: int | None = Field(32, ge=1)


@dataclass(frozen=True)
class Line:
    """One role's share, at one ``stage`` on one ``split`` where it is of a recipe. Tokens and ``seconds`` are of one call,
    ``cost`` of all (``None``: the price is unknown).

    ``concurrency`` as in :class:`Work`.
    """

    role: str
    model: str
    calls: int
    tokens_in: float
    tokens_out: float
    seconds: float
    concurrency: int | None = 32
    cost: float | None = None
    measured: bool = False
    stage: str = ""
    split: str = ""

    def as_measured(self, other: Line) -> Line:
        """With the tokens and the time of a call of ``other``, where those were measured."""
        if not other.measured:
            return self
        return replace(
            self, tokens_in=other.tokens_in, tokens_out=other.tokens_out, seconds=other.seconds, measured=True
        )

    def priced(self, prices: Mapping[str, Price]) -> Line:
        """With its cost by ``prices``."""
        price = prices.get(self.model)
        if price is None:
            return replace(self, cost=None)
        each = price.call + (self.tokens_in * price.input + self.tokens_out * price.output) / 1e6
        return replace(self, cost=self.calls * each)


@dataclass(frozen=True)
class Estimate:
    """All roles of a run."""

    lines: tuple[Line, ...]

    @property
    def cost(self) -> float | None:
        """Money in all, ``None`` where a price is unknown."""
        known = [line.cost for line in self.lines if line.cost is not None]
        return sum(known) if len(known) == len(self.lines) else None

    @property
    def hours(self) -> float:
        """Time in all, but for what nobody knows the time of."""
        return sum(line.calls * line.seconds / line.concurrency for line in self.lines if line.concurrency) / 3600

    def time(self) -> str:
        """The hours for people."""
        under_way = dict.fromkeys((line.concurrency, line.role) for line in self.lines if line.concurrency)
        unknown = dict.fromkeys(line.role for line in self.lines if not line.concurrency)
        concurrency = ", ".join(f"{count} ({role})" for count, role in under_way)
        if len(counts := {count for count, _ in under_way}) == 1:
            concurrency = str(*counts)
        known = [f"About {self.hours:.1f} hours with {concurrency} calls under way."] if under_way else []
        waits = [f"How long answers take that come in files is not known ({', '.join(unknown)})."] if unknown else []
        return " ".join(known + waits)

    def table(self) -> str:
        """For people, as Markdown."""
        staged = any(line.stage for line in self.lines)
        places, rule = (" stage | split |", "---|---|") if staged else ("", "")
        rows = [
            f"| role |{places} model | calls | tokens in | tokens out | cost |",
            f"|---|{rule}---|--:|--:|--:|--:|",
        ]
        for line in self.lines:
            tokens = f"{line.calls * line.tokens_in / 1e6:.2f} M | {line.calls * line.tokens_out / 1e6:.2f} M"
            mark = "" if line.measured else " (reckoned)"
            place = f" {line.stage} | {line.split} |" if staged else ""
            rows.append(
                f"| {line.role}{mark} |{place} {line.model} | {line.calls:,} | {tokens} | {_money(line.cost)} |"
            )
        place = " | |" if staged else ""
        total = f"| all |{place} | {sum(line.calls for line in self.lines):,} | | | {_money(self.cost)} |"
        return "\n".join([*rows, total, "", self.time()])


def estimate(task: Task, work: Work, prices: Mapping[str, Price], literals: Sequence[str] = (TYPICAL,)) -> Estimate:
    """The estimate of ``work`` from the prompts that would be sent about (up to 200 of) ``literals``.

    Raises :class:`~quipwright.core.errors.CriticError` where the critic would refuse its model.
    """
    shown = list(literals[:200])
    lines = []
    if work.literals:
        requests = [teacher_request(task, text, work.n or task.teacher.n) for text in shown]
        said = fmean(tokens_of(text) for text in shown) * 1.2 + 4  # a joke is a little longer, and has a number
        made = _line("teacher", work.teacher, work.literals, requests, (work.n or task.teacher.n) * said)
        lines.append(made)
    if work.pairs:
        with warnings.catch_warnings(action="ignore"):  # the role says it
            critic = MultipleChoiceCritic(_Unasked(work.critic, work.able), task, work.reader)
        role = "critic" if critic.reading == work.reader.reading else f"critic, {critic.reading}"
        per_showing, out = _readings(critic.reading, work.reader)
        asked = [Request(critic.messages(text, text, text), Sampling()) for text in shown]
        lines.append(_line(role, work.critic, work.pairs * 2 * per_showing, asked, out))
    if work.lists:
        lines.append(_grading_line(task, work, shown))
    return Estimate(tuple(replace(line, concurrency=work.concurrency).priced(prices) for line in lines))


def _grading_line(task: Task, work: Work, literals: Sequence[str]) -> Line:
    """The share of a critic that grades lists: tokens are the mean over all of them."""
    critic = GradingCritic(_Unasked(work.critic, work.able), task, work.grading)
    calls, tokens_in, tokens_out = 0, 0.0, 0.0
    for count, size in work.lists:
        parts = work.grading.lists(size)
        each = math.ceil(size / parts)
        asked = [Request(critic.messages(Shown(text, (text,) * each)), Sampling()) for text in literals]
        number = count * parts + round(count * parts * work.grading.twice if each > 1 else 0)
        line = _line("critic, grades", work.critic, number, asked, each * GRADE_TOKENS)
        calls += number
        tokens_in += number * line.tokens_in
        tokens_out += number * line.tokens_out
    spoken = tokens_out / max(1, calls)
    seconds = FIRST_TOKEN_SECONDS + spoken / TOKENS_PER_SECOND
    return Line("critic, grades", work.critic, calls, tokens_in / max(1, calls), spoken, seconds)


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


def _readings(reading: Reading, reader: Reader) -> tuple[int, float]:
    """Calls a showing and tokens out a call."""
    if reading == "answer_only":
        return 1, CHOICE_TOKENS
    return (reader.samples, ANSWER_TOKENS) if reading == "sampled" else (reader.reasons, REASON_TOKENS)


class _Unasked:
    """A model that is never asked: only the questions to it are looked at."""

    def __init__(self, name: str, able: Capabilities) -> None:
        self.name, self.capabilities = name, able

    def complete_many(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        return [Failure("never asked")] * len(requests)

    def choose_many(self, requests: Sequence[Request]) -> list[Choice | Failure]:
        return [Failure("never asked")] * len(requests)


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
