"""What was found out about a model by trying it, kept in the cache folder: the next opening need not try again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from quipwright.core.errors import WeightsError
from quipwright.core.records import content_hash
from quipwright.core.storage.memory import place_of, recall, remember

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
    name = f"findings/{content_hash(kind, attention, transformers.__version__, torch.__version__, text)}.json"
    place = place_of(name) or Path(name)
    if place not in _known:
        if (kept := recall(name)) is None:
            try:
                kept = asdict(find())  # type: ignore[call-overload]
            except WeightsError as error:
                kept = {"refused": [error.problem, error.remedy]}
            remember(name, kept)
        _known[place] = kept
    known = _known[place]
    if "refused" in known:
        raise WeightsError(*known["refused"])
    return finding(**known)
