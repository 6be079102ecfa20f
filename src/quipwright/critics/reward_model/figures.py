"""How far a distilled critic agrees with verdicts it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from scipy.special import expit

from quipwright.core.statistics import wilson
from quipwright.core.text import normalise, word_count
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.features import NAMES
from quipwright.data.verdicts import VerdictRow


def measure(
    critic: RewardModelCritic, rows: Sequence[VerdictRow], teacher: Mapping[str, Sequence[str]] | None = None
) -> dict[str, float]:
    """Figures of ``critic`` on verdicts with a winner (ties left out), each a share unless said otherwise.

    All but ``agreement_teacher`` (a teacher's text against an attempt) are of pairs of two attempts.
    ``agreement`` of ``n``; ``agreement_clear`` where the verdict's strength is at least 2; ``agreement_graded`` where
    the grades differ; ``length_bias``: the verdict prefers the shorter and the critic the longer; ``ece``: expected
    calibration error; ``grade_exact``: broken / plain / funny as the verdict says, over attempts;
    ``teacher_preferred``: a paraphrase of ``teacher`` (by literal) over each attempt graded 0 or 1.
    """
    decided = [row for row in rows if row.verdict != "tie" and not row.with_teacher]
    against = [row for row in rows if row.verdict != "tie" and row.with_teacher]
    margins, signed = _margins(critic, decided)
    right = [s > 0 for s in signed]
    longer = [_prefers_shorter(row) and not ok for row, ok in zip(decided, right, strict=True)]
    clear = [ok for ok, row in zip(right, decided, strict=True) if row.strength >= 2]
    graded = [
        ok
        for ok, row in zip(right, decided, strict=True)
        if row.quality_a is not None and row.quality_b is not None and row.quality_a != row.quality_b
    ]
    figures = {
        "n": float(len(decided)),
        "agreement": fmean(right),
        "n_clear": float(len(clear)),
        "agreement_clear": fmean(clear) if clear else 0.0,
        "n_graded": float(len(graded)),
        "agreement_graded": fmean(graded) if graded else 0.0,
        "length_bias": fmean(longer),
        "picks_longer": fmean(
            (m > 0) == (word_count(r.a) > word_count(r.b)) for m, r in zip(margins, decided, strict=True)
        ),
        "ece": _ece([float(p) for p in expit(signed)]),
        "grade_exact": _grade_exact(critic, rows),
    }
    if against:
        figures |= {
            "n_teacher_judged": float(len(against)),
            "agreement_teacher": fmean(s > 0 for s in _margins(critic, against)[1]),
        }
    if teacher:
        figures |= _teacher_preferred(critic, rows, teacher)
    return {name: round(value, 4) for name, value in figures.items()}


def _margins(critic: RewardModelCritic, rows: Sequence[VerdictRow]) -> tuple[list[float], list[float]]:
    """Score of a less that of b, and the same with the sign turned so that above 0 means that critic and verdict agree."""
    scores = critic.scores([r.literal for r in rows for _ in "ab"], [t for r in rows for t in (r.a, r.b)])
    margins = [a - b for a, b in zip(scores[0::2], scores[1::2], strict=True)]
    return margins, [m if row.verdict == "a" else -m for m, row in zip(margins, rows, strict=True)]


def _teacher_preferred(
    critic: RewardModelCritic, rows: Sequence[VerdictRow], teacher: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    known = {normalise(literal).casefold(): texts for literal, texts in teacher.items()}
    attempts = [
        (row.literal, text)
        for row in rows
        for text, grade, author in ((row.a, row.quality_a, row.author_a), (row.b, row.quality_b, row.author_b))
        if author != "teacher" and grade is not None and grade <= 1 and normalise(row.literal).casefold() in known
    ]
    attempts = list(dict.fromkeys(attempts))
    literals = [literal for literal, _ in attempts]
    own = critic.scores(literals, [text for _, text in attempts])
    taught = {x: known[normalise(x).casefold()][0] for x in dict.fromkeys(literals)}
    best = dict(zip(taught, critic.scores(list(taught), list(taught.values())), strict=True))
    preferred = [best[literal] > score for literal, score in zip(literals, own, strict=True)]
    return {"teacher_preferred": fmean(preferred) if preferred else 0.0, "n_teacher": float(len(preferred))}


def component_figures(critic: RewardModelCritic, rows: Sequence[VerdictRow]) -> dict[str, tuple[float, float, float]]:
    """Agreement with Wilson interval of each part of ``critic`` alone, and of the longer text as a yardstick.

    Parts: the learned ``head``, all plain ``features`` together, and single features by name.
    """
    decided = [row for row in rows if row.verdict != "tie" and not row.with_teacher]
    literals = [row.literal for row in decided for _ in "ab"]
    texts = [text for row in decided for text in (row.a, row.b)]
    head, plain = critic.read(literals, texts)
    parts = {"whole": critic.mixed(head, plain), "head": head}
    if critic.card.features is not None:
        parts["features"] = critic.card.features.score(plain)
        parts |= {name: plain[:, i] for i, name in enumerate(NAMES) if not name.endswith("2")}
    winner_first = np.array([row.verdict == "a" for row in decided])
    result = {}
    for name, score in parts.items():
        margin = score[0::2] - score[1::2]
        right = float(np.where(margin == 0, 0.5, (margin > 0) == winner_first).sum())
        result[name] = (right / len(decided), *wilson(right, len(decided)))
    return result


def _prefers_shorter(row: VerdictRow) -> bool:
    chosen, other = (row.a, row.b) if row.verdict == "a" else (row.b, row.a)
    return word_count(chosen) < word_count(other)


def _ece(winner: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error: over bins of the favourite's probability, mean |accuracy - confidence|."""
    total = 0.0
    for b in range(bins):
        low = 0.5 + 0.5 * b / bins
        high = low + 0.5 / bins
        inside = [p for p in winner if low <= max(p, 1 - p) < high or (b == bins - 1 and max(p, 1 - p) == high)]
        if inside:
            total += abs(sum(p > 0.5 for p in inside) - sum(max(p, 1 - p) for p in inside))
    return total / len(winner) if winner else 0.0


def _grade_exact(critic: RewardModelCritic, rows: Sequence[VerdictRow]) -> float:
    truth: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        for text, grade, author in ((row.a, row.quality_a, row.author_a), (row.b, row.quality_b, row.author_b)):
            if grade is not None and author != "teacher":
                truth.setdefault((row.literal, text), []).append(grade)
    if not truth:
        return 0.0
    scores = critic.scores([literal for literal, _ in truth], [text for _, text in truth])
    hits = 0
    for score, given in zip(scores, truth.values(), strict=True):
        shares = critic.grade_shares(score)
        hits += shares.index(max(shares)) == min(2, round(fmean(given)))
    return hits / len(truth)
