"""What was found out about a model by trying it, kept in the cache folder: the next opening need not try again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from quipwright.core.errors import QuipwrightError, WeightsError
from quipwright.core.records import content_hash
from quipwright.core.settings import cache_dir
from quipwright.core.storage.files import write_atomic

F = TypeVar("F")
_known: dict[Path, dict[str, Any]] = {}


def remembered(kind: str, config: Any, finding: Callable[..., F], find: Callable[[], F]) -> F:
    """What ``find`` found for ``config``, a dataclass built by ``finding``, kept for this version of the libraries.

    ``kind`` says what is found out, and its version. A refusal, a :class:`WeightsError`, is kept too.
    """
    import transformers

    noise = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    tree = {name: value for name, value in config.to_dict().items() if name not in noise}
    attention = str(config._attn_implementation)
    text = json.dumps(tree, sort_keys=True, default=str)
    path = (
        cache_dir()
        / "findings"
        / f"{content_hash(kind, attention, transformers.__version__, torch.__version__, text)}.json"
    )
    if path not in _known:
        try:
            _known[path] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            try:
                _known[path] = asdict(find())  # type: ignore[call-overload]
            except WeightsError as error:
                _known[path] = {"refused": [error.problem, error.remedy]}
            _keep(path, _known[path])
    known = _known[path]
    if "refused" in known:
        raise WeightsError(*known["refused"])
    return finding(**known)


def _keep(path: Path, known: dict[str, Any]) -> None:
    """Write ``known``; a folder that cannot be written costs the next opening a second try, and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(known))
    except (OSError, QuipwrightError):
        return
