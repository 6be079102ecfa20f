"""The distilled critic: a scalar head with LoRA on small weights, which reads a literal and one response at a time.

Each response is scored alone, so position bias is zero by construction; P(A better than B) = s(s_A - s_B)
(Bradley and Terry 1952). The same scalar carries absolute grades through ordered cut points c1 < c2 < c3:
P(grade >= g) = s(score - c_g), with grades 0 broken, 1 plain, 2 mildly and 3 really funny. Plain features of the text
are mixed in, and mix and cut points are calibrated on literals kept out of the fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import dropout, linear, softplus

from quipwright.core.errors import CriticError
from quipwright.core.paths import resolve
from quipwright.core.records import Grade, Judgment, Response
from quipwright.core.settings import Settings
from quipwright.critics.base import Comparison
from quipwright.critics.reward_model.features import NAMES, FeatureReader, FeatureWeights
from quipwright.students.base import LoRA, Prompted
from quipwright.students.batches import RankedBatch
from quipwright.students.causal import add_lora, collate
from quipwright.students.packing import pack
from quipwright.students.prompt_format import Plain
from quipwright.students.weights import device, load

MODEL_FILE, CARD_FILE = "critic.safetensors", "critic.json"


class RewardArchitecture(Settings):
    """Shape of a distilled critic. It reads the first ``layers`` layers of ``weights`` and tunes those from
    ``first_layer`` on; the head sees the response's last hidden state beside the mean over its tokens.

    ``prompt`` is what a response stands behind, best the task's ``student_prompt``.
    """

    weights: str = "embedded"
    revision: str | None = None
    layers: int = Field(24, ge=1)
    first_layer: int = Field(8, ge=0)
    lora: LoRA = LoRA(rank=8, alpha=16, dropout=0.05)
    prompt: str = "Plain: {literal}\nFunny:"
    context: int = Field(512, ge=16)

    @field_validator("prompt")
    @classmethod
    def _one_slot(cls, prompt: str) -> str:
        if prompt.count("{literal}") != 1:
            raise ValueError(f"prompt {prompt!r} must have the slot {{literal}} once")
        return prompt

    @property
    def backward(self) -> str:
        """The prompt turned round, which a literal stands behind: ``Funny: {text}``, then ``Plain:``."""
        before, after = self.prompt.split("{literal}")
        return f"{after.strip()} {{text}}\n{before.strip()}"


class Calibration(Settings):
    """How scores become probabilities, fitted on literals that neither the adapters nor the features were fitted on.

    Preference: score = ``mix[0]`` * head + ``mix[1]`` * features, P(A beats B) = s(score_A - score_B).
    Grades: P(grade >= g) = s(``slope`` * score - ``cuts[g - 1]``).
    """

    mix: tuple[float, float] = (1.0, 0.0)
    slope: float = 1.0
    cuts: tuple[float, float, float] = (0.0, 1.5, 3.0)


class RewardCard(Settings):
    """What is known of a trained critic. Shares are of held-out verdicts with a winner; ``figures`` are everything
    that training printed."""

    architecture: RewardArchitecture
    features: FeatureWeights | None = None
    calibration: Calibration = Calibration()
    agreement: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    data_hash: str = ""
    figures: dict[str, float] = Field(default_factory=dict)

    def signature(self, folder: Path) -> str:
        """How judgments of the critic in ``folder`` are signed."""
        return f"reward:{self.data_hash[:8] or folder.name}"


class RewardSettings(Settings):
    """A distilled critic by its folder; ``bundled:critic`` ships. ``floor``: agreement it must have shown on held-out
    verdicts before it is trusted."""

    kind: Literal["reward"] = "reward"
    path: str = "bundled:critic"
    floor: float = Field(0.6, ge=0, le=1)

    def open(self, base: Path | None = None) -> RewardCritic:
        """Load it. Raises :class:`CriticError` when its measured agreement is below the floor."""
        critic = RewardCritic.load(resolve(self.path, "Critic", base))
        agreement = critic.card.agreement
        if agreement is None or agreement < self.floor:
            measured = "unknown" if agreement is None else f"{agreement:.1%} of {critic.card.n} held-out verdicts"
            raise CriticError(
                f"Critic {self.path} agrees with {measured}; the floor is {self.floor:.0%}.",
                "Train a better one (quipwright train-critic) or lower critic.floor knowingly.",
            )
        return critic


class RewardModel(nn.Module):
    """Backbone with adapters, a linear head and three cut points."""

    def __init__(self, architecture: RewardArchitecture) -> None:
        """Load the backbone in bf16 and add fresh adapters (drawn from torch's seed), on :func:`device`."""
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        backbone = load(
            AutoModel,
            architecture.weights,
            architecture.revision,
            dtype=torch.bfloat16,
            attn_implementation="sdpa",
            use_safetensors=True,
        )
        depth = min(architecture.layers, backbone.config.num_hidden_layers)
        backbone.layers = backbone.layers[:depth]
        self.architecture = architecture
        self.tokenizer = load(AutoTokenizer, architecture.weights, architecture.revision)
        self.backbone: Any = add_lora(backbone, architecture.lora, architecture.first_layer, depth)
        width = backbone.config.hidden_size
        self.head = nn.Parameter(torch.randn(1, 2 * width) * 0.005)
        self.first_cut = nn.Parameter(torch.tensor(-0.3))
        self.steps = nn.Parameter(torch.tensor([1.5, 2.0]))
        self.to(device())

    @property
    def cuts(self) -> Float[Tensor, " 3"]:
        """c1 < c2 < c3: the steps between them are positive by construction."""
        return torch.cumsum(torch.cat([self.first_cut[None], softplus(self.steps)]), 0)

    def rows(self, literals: Sequence[str], texts: Sequence[Sequence[str]]) -> RankedBatch:
        """Each literal with its responses as a batch."""
        prompts = (self.architecture.prompt.replace("{literal}", literal) for literal in literals)
        return collate(
            Plain(self.tokenizer),
            [Prompted(prompt, tuple(own)) for prompt, own in zip(prompts, texts, strict=True)],
            self.architecture.context,
        )

    def forward(self, batch: RankedBatch) -> Float[Tensor, "batch k"]:
        """Scores in nats of preference; those of absent columns mean nothing."""
        rows, k, _ = batch.response.shape
        packed = pack(batch)
        count = torch.bincount(packed.slot, minlength=rows * k).clamp(min=1)[:, None]
        ends = torch.zeros(rows * k, dtype=torch.long).scatter_reduce(0, packed.slot, packed.place, "amax")
        here = self.head.device
        packed, count, ends = packed.to(here), count.to(here), ends.to(here)
        kernel = sdpa_kernel(SDPBackend.MATH) if packed.ids.device.type == "cpu" else nullcontext()
        with torch.autocast(packed.ids.device.type, torch.bfloat16), kernel:
            hidden = self.backbone(
                input_ids=packed.ids, attention_mask=packed.visible, position_ids=packed.positions, use_cache=False
            ).last_hidden_state.float()
        own = hidden[packed.row, packed.place]  # [scored width]
        mean = own.new_zeros(rows * k, own.shape[1]).index_add(0, packed.slot, own) / count
        last = hidden[torch.arange(rows * k, device=here) // k, ends]
        features = torch.cat([last, mean], -1)
        return linear(dropout(features, self.architecture.lora.dropout, self.training), self.head).view(rows, k)

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is not the frozen backbone."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


class RewardCritic:
    """A trained distilled critic: it judges pairs and grades single responses."""

    positional = False

    def __init__(self, model: RewardModel, card: RewardCard, name: str) -> None:
        """``name`` is how judgments sign."""
        self.model = model.eval()
        self.card = card
        self.name = name
        self._reader: FeatureReader | None = None
        self._known: dict[tuple[str, str], tuple[float, np.ndarray]] = {}

    @classmethod
    def load(cls, folder: Path) -> RewardCritic:
        """Read what :meth:`save` wrote. Raises :class:`CriticError` when it is not there or does not fit."""
        try:
            card = RewardCard.model_validate_json((folder / CARD_FILE).read_text(encoding="utf-8"))
            stored = load_file(folder / MODEL_FILE)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CriticError(
                f"{folder} holds no distilled critic: {reason}.", "Train one with quipwright train-critic."
            ) from None
        model = RewardModel(card.architecture)
        mine = model.trained()
        if stored.keys() != mine.keys():
            raise CriticError(f"{folder / MODEL_FILE} does not fit its card.", "Train the critic again.")
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(stored[name])
        return cls(model, card, card.signature(folder))

    def save(self, folder: Path) -> None:
        """Write adapters and head in bf16, and the card."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().to(torch.bfloat16).cpu().contiguous() for name, p in self.model.trained().items()}
        save_file(tensors, folder / MODEL_FILE)
        (folder / CARD_FILE).write_text(
            json.dumps(self.card.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8"
        )

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
        asked = list(zip(literals, texts, strict=True))
        new = list(dict.fromkeys(pair for pair in asked if pair not in self._known))
        if new:
            these = [literal for literal, _ in new], [text for _, text in new]
            plain = self.read_features(*these) if self.card.features else np.zeros((len(new), 0))
            self._known |= dict(zip(new, zip(self.head_scores(*these), plain, strict=True), strict=True))
        known = [self._known[pair] for pair in asked]
        width = len(NAMES) if self.card.features else 0
        return np.array([head for head, _ in known]), np.array([row for _, row in known]).reshape(len(known), width)

    def read_features(self, literals: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """The plain features of each text (see :mod:`quipwright.critics.reward_model.features`)."""
        if self._reader is None:
            how = self.card.architecture
            self._reader = FeatureReader(how.weights, how.revision, how.prompt, how.backward)
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
            found = self.model(self.model.rows([p[0] for p in part], [[texts[i] for i in p[1]] for p in part])).cpu()
            for row, (_, own) in enumerate(part):
                for column, index in enumerate(own):
                    result[index] = float(found[row, column])
        return result

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair."""
        literals = [c.literal for c in comparisons for _ in range(2)]
        scores = self.scores(literals, [text for c in comparisons for text in (c.a, c.b)])
        pairs = zip(scores[0::2], scores[1::2], strict=True)
        return [preference(c, a, b, self.name) for c, (a, b) in zip(comparisons, pairs, strict=True)]

    def grade(self, literals: Sequence[str], responses: Sequence[Response]) -> list[Grade]:
        """Score and grade probabilities of each response."""
        grades = []
        for response, score in zip(responses, self.scores(literals, [r.text for r in responses]), strict=True):
            broken, plain, funny = (round(p, 6) for p in self.grade_shares(score))
            grades.append(
                Grade(
                    response_id=response.id,
                    judge=self.name,
                    score=round(score, 6),
                    broken=broken,
                    plain=plain,
                    funny=funny,
                )
            )
        return grades

    def grade_shares(self, score: float) -> tuple[float, float, float]:
        """Probabilities of broken, plain and funny at ``score``; they add up to 1."""
        how = self.card.calibration
        at_least_plain, at_least_funny = (sigmoid(how.slope * score - cut) for cut in how.cuts[:2])
        return 1 - at_least_plain, at_least_plain - at_least_funny, at_least_funny


class FromGrades:
    """Judges by the grades a critic has given already: no text is read twice."""

    positional = False

    def __init__(self, name: str, grades: Mapping[str, Grade]) -> None:
        """``grades`` by response id must hold both sides of every pair that is asked about."""
        self.name = name
        self.grades = grades

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgment]:
        """One judgment a pair."""
        return [
            preference(c, self.grades[c.pair.a_id].score, self.grades[c.pair.b_id].score, self.name)
            for c in comparisons
        ]


def preference(comparison: Comparison, a: float, b: float, judge: str) -> Judgment:
    """The judgment that scores ``a`` and ``b`` imply."""
    p = round(sigmoid(a - b), 6)
    verdict: Literal["A", "B", "tie"] = "tie" if p == 0.5 else "A" if p > 0.5 else "B"
    return Judgment(pair_id=comparison.pair.id, judge=judge, p_a=p, verdict=verdict)


def sigmoid(x: float) -> float:
    """Logistic function, safe for any float."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
