"""A tiny random student, served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quipwright.students.base import StudentSettings
from quipwright.students.causal import CausalStudent
from quipwright.testing.browser import served
from tests.serving.students import app


@pytest.fixture(scope="session")
def tiny(tiny_weights: Path) -> Iterator[str]:
    """The address of a tiny random student."""
    student = CausalStudent.open(
        StudentSettings(weights=str(tiny_weights), precision="fp32", tuning="full", context=200)
    )
    with served(app(student, allow_sensitive=True)) as address:
        yield address
