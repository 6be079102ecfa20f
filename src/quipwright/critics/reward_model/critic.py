"""The critic on a reward model. Plain features of the text are mixed into the head's score; mix and cut points are
calibrated on literals kept out of the fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.special import expit

from quipwright.core.errors import CriticError
from quipwright.core.paths import resolve, seen_from
from quipwright.core.records import Comparison, Grade, Judgment, Response
from quipwright.core.storage.files import write_atomic
from quipwright.core.storage.run_folder import MANIFEST
from quipwright.core.storage.seals import check_export, check_seal
from quipwright.critics.base import BaseCriticConfig, BuildContext
from quipwright.critics.by_grades import by_scores
from quipwright.critics.reward_model.card import CARD_FILE, OF_RUN, RewardCard, read_card
from quipwright.critics.reward_model.features import NAMES, FeatureReader
from quipwright.critics.reward_model.model import RewardModel
from quipwright.students.weights import EMBEDDED, folder_content, known_sha256


class RewardModelConfig(BaseCriticConfig):
    """A trained reward model by its folder; ``bundled:critic`` ships. ``floor``: agreement it must have shown on
    held-out verdicts before it is trusted."""

    can_grade: ClassVar[bool] = True
    shorthand: ClassVar[str] = "path"
    kind: Literal["reward"] = "reward"
    path: str = "bundled:critic"
    floor: float = Field(0.6, ge=0, le=1)

    def build(self, context: BuildContext) -> RewardModelCritic:
        """As :meth:`load`."""
        return self.load(context.recipe_dir, levels=len(context.task.grades), measuring=context.measuring)

    def load(self, recipe_dir: Path | None = None, *, levels: int = 3, measuring: bool = False) -> RewardModelCritic:
        """Load it for a task of so many ``levels``. Raises :class:`CriticError` when its measured agreement is below the
        floor, unless ``measuring``."""
        critic = RewardModelCritic.load(resolve(self.path, "Critic", recipe_dir), levels)
        agreement = critic.card.agreement
        if not measuring and (agreement is None or not agreement >= self.floor):
            measured = "unknown" if agreement is None else f"{agreement:.1%} of {critic.card.n} held-out verdicts"
            raise CriticError(
                f"Critic {self.path} agrees with {measured}; the floor is {self.floor:.0%}.",
                "Train a better one (quipwright train-critic) or lower critic.floor knowingly.",
            )
        return critic

    def identity(self, context: BuildContext) -> list[Any]:
        """The content of its files."""
        return [self.kind, *self.readers(context)]

    def readers(self, context: BuildContext) -> list[Any]:
        """The content of its files and of the weights that it was trained on. Raises as :func:`read_card`."""
        folder = resolve(self.path, "Critic", context.recipe_dir)
        weights = read_card(folder).architecture.weights
        return [[*(known_sha256(path) for path in sorted(folder.glob("critic.*"))), folder_content(weights, folder)]]


class RewardModelCritic:
    """A trained reward model: it judges pairs and grades single responses."""

    positional = False

    def __init__(self, model: RewardModel, card: RewardCard, name: str, levels: int = 3) -> None:
        """``name`` is how judgments sign. ``levels``: how many the task names, of which the best takes all grades from
        ``levels`` - 1 on. Raises :class:`CriticError` for more levels than there are grades."""
        if levels > len(card.calibration.cuts) + 1:
            raise CriticError(
                f"The task names {levels} grades, but a reward model tells {len(card.calibration.cuts) + 1} apart.",
                "Name fewer grades in the task file.",
            )
        self.levels = levels
        self.model = model.eval()
        self.card = card
        self.name = name
        self._reader: FeatureReader | None = None
        self._lock = Lock()
        self._known: dict[tuple[str, str], tuple[float, np.ndarray]] = {}

    @classmethod
    def load(cls, folder: Path, levels: int = 3) -> RewardModelCritic:
        """Read what :meth:`save` wrote, through its seal, which only a critic that no run holds may lack.

        Raises :class:`CriticError` where it is not there, ``DamagedError`` where it is not what was made, and
        ``WeightsError`` where its weights cannot be had or do not fit.
        """
        of_run = folder.name == OF_RUN and (folder.parent / MANIFEST).exists()
        (check_seal if of_run else check_export)(folder)
        card = read_card(folder)
        model = RewardModel(card.architecture, folder)
        model.restore(folder)
        return cls(model, card, card.signature(folder), levels)

    def save(self, folder: Path) -> None:
        """Write adapters and head in bf16, and the card; a relative folder of weights starts at ``folder`` there."""
        self.model.save(folder)
        card = self.card.model_dump(mode="json")
        if (weights := card["architecture"]["weights"]) != EMBEDDED:
            card["architecture"]["weights"] = seen_from(folder, weights, self.model.base_dir)
        write_atomic(folder / CARD_FILE, json.dumps(card, indent=1) + "\n")

    def figures(self) -> dict[str, Any]:
        """What its card states."""
        return self.card.known()

    def scores(self, literals: Sequence[str], texts: Sequence[str]) -> list[float]:
        """One score a text, in calibrated nats of preference; what was read once is not read again."""
        return [float(score) for score in self.mixed(*self.read(literals, texts))]

    def mixed(self, head: np.ndarray, features: np.ndarray) -> np.ndarray:
        """The calibrated score of what :meth:`read` returns."""
        own, plain = self.card.calibration.mix
        if self.card.features is None:
            return own * head
        return own * head + plain * self.card.features.score(features)

    def read(self, literals: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The head's score of each text and, where this critic mixes them in, its plain features (texts x features)."""
        with self._lock:  # a panel's members may be asked from several threads, and a tokenizer serves one at a time
            return self._read(literals, texts)

    def _read(self, literals: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        asked = list(zip(literals, texts, strict=True))
        new = list(dict.fromkeys(pair for pair in asked if pair not in self._known))
        if new:
            these = [literal for literal, _ in new], [text for _, text in new]
            plain = self.read_features(*these) if self.card.features else np.zeros((len(new), 0))
            head = self.head_scores(*these)
            if not np.isfinite(head).all():
                raise CriticError(f"{self.name} gives scores that are no numbers.", "Train the critic again.")
            self._known |= dict(zip(new, zip(head, plain, strict=True), strict=True))
        known = [self._known[pair] for pair in asked]
        width = len(NAMES) if self.card.features else 0
        return np.array([head for head, _ in known]), np.array([row for _, row in known]).reshape(len(known), width)

    def read_features(self, literals: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """The plain features of each text (see :mod:`quipwright.critics.reward_model.features`)."""
        if self._reader is None:
            shape = self.card.architecture
            self._reader = FeatureReader(
                shape.weights, shape.revision, shape.prompt, shape.backward, self.model.base_dir
            )
        return self._reader.read(literals, texts)

    @torch.inference_mode()
    def head_scores(
        self, literals: Sequence[str], texts: Sequence[str], rows: int = 16, columns: int = 6
    ) -> list[float]:
        """The head's score of each text. Texts of the same literal share its prompt, ``columns`` at a time."""
        groups: dict[str, list[int]] = {}
        for index, literal in enumerate(literals):
            groups.setdefault(literal, []).append(index)
        packs = [
            (literal, own[i : i + columns]) for literal, own in groups.items() for i in range(0, len(own), columns)
        ]
        packs.sort(key=lambda pack: (sum(len(texts[i]) for i in pack[1]), pack[1]))
        result = [0.0] * len(texts)
        for start in range(0, len(packs), rows):
            part = packs[start : start + rows]
            scores = self.model(self.model.rows([p[0] for p in part], [[texts[i] for i in p[1]] for p in part])).cpu()
            for row, (_, own) in enumerate(part):
                for column, index in enumerate(own):
                    result[index] = float(scores[row, column])
        return result

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair."""
        return by_scores(comparisons, self.scores, self.name)

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """Score and grade probabilities of each response."""
        grades = []
        for response, score in zip(responses, self.scores(literals, [r.text for r in responses]), strict=True):
            levels = tuple(round(p, 6) for p in self.grade_shares(score))
            grades.append(Grade(response_id=response.id, judge=self.name, score=round(score, 6), levels=levels))
        return grades

    def grade_shares(self, score: float) -> tuple[float, ...]:
        """Probabilities of the levels at ``score``, worst first; they add up to 1."""
        scale = self.card.calibration
        reached = [float(expit(scale.slope * score - cut)) for cut in scale.cuts[: self.levels - 1]]
        return tuple(at_least - above for at_least, above in pairwise([1.0, *reached, 0.0]))
