"""What was found out about a model is kept: for its config, by what was asked, refusals too."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig

from quipwright.core.errors import WeightsError
from quipwright.students import findings
from quipwright.students.engine.probe import Finding
from quipwright.students.findings import remembered


def test_a_model_is_tried_once_and_again_where_another_thing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path))
    tried: list[str] = []

    def find(kind: str, config: LlamaConfig) -> Finding:
        return remembered(kind, config, Finding, lambda: tried.append(kind) or Finding("waves", "odd", 3, 4))

    config, other = LlamaConfig(hidden_size=32), LlamaConfig(hidden_size=64)
    assert find("a", config) == Finding("waves", "odd", 3, 4)
    monkeypatch.setattr(findings, "_known", {})  # another process
    assert find("a", config) == Finding("waves", "odd", 3, 4)
    assert tried == ["a"]
    find("b", config)
    find("a", other)
    assert tried == ["a", "b", "a"]


def test_a_refusal_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIPWRIGHT_CACHE", str(tmp_path))

    def refuse() -> Finding:
        tried.append("once")
        raise WeightsError("It cannot be scored.", "Choose another.")

    tried: list[str] = []
    for _ in range(2):
        monkeypatch.setattr(findings, "_known", {})
        with pytest.raises(WeightsError, match="It cannot be scored"):
            remembered("a", LlamaConfig(), Finding, refuse)
    assert tried == ["once"]
