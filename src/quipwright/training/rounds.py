"""Pure pieces of the feedback rounds: rows out of rankings, what is remembered between rounds, which student is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from quipwright.core.records import Checkpoint, Example, Grade, Quality, Ranking, Response
from quipwright.core.settings import Settings
from quipwright.students.base import Prompted, Student
from quipwright.students.batches import ANCHOR


class Watch(Settings):
    """What is measured on the validation split after each round, and what follows from it.

    The student's answers are judged against the teacher's. ``keep_best``: the round of highest win-tie rate becomes
    the result, else the last one. ``patience``: stop after so many rounds without a higher rate (``None``: never).
    ``each: epoch`` measures after each epoch of a round as well: the round's checkpoint is its best epoch, and its
    training stops by the same patience. A round or epoch is *degenerate* where its answers are more than ``longer``
    times as long as the imitation student's, their distinct-2 is below ``distinct`` of its, or the shares of copies or
    empty answers grew by more than ``copies`` or ``empty``; such a one is warned of, is no gain, and is never kept
    while another is to be had.
    """

    each: Literal["round", "epoch"] = "round"
    keep_best: bool = True
    patience: int | None = Field(None, ge=1)
    longer: float = Field(1.5, gt=1)
    distinct: float = Field(0.6, gt=0, le=1)
    copies: float = Field(0.15, ge=0, le=1)
    empty: float = Field(0.05, ge=0, le=1)

    def complaints(self, now: Quality, before: Quality) -> list[str]:
        """In what ``now`` has degenerated against ``before`` (the imitation student); empty where it has not."""
        found = []
        if now.length_ratio > self.longer * before.length_ratio:
            found.append(f"writes {now.length_ratio / max(before.length_ratio, 1e-9):.2f} times as long")
        if now.distinct_2 < self.distinct * before.distinct_2:
            found.append(f"distinct-2 fell from {before.distinct_2:.2f} to {now.distinct_2:.2f}")
        if now.copy_rate > before.copy_rate + self.copies:
            found.append(f"copies rose from {before.copy_rate:.0%} to {now.copy_rate:.0%}")
        if now.empty > before.empty + self.empty:
            found.append(f"empty answers rose from {before.empty:.0%} to {now.empty:.0%}")
        return found


@dataclass(frozen=True)
class Reading:
    """One round on the validation split: its win-tie rate against the teacher and in what it degenerated.

    Within a round ``round`` is the step of its training.
    """

    round: int
    rate: float
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """Measures a student in the middle of its training: ``read(student, step)``. ``key`` says by what, for the
    checkpoint that follows from it depends on that."""

    read: Callable[[Student, int], Reading]
    watch: Watch
    key: list[Any]


def best_round(readings: Sequence[Reading]) -> int:
    """The number of the round to keep: the highest rate among the sound ones, the earliest of equals."""
    sound = [r for r in readings if not r.complaints] or list(readings)
    return max(sound, key=lambda r: (r.rate, -r.round)).round


def out_of_patience(readings: Sequence[Reading], patience: int | None) -> bool:
    """True where the last ``patience`` rounds all stayed at or below the best rate before them; a degenerate round
    counts as below every sound one."""
    if patience is None or len(readings) <= patience:
        return False

    def gain(reading: Reading) -> tuple[bool, float]:
        return not reading.complaints, reading.rate

    best = max(map(gain, readings[:-patience]))
    return all(gain(r) <= best for r in readings[-patience:])


@dataclass
class Memory:
    """What rounds leave to later ones: the texts and rankings so far."""

    keep: bool
    texts: dict[str, Response] = field(default_factory=dict)
    rankings: list[Ranking] = field(default_factory=list)

    def recall(
        self, texts: Mapping[str, Response], rankings: Sequence[Ranking]
    ) -> tuple[dict[str, Response], list[Ranking]]:
        """What this round trains on: its own, after all earlier rounds' where those are kept."""
        if not self.keep:
            return dict(texts), list(rankings)
        self.texts.update(texts)
        self.rankings.extend(rankings)
        return dict(self.texts), list(self.rankings)


def ranked_rows(
    prompt: Callable[[Example], str],
    examples: Mapping[str, Example],
    texts: Mapping[str, Response],
    rankings: Sequence[Ranking],
    taught: Mapping[str, Sequence[Response]],
) -> tuple[list[Prompted], list[list[Response]]]:
    """One row a ranking, best first, and the responses behind its columns.

    Where ``taught`` has the example, one of its responses (another one for each ranking of it) is the last column,
    the target of the MLE term and compared with nothing.
    """
    rows, columns = [], []
    used: dict[str, int] = {}
    for ranking in rankings:
        own, example = [texts[i] for i in ranking.best_first], examples[ranking.example_id]
        ranks: tuple[int, ...] = ()
        if anchors := taught.get(example.id):
            turn = used.get(example.id, 0)
            used[example.id] = turn + 1
            ranks = (*range(len(own)), ANCHOR)
            own.append(anchors[turn % len(anchors)])
        rows.append(Prompted(prompt(example), tuple(r.text for r in own), ranks))
        columns.append(own)
    return rows, columns


def winners(rankings: Sequence[Ranking], texts: Mapping[str, Response]) -> dict[str, list[Response]]:
    """The preferred responses by example id: what self-distillation imitates (Ravi et al. 2024 sec. 3.2, SD)."""
    found: dict[str, list[Response]] = {}
    for ranking in rankings:
        found.setdefault(ranking.example_id, []).append(texts[ranking.best_first[0]])
    return found


def best_of(attempts: Mapping[str, Sequence[Response]], grades: Mapping[str, Grade]) -> dict[str, list[Response]]:
    """The critic's best usable attempt at each example: what best-of-N imitation imitates."""
    usable = {e: [r for r in own if r.usable and r.id in grades] for e, own in attempts.items()}
    return {e: [max(own, key=lambda r: grades[r.id].score)] for e, own in usable.items() if own}


@dataclass
class Past:
    """The rounds so far: their checkpoints, rankings and validation readings."""

    checkpoints: list[Checkpoint] = field(default_factory=list)
    rankings: list[list[Ranking]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    def named(self, watch: Watch | None) -> dict[str, Checkpoint]:
        """Students by name: ``feedback`` is the one to keep, stated last; the others are ``round-<number>``."""
        if not self.checkpoints:
            return {}
        kept = best_round(self.readings) if watch and watch.keep_best and self.readings else len(self.checkpoints)
        others = {f"round-{i}": c for i, c in enumerate(self.checkpoints, 1) if i != kept}
        return {**others, "feedback": self.checkpoints[kept - 1]}
