"""A folder to the Hugging Face Hub. Without a token, or when asked, nothing is sent: the caller learns what would be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quipwright.core.errors import DiskError, RecipeError
from quipwright.core.storage.files import read_object
from quipwright.critics.reward_model.card import CARD_FILE
from quipwright.serving.export.origin import base_model
from quipwright.students.common import STUDENT_FILE
from quipwright.students.peft_files import ADAPTER_CONFIG

Kind = Literal["model", "dataset"]
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}")


@dataclass(frozen=True)
class Pushed:
    """What was sent, or would have been: names and sizes in bytes of the files. ``address`` where it was sent."""

    repo: str
    files: tuple[tuple[str, int], ...]
    address: str | None


def check_repo(repo: str) -> None:
    """Raises :class:`RecipeError` where ``repo`` is no name of a repository on the hub."""
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        raise RecipeError(f"--repo got {repo[:80]!r}.", "Name an owner and a repository: owner/name.")


def kind_of_folder(folder: Path) -> Kind | None:
    """What a folder that can be sent as it is holds: a critic or GGUF files, or data; ``None`` for any other."""
    if (folder / "summary.json").exists():
        return None
    if (folder / CARD_FILE).is_file() or any(folder.glob("*.gguf")):
        return "model"
    return "dataset" if any(folder.glob("*.jsonl")) or any(folder.glob("*.parquet")) else None


def push(folder: Path, repo: str, kind: Kind, *, private: bool = False, dry_run: bool = False) -> Pushed:
    """Send the files of ``folder`` to the repository ``repo``, which is made if it is not there.

    The token is huggingface_hub's: ``HF_TOKEN``, or what ``hf auth login`` stored. Raises :class:`RecipeError` where the
    card is not what the hub reads or a file holds what looks like a key, and :class:`DiskError` where the hub refuses.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    check_repo(repo)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    check_card(folder / "README.md", kind)
    _check_base(folder)
    for path in paths:
        if path.suffix in (".json", ".jsonl", ".md", ".jinja", ".txt", "") and _SECRET.search(path.read_bytes()):
            raise RecipeError(f"{path.name} holds what looks like a secret key.", "Remove it; nothing was sent.")
    files = tuple((str(path.relative_to(folder)), path.stat().st_size) for path in paths)
    if dry_run or get_token() is None:
        return Pushed(repo, files, None)
    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, repo_type=kind, folder_path=folder, commit_message="Upload with quipwright push"
        )
    except (HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DiskError(
            f"the hub did not take {repo}: {reason}.", "Check the token, the name and the network."
        ) from None
    return Pushed(repo, files, f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}")


def _check_base(folder: Path) -> None:
    """An adapter is of use to others where they have its base model, too; a path of this machine is none of theirs."""
    for name, key in ((ADAPTER_CONFIG, "base_model_name_or_path"), (STUDENT_FILE, "weights")):
        if (folder / name).exists() and base_model(str(read_object(folder / name).get(key))) is None:
            raise RecipeError(f"{name} names a base model that is a folder of this machine.", "Use --to hf.")


def check_card(path: Path, kind: Kind) -> None:
    """Raises :class:`RecipeError` where ``path`` is no card with metadata as huggingface_hub reads it."""
    import yaml
    from huggingface_hub import DatasetCard, ModelCard

    remedy = "Write README.md with metadata between lines of ---, or export again."
    try:
        content = path.read_text(encoding="utf-8")
        card = (DatasetCard if kind == "dataset" else ModelCard)(content)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(
            f"{path.name} is no card that the hub reads: {error}.",
            remedy,
        ) from None
    if not card.data.to_dict():
        raise RecipeError(f"{path.name} has no metadata.", remedy)
