"""The folder of one run: its lock, its manifest and its stages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipwright.core.errors import RunError
from quipwright.core.records import content_hash
from quipwright.core.storage.files import disk_errors, locked
from quipwright.core.storage.ranks import ALONE, Ranks
from quipwright.core.storage.sealed_files import read_sealed, write_sealed
from quipwright.core.storage.stage_cache import StageCache

STAGES, MANIFEST = "stages", "manifest.json"
_OURS = {"lock", "lock.pid", f"{MANIFEST}.tmp", STAGES, "calls.sqlite", "metrics.jsonl", "summary.json"}


def stages_of(run: Path) -> Path:
    """Where the stages of the run in folder ``run`` are: in it, or beside it where an experiment's runs share them."""
    inside = run / STAGES
    return inside if inside.is_dir() else run.resolve().parent / STAGES


def read_manifest(run: Path) -> dict[str, Any]:
    """What the folder ``run`` belongs to, and what was recorded of it. Raises
    :class:`~quipwright.core.errors.DamagedError`."""
    remedy = "Remove it and run the recipe again: it is written anew, and what is finished is not made twice."
    return read_sealed(run / MANIFEST, remedy)


def record_fact(run: Path, name: str, fact: Any) -> None:
    """Write a ``fact`` of the run in folder ``run`` into its manifest; it is no part of what identifies the run."""
    manifest = read_manifest(run)
    if manifest.get(name) != fact:
        write_sealed(run / MANIFEST, {**manifest, name: fact})


@dataclass(frozen=True)
class RunFolder:
    """An open run folder. Use :meth:`open`, which takes the lock and checks the manifest.

    ``owner``: what the names of this run's stages begin with in a store of calls that other runs share.
    """

    path: Path
    cache: StageCache

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        recipe: Mapping[str, Any],
        *,
        identity: Mapping[str, Any] | None = None,
        shared: Path | None = None,
        until: str | None = None,
        ranks: Ranks = ALONE,
    ) -> Iterator[RunFolder]:
        """Open or create the folder for ``recipe`` (its settings as JSON), of which ``identity`` (all of it unless
        given) must be that of the recipe the folder was made for. ``shared``: the folder of stages that others use too.
        Of several processes of one run (``ranks``) the first opens it, and the others join it then.

        Raises :class:`RunError` when another process holds it (naming the PID) or when it belongs to another recipe.
        """
        cache = StageCache(shared or path / STAGES, shared=shared is not None, until=until, ranks=ranks)
        run = cls(path, cache)
        if not ranks.first:
            ranks.meet()
            yield run
            return
        with disk_errors(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise RunError(f"{path} is a file, not a run folder.", "Name another folder with --run.") from None
        with locked(path / "lock", str(path), "Wait for it, or choose another --run folder."):
            run._check_identity(recipe, recipe if identity is None else identity)
            ranks.meet()
            yield run

    def _check_identity(self, recipe: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        key = content_hash(identity)
        if (self.path / MANIFEST).exists():
            held = self.manifest()
            if held.get("identity") != key:
                raise RunError(
                    f"{self.path} holds a run of another recipe ({held.get('name')!r}); these settings differ: "
                    f"{_differences(held.get('compared', {}), identity)}.",
                    "Use its own recipe, or name a new folder with --run.",
                )
            return
        if (self.path / "arrows").is_dir():
            raise RunError(f"{self.path} was made by an earlier version.", "Name a new folder with --run.")
        others = sorted(entry.name for entry in self.path.iterdir() if entry.name not in _OURS)
        if others and not self.cache.folder.is_dir():
            raise RunError(f"{self.path} is not a run folder: it holds {others[0]!r}.", "Name a new or empty folder.")
        # A manifest that was lost is written anew: the keys of the stages tell whether they are this recipe's.
        manifest = {"name": recipe.get("name"), "identity": key, "compared": identity, "recipe": recipe}
        write_sealed(self.path / MANIFEST, manifest)

    def manifest(self) -> dict[str, Any]:
        """See :func:`read_manifest`."""
        return read_manifest(self.path)

    def record(self, name: str, fact: Any) -> None:
        """See :func:`record_fact`; the first process of the run records."""
        if self.cache.ranks.first:
            record_fact(self.path, name, fact)

    @property
    def calls(self) -> Path:
        """The folder of the store of calls: where the folder of stages is."""
        return self.cache.folder.parent

    @property
    def owner(self) -> str:
        """What the names of this run's stages begin with in a store of calls that others share."""
        return f"{self.path.name}/" if self.cache.shared else ""


def _differences(held: Any, now: Any) -> str:
    """The dotted names of settings that are not the same with both values, at most six."""
    found: list[str] = []

    def walk(a: Any, b: Any, path: str) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for name in [*a, *(n for n in b if n not in a)]:
                walk(a.get(name), b.get(name), f"{path}.{name}".strip("."))
        elif (before := _brief(a)) != (after := _brief(b)):
            found.append(f"{path} (was {before}, now {after})")

    walk(held, now, "")
    return ", ".join(found[:6]) + (" …" if len(found) > 6 else "") if found else "unknown"


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:30]}…{content_hash(text)[:6]}"


def recipe_dir_of(run: Path) -> Path | None:
    """The folder that relative paths of the recipe of ``run`` start from; ``None`` where its manifest is gone."""
    base = read_manifest(run).get("base") if (run / MANIFEST).exists() else None
    return Path(base) if isinstance(base, str) else None
