"""Quipwright teaches a small language model a creative skill from a large one: imitation, then critique.

The method is that of Ravi et al. 2024, "Small But Funny: A Feedback-Driven Approach to Humor Distillation" (ACL 2024).

    import quipwright

    student = quipwright.load()                      # the student that ships
    student.write("I missed the bus.")               # -> ["The bus left without me …"]
    student.write("I missed the bus.", n=3, best_of=8)  # and style="short", where a student knows styles

    run = quipwright.distil("demo", run="runs/demo")  # the whole method, on embedded parts
    run.load().write("I missed the bus.")

    quipwright.compare("runs/demo", "teacher", judges=["reward"])
    quipwright.audit("reward", "bundled:verdicts.jsonl")

Everything is imported on first use, so that ``import quipwright`` takes no time. What goes wrong for a reason that a
user can act on is a ``QuipwrightError``, whose text is one line with the remedy.
"""

from __future__ import annotations

from quipwright.core.version import VERSION

TYPE_CHECKING = False  # as typing's, which takes its time to import
if TYPE_CHECKING:
    from typing import Any

    from quipwright.core.errors import QuipwrightError
    from quipwright.evaluation.audit import AuditReport
    from quipwright.evaluation.compare import CompareResult
    from quipwright.pipeline.api import Run, audit, compare, distil, load
    from quipwright.pipeline.recipe import Recipe
    from quipwright.serving.writer import Writer

__version__ = VERSION
__all__ = [
    "AuditReport",
    "CompareResult",
    "QuipwrightError",
    "Recipe",
    "Run",
    "Writer",
    "audit",
    "compare",
    "distil",
    "load",
]

_HOMES = {
    "AuditReport": "evaluation.audit",
    "CompareResult": "evaluation.compare",
    "QuipwrightError": "core.errors",
    "Recipe": "pipeline.recipe",
    "Run": "pipeline.api",
    "Writer": "serving.writer",
    "audit": "pipeline.api",
    "compare": "pipeline.api",
    "distil": "pipeline.api",
    "load": "pipeline.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quipwright' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"quipwright.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
