"""Names that the tests of whole runs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quipwright.data.run_summary import RunSummary

Run = Callable[..., RunSummary]
LEARN = "learn.copy_share=0"
RANDOM = "select={kind: random}"  # a pair of every literal, in later rounds too


def result(summary: RunSummary) -> dict[str, object]:
    """What of a run's summary must not depend on how often the run was interrupted."""
    return summary.model_dump(mode="json", exclude={"stages"})


def grid(**changed: Any) -> dict[str, Any]:
    """A grid of three variants on the tiny recipe with some of its keys changed."""
    usual = {
        "name": "grid",
        "recipe": "tiny.yaml",
        "seeds": [1, 2],
        "baseline": "FT",
        "set": {"evaluate.best_of": 0, "evaluate.base": False, "learn.copy_share": 0.0, "select": {"kind": "random"}},
        "variants": {
            "FT": {"student": "imitation", "set": {"rounds": 0}},
            "DPO": {},
            "BRIO": {"set": {"learn.objective": {"kind": "brio"}, "evaluate.students": ["feedback"]}},
        },
    }
    return usual | changed
