"""Errors a user can act on: one line that says what was wrong, what we got, and what to do.

Each class owns an exit code, so that scripts can tell a typo in a recipe from a missing key.
"""

from __future__ import annotations

from quipwright.core.text import printable


class QuipwrightError(Exception):
    """Base of all errors shown without a traceback. ``exit_code`` is the process's exit status."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        """``problem`` says what was wrong and what we got; ``remedy`` says what to do.

        Both may quote hostile data, so both are made one printable line.
        """
        self.problem = " ".join(printable(problem).split())
        self.remedy = " ".join(printable(remedy).split())
        super().__init__(f"{self.problem} {self.remedy}".strip())


class RecipeError(QuipwrightError):
    """A recipe or task file is wrong: unknown key, wrong type, impossible combination."""

    exit_code = 2


class DataError(QuipwrightError):
    """An input file is missing, empty, not UTF-8, or holds a row we cannot use."""

    exit_code = 3


class RunError(QuipwrightError):
    """A run folder is unknown, belongs to another recipe, or is in use."""

    exit_code = 4


class DamagedError(QuipwrightError):
    """Stored results do not match their recorded hashes."""

    exit_code = 5


class WeightsError(QuipwrightError):
    """Model weights cannot be found, or are not what the recipe says."""

    exit_code = 6


class ModelError(QuipwrightError):
    """A language model did not answer: no key, no server, a refusal. Exit code as of a teacher."""

    exit_code = 7


class TeacherError(ModelError):
    """The teacher gave nothing to learn from: an unknown literal in a recording, no usable paraphrase."""


class TrainingError(QuipwrightError):
    """Training went wrong: nothing to learn from, or a loss or gradient that is not finite."""

    exit_code = 8


class CriticError(ModelError):
    """The critic cannot judge, or its measured agreement is below the recipe's floor."""

    exit_code = 9


class DiskError(QuipwrightError):
    """A file could not be written (disk full, no permission). What was finished before is intact."""

    exit_code = 10


class BudgetError(QuipwrightError):
    """The recipe's cap on money or calls is reached; what was answered is stored, and raising the cap resumes."""

    exit_code = 11


class UnansweredError(QuipwrightError):
    """Some requests were refused for good; all others were answered and stored."""

    exit_code = 12
