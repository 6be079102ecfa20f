"""Where a student's weights come from: the sealed stage of a run, or the hub."""

from __future__ import annotations

from pathlib import Path

from quipwright.core.errors import DamagedError, RunError, WeightsError
from quipwright.core.paths import inside
from quipwright.core.records import Checkpoint
from quipwright.core.storage.files import file_sha256
from quipwright.core.storage.run_folder import stages_of
from quipwright.students.common import WEIGHTS_FILE


def sealed_weights(run: Path, name: str, checkpoint: Checkpoint) -> Path:
    """The folder of a checkpoint's weights, whose hash is that of the summary."""
    stages = stages_of(run)
    folder = inside(stages, checkpoint.path, f"The checkpoint of {name}")
    if not (folder / WEIGHTS_FILE).is_file():
        raise RunError(
            f"{run} has no weights of {name!r}: {folder / WEIGHTS_FILE} is missing.",
            "Name the run where it was made; the runs of an experiment need the folder of stages beside them.",
        )
    if file_sha256(folder / WEIGHTS_FILE)[:16] != checkpoint.weights_hash:
        raise DamagedError(
            f"{folder / WEIGHTS_FILE} is not what was trained: its hash is not that of the summary.",
            "Restore it from a copy, or remove its folder and run the recipe again.",
        )
    return folder


def fetched(hub_id: str) -> Path:
    """The folder of a hub repository, from the local cache or from the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"{hub_id} is no folder, and the hub does not give it: {' '.join(str(error).split())[:160]}.",
            "Name shipped, a run's folder, an export's folder, or a hub id such as owner/name.",
        ) from None
