"""The file of trained tensors: read back whole, finite, and only on the weights that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from quipwright.core.errors import WeightsError

_BASE = "base"


def write_trained(path: Path, tensors: Mapping[str, Tensor], base: str) -> None:
    """Write ``tensors`` to ``path``, and the identity of the weights that they were trained on (``base``).

    That is the only fact beside them: safetensors writes several in an order that changes from file to file.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={_BASE: base} if base else None)


def read_trained(path: Path) -> tuple[dict[str, Tensor], str]:
    """What :func:`write_trained` wrote: the tensors, and the identity of their base ("" where the file tells none).

    Raises :class:`WeightsError` where the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get(_BASE, "")  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}.", "Restore it from a copy, or train again.") from None


def restore(path: Path, parameters: Mapping[str, nn.Parameter], base: str, weights: str) -> None:
    """Copy the tensors in ``path`` to ``parameters`` of a network on ``weights``, whose identity is ``base`` ("": unknown).

    Raises :class:`WeightsError` where they were trained on other weights, lack a tensor, have one left over or of
    another shape, or hold numbers that are not finite.
    """
    stored, trained_on = read_trained(path)
    odd = sorted(
        name
        for name in stored.keys() | parameters.keys()
        if name not in stored or name not in parameters or stored[name].shape != parameters[name].shape
    )
    if odd:
        raise WeightsError(
            f"{path} does not fit its settings: {', '.join(odd[:3])} (of {len(odd)}) missing, left over or of another shape.",
            "Check the settings that it is opened with, or train again.",
        )
    if base and trained_on and base != trained_on:
        raise WeightsError(
            f"{path} was trained on weights {weights!r} of other content ({trained_on}) than there is now ({base}).",
            "Put the weights back that it was trained on, or train again.",
        )
    if broken := [name for name, tensor in stored.items() if not tensor.isfinite().all()]:
        raise WeightsError(f"{path} holds numbers that are not finite, in {broken[0]}.", "Train again.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])
