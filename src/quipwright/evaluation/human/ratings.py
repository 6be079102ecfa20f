"""People's votes on a run: the pairs to rate and every answer, stored at once in two sealed files that only grow.

``ratings/items.jsonl`` holds the pairs with their texts and authors, ``ratings/votes.jsonl`` the answers and what was
taken back. A vote is a ``Judgment`` like any critic's, signed ``human:<name>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from quipwright.core.errors import DamagedError, RunError
from quipwright.core.records import Judgment, Record
from quipwright.core.results import Figure
from quipwright.core.statistics import Choice, krippendorff_alpha, share
from quipwright.core.storage.files import disk_errors, locked
from quipwright.core.storage.run_folder import MANIFEST, read_manifest, record_fact
from quipwright.core.storage.sealed_files import SealedAppendOnly, read_sealed_lines, seal_of
from quipwright.critics.combine import by_pair
from quipwright.evaluation.human.items import Item
from quipwright.evaluation.human.labelled_pair import LabelledPair
from quipwright.evaluation.human.raters import HUMAN, signature

CANNOT_TELL = "cannot tell"
ITEMS, VOTES = "items.jsonl", "votes.jsonl"
_RATED = "rated"
"""The fact in a run's manifest that people's votes were stored beside it."""
_SAID: dict[str, Choice] = {"A": "A", "B": "B", "tie": "tie"}
Key = tuple[str, str, str]
T = TypeVar("T", bound=Record)


class Vote(Record):
    """One line of the diary: a ``vote``, or the ``undo`` of one. ``at`` is UTC, ISO 8601."""

    act: Literal["vote", "undo"]
    judgment: Judgment
    at: str


class HumanRate(Record):
    """Votes on one system against another for one question; ties and those who cannot tell apart are shown apart.

    ``rate`` is the win-tie share of votes and ``score`` counts a tie half (both resample pairs); ``alpha`` is
    Krippendorff's among the raters, over pairs that at least two judged.
    """

    candidate: str
    baseline: str
    question: str
    raters: int
    pairs: int
    wins: int
    ties: int
    losses: int
    cannot_tell: int
    rate: Figure
    score: Figure
    alpha: Figure


@dataclass
class Ratings:
    """The ratings of one run. :meth:`open` locks the folder for a server; :meth:`read` only looks."""

    folder: Path
    items: dict[str, Item] = field(default_factory=dict)
    votes: dict[Key, Judgment] = field(default_factory=dict)
    order: list[Key] = field(default_factory=list)
    _votes: SealedAppendOnly | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def read(cls, folder: Path) -> Ratings:
        """What is stored. Raises :class:`RunError` when there is nothing, :class:`DamagedError` where a line is gone or was
        changed."""
        if not cls.held(folder):
            raise RunError(f"{folder} holds no ratings.", "Collect some first: quipwright rate RUN.")
        _check_there(folder)
        ratings = cls(folder)
        for item in _records(folder / ITEMS, Item):
            ratings.items[item.pair.id] = item
        for vote in _records(folder / VOTES, Vote):
            ratings._fold(vote)
        return ratings

    @staticmethod
    def held(folder: Path) -> bool:
        """Whether anything was ever stored in ``folder``, as far as it or its run's manifest tell."""
        return _there(folder / ITEMS) or _voted(folder)

    @classmethod
    def open(cls, folder: Path, items: Iterable[Item] = ()) -> Ratings:
        """Open for writing and add ``items`` that are not there yet; whatever a crash tore off is cut.

        Raises :class:`RunError` while another process rates the same run, and
        :class:`~quipwright.core.errors.DiskError` where nothing can be written.
        """
        _check_there(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opening:
            opening.enter_context(locked(folder / "lock", str(folder), "Use that rating page, or stop it."))
            stored = SealedAppendOnly(folder / ITEMS)
            opening.callback(stored.close)
            votes = SealedAppendOnly(folder / VOTES)
            opening.callback(votes.close)
            ratings = cls.read(folder)
            fresh = [item for item in items if item.pair.id not in ratings.items]
            stored.append([item.to_line() for item in fresh])
            ratings.items |= {item.pair.id: item for item in fresh}
            if ratings.votes:
                _note_votes(folder)
            ratings._votes, ratings._open = votes, opening.pop_all()
        return ratings

    def close(self) -> None:
        """Release the lock."""
        self._votes = None
        self._open.close()

    def vote(self, *judgments: Judgment) -> None:
        """Store ``judgments``, on disk before this returns; the same judge's earlier answer to each is replaced.

        Raises :class:`~quipwright.core.errors.DiskError` where they cannot be stored; nothing has changed then.
        """
        self._record(*(Vote(act="vote", judgment=judgment, at=_now()) for judgment in judgments))

    def undo(self, judge: str) -> Judgment | None:
        """Take back the judge's last answer that still stands; ``None`` if there is none."""
        last = next((key for key in reversed(self.order) if key[1] == judge), None)
        if last is None:
            return None
        judgment = self.votes[last]
        self._record(Vote(act="undo", judgment=judgment, at=_now()))
        return judgment

    @property
    def questions(self) -> list[str]:
        """Everything that is asked, in order."""
        return list(dict.fromkeys(q for item in self.items.values() if not item.check for q in item.questions))

    def judges(self) -> list[str]:
        """Everyone who has an answer standing."""
        return list(dict.fromkeys(judge for _, judge, _ in self.order))

    def labels(self) -> list[LabelledPair]:
        """The votes as labels for an audit or for training; checks and those who could not tell are left out."""
        labels = []
        judged = by_pair(self.votes.values())
        for item in self.items.values():
            if item.check:
                continue
            votes: dict[str, dict[str, Choice]] = {}
            for judgment in judged.get(item.pair.id, ()):
                if judgment.verdict in _SAID:
                    rater = judgment.judge.removeprefix("human:")
                    votes.setdefault(judgment.question, {})[rater] = _SAID[judgment.verdict]
            if votes:
                labels.append(
                    LabelledPair(
                        literal=item.literal, a=item.a, b=item.b, votes=votes,
                        author_a=item.author_a, author_b=item.author_b, split=item.split,
                        labelled_by="people",
                    )
                )  # fmt: skip
        return labels

    def checks(self) -> dict[str, tuple[int, int]]:
        """Attention checks passed and asked, by judge."""
        counts: dict[str, tuple[int, int]] = {}
        for (pair_id, judge, _), judgment in self.votes.items():
            if self.items[pair_id].check:
                passed, asked = counts.get(judge, (0, 0))
                counts[judge] = (passed + (judgment.verdict == "A"), asked + 1)
        return counts

    def results(self) -> list[HumanRate]:
        """Each pair of systems and question, in the order they were first rated."""
        groups: dict[tuple[str, str, str], list[Judgment]] = {}
        for judgment in self.votes.values():
            item = self.items[judgment.pair_id]
            if not item.check:
                groups.setdefault((item.candidate, item.baseline, judgment.question), []).append(judgment)
        place = {question: i for i, question in enumerate(self.questions)}
        ordered = sorted(groups, key=lambda g: (g[:2], place.get(g[2], len(place)), g[2]))
        return [_human_rate(group, groups[group]) for group in ordered]

    def _record(self, *votes: Vote) -> None:
        if self._votes is None:
            raise RunError(f"{self.folder} is not open for votes.", "Open it with Ratings.open.")
        if not self.votes:
            _note_votes(self.folder)
        self._votes.append([vote.to_line() for vote in votes])
        for vote in votes:
            self._fold(vote)

    def _fold(self, vote: Vote) -> None:
        if vote.judgment.pair_id not in self.items:
            return
        j = vote.judgment.model_copy(update={"judge": signature(vote.judgment.judge.removeprefix(HUMAN))})
        key = (j.pair_id, j.judge, j.question)
        if key in self.votes:
            self.order.remove(key)
            del self.votes[key]
        if vote.act == "vote":
            self.votes[key] = j
            self.order.append(key)


def _human_rate(group: tuple[str, str, str], votes: Sequence[Judgment]) -> HumanRate:
    said = [judgment for judgment in votes if judgment.verdict in _SAID]
    units, verdicts = [judgment.pair_id for judgment in said], [judgment.verdict for judgment in said]
    pairs = by_pair(said).values()
    credit = {"A": 1.0, "tie": 0.5, "B": 0.0}
    return HumanRate(
        candidate=group[0],
        baseline=group[1],
        question=group[2],
        raters=len({judgment.judge for judgment in votes}),
        pairs=len(pairs),
        wins=verdicts.count("A"),
        ties=verdicts.count("tie"),
        losses=verdicts.count("B"),
        cannot_tell=len(votes) - len(said),
        rate=Figure.of(share([float(v != "B") for v in verdicts], units)),
        score=Figure.of(share([credit[v] for v in verdicts], units)),
        alpha=Figure.of(krippendorff_alpha([[judgment.verdict for judgment in pair] for pair in pairs])),
    )


def _there(path: Path) -> bool:
    return path.exists() or seal_of(path).exists()


def _voted(folder: Path) -> bool:
    """Whether the manifest of the run whose ratings are in ``folder`` says that votes were stored."""
    run = folder.parent
    return (run / MANIFEST).exists() and bool(read_manifest(run).get(_RATED))


def _note_votes(folder: Path) -> None:
    """Write into the manifest of the run that votes are stored in ``folder``, before the first of them is."""
    if (folder.parent / MANIFEST).exists():
        record_fact(folder.parent, _RATED, True)


def _check_there(folder: Path) -> None:
    """Raises :class:`DamagedError` where votes were stored in ``folder`` and a file of theirs is gone with its seal."""
    gone = [name for name in (ITEMS, VOTES) if not _there(folder / name)]
    if gone and _voted(folder):
        raise DamagedError(
            f"{folder / gone[0]} is not there, but people's votes were stored in {folder}.",
            f"Restore the folder from a copy. To go on without them, remove {folder.parent / MANIFEST} and run the "
            "recipe again.",
        )


def _records(path: Path, kind: type[T]) -> Iterable[T]:
    """The records of ``path``; a torn last line is left out."""
    for number, line in enumerate(read_sealed_lines(path), 1):
        try:
            yield kind.from_line(line)
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:100]
            raise DamagedError(
                f"{path} line {number} was damaged: {reason}.", "Remove that line; the rest is kept."
            ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
