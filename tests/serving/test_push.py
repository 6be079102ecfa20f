"""Folders to the hub: what would be sent is shown, a key or a broken card stops it, and a token decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from quipwright.core.errors import DiskError, RecipeError
from quipwright.serving.export.push import kind_of_folder, push

CARD = "---\nlibrary_name: quipwright\n---\n\n# A critic\n"


class Hub:
    """Stands in for ``HfApi``: keeps what it is asked."""

    asked: list[tuple[str, dict[str, Any]]]

    def create_repo(self, repo: str, **options: Any) -> None:
        Hub.asked.append(("create", {"repo": repo, **options}))

    def upload_folder(self, **options: Any) -> None:
        Hub.asked.append(("upload", options))
        if options["repo_id"] == "me/full":
            raise OSError("quota exceeded")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Hub.asked = []
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "t")
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "critic.json").write_text("{}")
    return tmp_path


def test_a_folder_is_sent_with_a_token(folder: Path) -> None:
    pushed = push(folder, "me/critic", "model", private=True)
    assert pushed.files == (("README.md", len(CARD)), ("critic.json", 2))
    assert pushed.address == "https://huggingface.co/me/critic"
    (create, made), (upload, sent) = Hub.asked
    assert (create, made) == ("create", {"repo": "me/critic", "repo_type": "model", "private": True, "exist_ok": True})
    assert (upload, sent["folder_path"], sent["repo_id"]) == ("upload", folder, "me/critic")


def test_nothing_is_sent_in_a_dry_run_or_without_a_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert push(folder, "me/critic", "model", dry_run=True).address is None
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert push(folder, "me/critic", "model").address is None
    assert Hub.asked == []


def test_what_the_hub_says_is_one_line(folder: Path) -> None:
    with pytest.raises(DiskError, match="did not take me/full: quota exceeded"):
        push(folder, "me/full", "model")


def test_keys_and_broken_cards_stop_it(folder: Path) -> None:
    (folder / "critic.json").write_text('{"key": "hf_' + "a" * 34 + '"}')
    with pytest.raises(RecipeError, match=r"critic\.json holds what looks like a secret key"):
        push(folder, "me/critic", "model")
    (folder / "README.md").write_text("# No head\n")
    with pytest.raises(RecipeError, match="has no metadata"):
        push(folder, "me/critic", "model")
    (folder / "README.md").write_text("---\n- a\n- list\n---\n")
    with pytest.raises(RecipeError, match="no card"):
        push(folder, "me/critic", "model")
    assert Hub.asked == []


def test_an_adapter_of_weights_that_nobody_else_has_stays_here(folder: Path) -> None:
    (folder / "student.json").write_text('{"weights": "embedded"}')
    assert push(folder, "me/quips", "model").address
    (folder / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{folder}"}}')
    with pytest.raises(RecipeError, match=r"adapter_config\.json names a base model that is a folder"):
        push(folder, "me/quips", "model")


def test_the_command_shows_what_it_would_send(quipwright: Any, folder: Path) -> None:
    code, out, _ = quipwright("push", folder, "--repo", "me/critic", "--dry-run")
    assert (code, Hub.asked) == (0, [])
    assert out.splitlines() == [
        "          45  README.md", "           2  critic.json", "Nothing was sent to me/critic: a dry run.",
    ]  # fmt: skip


@pytest.mark.parametrize("repo", ["quips", "me/", "me/a b", "me/../x", "a/b/c", "me/x--y"])
def test_a_repository_has_an_owner_and_a_name(folder: Path, repo: str) -> None:
    with pytest.raises(RecipeError, match="owner/name"):
        push(folder, repo, "model")


def test_a_folder_is_known_by_its_files(folder: Path, tmp_path: Path) -> None:
    assert kind_of_folder(folder) == "model"
    (folder / "critic.json").rename(folder / "train.jsonl")
    assert kind_of_folder(folder) == "dataset"
    (folder / "summary.json").touch()
    assert kind_of_folder(folder) is None
