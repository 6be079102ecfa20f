"""The first screen of a page: one verdict, the figure it rests on, and five inputs drawn at random."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quipwright.core.results import ADVICE, Note, PairwiseResult, Sample
from quipwright.core.text import is_copy
from quipwright.evaluation.report import words
from quipwright.evaluation.verdict import conclusion, judged_by, main_result, rests_on

if TYPE_CHECKING:
    from quipwright.data.run_summary import RunSummary

SHOWN = 5
_MEETINGS = (("feedback", "imitation"), ("imitation", "teacher"), ("imitation", "base"))


@dataclass(frozen=True)
class Opening:
    """``conclusion`` in one sentence, what it rests on, who judged, and the comparison itself. Without a comparison
    ``conclusion`` says why there is none."""

    conclusion: str
    rests_on: str = ""
    judged_by: str = ""
    result: PairwiseResult | None = None


def opening(s: RunSummary) -> Opening:
    """The verdict of a run: feedback against imitation where there is feedback, else imitation against who it met."""
    met = {(r.candidate, r.baseline) for r in s.pairwise}
    for candidate, baseline in _MEETINGS:
        result = main_result(s.pairwise, candidate, baseline)
        if result is not None:
            names = {"candidate": words.system(candidate), "baseline": words.system(baseline)}
            shown = result.model_copy(update=names | {"judge": words.judge(result.judge)})
            sentence = conclusion(shown)
            return Opening(sentence[0].upper() + sentence[1:], rests_on(shown), judged_by(shown), result)
        if (candidate, baseline) in met:
            unfit = [r.unfit for r in s.pairwise if (r.candidate, r.baseline) == (candidate, baseline) and r.unfit]
            why = " ".join(dict.fromkeys(unfit)) or "No judge could be read."
            return Opening(f"Whether {candidate} is better than {words.system(baseline)} is open. {why}")
    return Opening("No comparison was made.")


def at_random(s: RunSummary) -> list[Sample]:
    """Some inputs drawn by a fixed seed: what a reader would see who opened the run anywhere."""
    return random.Random(0).sample(s.samples, min(SHOWN, len(s.samples)))


def copied(sample: Sample, name: str) -> bool:
    """Whether the answer of system ``name`` repeats the literal."""
    return is_copy(sample.answers.get(name, ""), sample.literal)


def advice(notes: Iterable[Note]) -> list[tuple[str, list[str]]]:
    """Notes by what the reader should do about them."""
    known = list(notes)
    grouped = [(title, [note.text for note in known if note.about == about]) for about, title in ADVICE.items()]
    return [(title, texts) for title, texts in grouped if texts]
