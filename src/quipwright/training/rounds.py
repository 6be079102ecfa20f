"""What rounds of feedback leave to later ones: texts, rankings, checkpoints and validation points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quipwright.core.records import Checkpoint, Ranking, Response
from quipwright.training.early_stopping import EarlyStopping, ValidationPoint, best_point


@dataclass
class RankingHistory:
    """The texts and rankings of the rounds so far; ``keep``: later rounds train on them again."""

    keep: bool
    texts: dict[str, Response] = field(default_factory=dict)
    rankings: list[Ranking] = field(default_factory=list)

    def recall(
        self, texts: Mapping[str, Response], rankings: Sequence[Ranking]
    ) -> tuple[dict[str, Response], list[Ranking]]:
        """What this round trains on: its own rankings, after those of all earlier rounds where these are kept.

        A ranking that puts the same texts of an example in the same order as an earlier one is not kept twice.
        """
        if not self.keep:
            return dict(texts), list(rankings)
        self.texts.update(texts)
        known = {self._content(ranking) for ranking in self.rankings}
        for ranking in rankings:
            if (content := self._content(ranking)) not in known:
                known.add(content)
                self.rankings.append(ranking)
        return dict(self.texts), list(self.rankings)

    def _content(self, ranking: Ranking) -> tuple[str, ...]:
        return (ranking.example_id, *(self.texts[i].text for i in ranking.best_first))


@dataclass
class RoundHistory:
    """The rounds so far: their checkpoints, rankings and validation points."""

    checkpoints: list[Checkpoint] = field(default_factory=list)
    rankings: list[list[Ranking]] = field(default_factory=list)
    points: list[ValidationPoint] = field(default_factory=list)

    def named(self, stopping: EarlyStopping | None) -> dict[str, Checkpoint]:
        """Students by name: ``feedback`` is the one to keep, stated last; the others are ``round-<number>``."""
        if not self.checkpoints:
            return {}
        keeps_best = stopping is not None and stopping.keep_best and self.points
        kept = best_point(self.points) if keeps_best else len(self.checkpoints)
        others = {f"round-{i}": c for i, c in enumerate(self.checkpoints, 1) if i != kept}
        return {**others, "feedback": self.checkpoints[kept - 1]}
