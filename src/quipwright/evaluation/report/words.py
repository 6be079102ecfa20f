"""Words for the names that runs use inside: systems, stages, judges, figures. What has no entry is shown as it is."""

from __future__ import annotations

from typing import Any

_SYSTEMS = {"base": "untrained"}
_STAGES = {
    "teach": "the teacher writes",
    "sft": "imitation",
    "sample": "the student's attempts",
    "grade": "grading",
    "select": "choosing pairs",
    "label": "labelling",
    "judge": "judging",
    "rank": "ranking",
    "reference": "the reference model",
    "preference": "learning from feedback",
    "decode": "answers to evaluate",
    "best_of": "samples for best-of-N",
    "similarity": "meaning kept",
    "validate": "validation",
}
_JUDGES = {
    "reward": "trained critic",
    "multiple_choice": "multiple choice",
    "grade": "grading",
    "listwise": "ordering",
    "cloze": "cloze",
    "recorded": "recorded verdicts",
    "recorded_grades": "recorded grades",
    "rule": "rule",
    "panel": "panel",
}
_ASKED = ("multiple_choice", "grade", "listwise")
"""Kinds that ask a model, whose name stands behind them."""
_FIGURES = {
    "agreement_clear": "agreement where the verdict is clear",
    "agreement_graded": "agreement where the grades differ",
    "agreement_teacher": "agreement where the teacher takes part",
    "n_clear": "pairs with a clear verdict",
    "n_graded": "pairs whose grades differ",
    "n_teacher_judged": "pairs with the teacher",
    "n_teacher": "texts of the teacher",
    "teacher_preferred": "prefers the teacher to weak attempts",
    "length_bias": "length bias: takes the longer against the verdict",
    "picks_longer": "takes the longer of two",
    "ece": "calibration error",
    "grade_exact": "gives the very grade of the verdicts",
}
_ABLE = {
    "raw_logprobs": "log-probabilities that temperature leaves alone",
    "echoes": "repeats the beginning that was put into its mouth",
    "system": "takes a system message",
    "exact": "scores labels exactly",
    "score": "scores whole texts",
}


def system(name: str) -> str:
    """``round-1`` -> ``round 1``, ``feedback-best-of-6`` -> ``feedback, best of 6``, ``base`` -> ``untrained``."""
    student, best, count = name.partition("-best-of-")
    shown = _SYSTEMS.get(student, student.replace("round-", "round "))
    return f"{shown}, best of {count}" if best else shown


def stage(name: str) -> str:
    """``sft-imitation`` -> ``imitation (imitation)``: the kind in words, then its part."""
    kind, _, part = name.partition("-")
    words = _STAGES.get(kind)
    if words is None:
        return name
    rest = system(part).replace("-", " ")
    return words if not part or part == words else f"{words} ({rest})"


def judge(name: str) -> str:
    """``multiple_choice-sampled:llama3`` -> ``multiple choice by llama3``; the kind in words, then the model or file."""
    kind, _, rest = name.partition(":")
    words = _JUDGES.get(kind.partition("-")[0])
    if words is None:
        return name
    if not rest:
        return words
    if kind in ("recorded", "recorded_grades"):
        return f"{words} “{rest}”"
    return f"{words} by {rest}" if kind.partition("-")[0] in _ASKED else f"{words} {rest}"


def figure(name: str) -> str:
    """What a figure of the critic is, in words."""
    return _FIGURES.get(name, name.replace("_", " "))


def able(capabilities: dict[str, Any]) -> str:
    """What a model can do, in one line."""
    count = capabilities.get("logprobs", 0)
    known = [f"log-probabilities of {count} tokens" if count else "no log-probabilities"]
    known += [words for name, words in _ABLE.items() if capabilities.get(name) is True]
    begun = capabilities.get("prefill", "none")
    known.append("goes on from a begun answer" if begun != "none" else "cannot go on from a begun answer")
    return ", ".join(known)
