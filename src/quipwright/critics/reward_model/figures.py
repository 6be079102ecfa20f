"""How far a reward model agrees with verdicts that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np
from scipy.special import expit

from quipwright.core.statistics import Choice, JudgedPair, calibration, length_bias, wilson
from quipwright.core.text import normalise, word_count
from quipwright.critics.combine import verdict_of
from quipwright.critics.reward_model.critic import RewardModelCritic
from quipwright.critics.reward_model.features import NAMES
from quipwright.data.verdicts import VerdictRow

_CHOICES: dict[str, Choice] = {"A": "A", "B": "B", "a": "A", "b": "B"}


def measure(
    critic: RewardModelCritic, rows: Sequence[VerdictRow], teacher: Mapping[str, Sequence[str]] | None = None
) -> dict[str, float]:
    """Figures of ``critic`` on verdicts with a winner (ties left out), each a share unless said otherwise.

    All but ``agreement_teacher`` (a teacher's text against an attempt) are of pairs of two attempts.
    ``agreement`` of ``n``; ``agreement_clear`` where the verdict's strength is at least 2; ``agreement_graded`` where
    the grades differ; ``length_bias``: the verdict prefers the shorter and the critic the longer;
    ``picks_longer``: the critic prefers the longer of two unequal texts; ``ece``: expected calibration error in ten
    bins; ``grade_exact``: the level that the verdicts give, over attempts; ``teacher_preferred``: a paraphrase of
    ``teacher`` (by literal) over each attempt graded 0 or 1. A figure with nothing to measure it on is left out.
    """
    pairs = _judged(critic, [row for row in rows if row.verdict != "tie" and not row.with_teacher])
    against = _judged(critic, [row for row in rows if row.verdict != "tie" and row.with_teacher])
    figures: dict[str, float | None] = {
        **_agreement(pairs, "n", "agreement", lambda row: True),
        **_agreement(pairs, "n_clear", "agreement_clear", lambda row: row.strength >= 2),
        **_agreement(pairs, "n_graded", "agreement_graded", _differs_in_grade),
        "length_bias": length_bias([pair for _, pair in pairs]).paper.mean.value,
        "picks_longer": _mean(
            [p.first == ("A" if p.length_a > p.length_b else "B") for _, p in pairs if p.length_a != p.length_b]
        ),
        "ece": calibration([pair for _, pair in pairs], bins=10).ece.value,
        "grade_exact": _grade_exact(critic, rows),
    }
    if against:
        figures |= _agreement(against, "n_teacher_judged", "agreement_teacher", lambda row: True)
    if teacher:
        figures |= _teacher_preferred(critic, rows, teacher)
    return {name: round(value, 4) for name, value in figures.items() if value is not None}


Judged = Sequence[tuple[VerdictRow, JudgedPair]]


def _judged(critic: RewardModelCritic, rows: Sequence[VerdictRow]) -> Judged:
    """Each verdict with what ``critic`` says of the same two texts; it is shown no order, so both orders agree."""
    scores = critic.scores([r.literal for r in rows for _ in "ab"], [t for r in rows for t in (r.a, r.b)])
    judged = []
    for row, a, b in zip(rows, scores[0::2], scores[1::2], strict=True):
        p = float(expit(a - b))
        choice = _CHOICES.get(verdict_of(p), "tie")
        lengths = word_count(row.a), word_count(row.b)
        judged.append((row, JudgedPair(choice, choice, (_CHOICES[row.verdict],), *lengths, p, p)))
    return judged


def _agreement(judged: Judged, count: str, name: str, counts: Callable[[VerdictRow], bool]) -> dict[str, float | None]:
    right = [pair.first == pair.people[0] for row, pair in judged if counts(row)]
    return {count: float(len(right)), name: _mean(right)}


def _differs_in_grade(row: VerdictRow) -> bool:
    return None not in (row.quality_a, row.quality_b) and row.quality_a != row.quality_b


def _mean(values: Sequence[bool]) -> float | None:
    return fmean(values) if values else None


def _teacher_preferred(
    critic: RewardModelCritic, rows: Sequence[VerdictRow], teacher: Mapping[str, Sequence[str]]
) -> dict[str, float | None]:
    known = {normalise(literal).casefold(): texts for literal, texts in teacher.items()}
    attempts = list(
        dict.fromkeys(
            (row.literal, text)
            for row in rows
            for text, grade, author in row.texts
            if author != "teacher" and grade is not None and grade <= 1 and normalise(row.literal).casefold() in known
        )
    )
    literals = [literal for literal, _ in attempts]
    scores = critic.scores(literals, [text for _, text in attempts])
    taught = {x: known[normalise(x).casefold()][0] for x in dict.fromkeys(literals)}
    best = dict(zip(taught, critic.scores(list(taught), list(taught.values())), strict=True))
    preferred = [best[literal] > score for literal, score in zip(literals, scores, strict=True)]
    return {"teacher_preferred": _mean(preferred), "n_teacher": float(len(preferred))}


def component_figures(critic: RewardModelCritic, rows: Sequence[VerdictRow]) -> dict[str, tuple[float, float, float]]:
    """Agreement with Wilson interval of each part of ``critic`` alone, and of the longer text as a yardstick.

    Parts: the learned ``head``, all plain ``features`` together, and single features by name.
    """
    decided = [row for row in rows if row.verdict != "tie" and not row.with_teacher]
    literals = [row.literal for row in decided for _ in "ab"]
    head, plain = critic.read(literals, [text for row in decided for text in (row.a, row.b)])
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


def _grade_exact(critic: RewardModelCritic, rows: Sequence[VerdictRow]) -> float | None:
    truth: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        for text, grade, author in row.texts:
            if grade is not None and author != "teacher":
                truth.setdefault((row.literal, text), []).append(grade)
    if not truth:
        return None
    scores = critic.scores([literal for literal, _ in truth], [text for _, text in truth])
    hits = 0
    for score, given in zip(scores, truth.values(), strict=True):
        shares = critic.grade_shares(score)
        hits += shares.index(max(shares)) == min(len(shares) - 1, round(fmean(given)))
    return hits / len(truth)
