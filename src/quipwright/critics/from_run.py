"""A run's judgments as training material: what its critic said of the students' attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.records import Comparison, Judgment, Pair, Response
from quipwright.core.storage.files import write_atomic
from quipwright.core.storage.run_folder import recipe_dir_of
from quipwright.critics.active import Labelled, split
from quipwright.critics.combine import combined_by_pair
from quipwright.critics.copy_filter import RULE
from quipwright.critics.reward_model.training import as_verdict
from quipwright.data.examples import DataSettings, load_examples
from quipwright.data.run_summary import read_run
from quipwright.data.task import Task
from quipwright.data.verdicts import VerdictRow

HELDOUT = 0.2
LEAST = 10  # literals: of fewer none are left to fit, calibrate and measure on


def verdicts_of_run(folder: Path, seed: int = 0) -> list[VerdictRow]:
    """The verdicts of the feedback rounds in run ``folder``, both orders averaged; a fifth of the literals held out.

    They come from the stages that the run's summary names; the evaluation is not learnt from. A pair that was read in
    one order only gives none. Verdicts of rules are skipped, and those of a trained critic where another one judged too.
    Raises :class:`RunError` where there is no run and :class:`DataError` where it has too few verdicts.
    """
    summary = read_run(folder)
    data = DataSettings.model_validate(summary.recipe["data"])
    literals = {e.id: e.text for e in load_examples(data, recipe_dir_of(folder))}
    texts = {r.id: r for r in summary.stage_rows(folder, Response, "teach", "sample")}
    p_a = combined_by_pair(_learnable(summary.stage_rows(folder, Judgment, "judge")))
    labels = [
        Labelled(Comparison(pair, literals[pair.example_id], texts[pair.a_id].text, texts[pair.b_id].text), p)
        for pair in {pair.id: pair for pair in summary.stage_rows(folder, Pair, "select")}.values()
        if pair.example_id in literals and {pair.a_id, pair.b_id} <= texts.keys()
        if (p := p_a.get(pair.id)) is not None
    ]
    if (count := len({label.comparison.literal for label in labels})) < LEAST:
        raise DataError(
            f"{folder} has readable verdicts of feedback on {count} literals.", f"A critic needs {LEAST} at least."
        )
    held, learnt = split(labels, HELDOUT, seed)
    return [_row(label, texts, "train") for label in learnt] + [_row(label, texts, "heldout") for label in held]


def settings_for_run(folder: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Critic settings ``tree`` for the task of run ``folder``: its student's prompt in the default style, unless they name another."""
    prompt = Task.parse(read_run(folder).task, str(folder)).prompt_in()
    return {"teacher": None, **tree, "architecture": {"prompt": prompt, **(tree.get("architecture") or {})}}


def write_verdicts(rows: Sequence[VerdictRow], path: Path) -> None:
    """Write ``rows`` as a file that ``train-critic`` and ``audit`` read."""
    write_atomic(path, "".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows))


def _learnable(judgments: Sequence[Judgment]) -> list[Judgment]:
    """``judgments`` without those of rules, and without a trained critic's where another critic judged too."""
    read = [j for j in judgments if not j.judge.startswith(RULE)]
    untrained = [j for j in read if not j.judge.startswith("reward:")]
    return untrained or read


def _row(label: Labelled, texts: Mapping[str, Response], part: str) -> VerdictRow:
    pair = label.comparison.pair
    authors = {f"author_{side}": _author(texts[i]) for side, i in (("a", pair.a_id), ("b", pair.b_id))}
    return as_verdict(label).model_copy(update={**authors, "split": part})


def _author(response: Response) -> str:
    return "teacher" if response.author.startswith("teacher:") else response.author
