"""What an interrupted file has so far: kept beside the output under a hidden name until that is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from quipwright.core.errors import DataError
from quipwright.core.storage.files import AppendOnly, damaged, read_lines


@dataclass(frozen=True)
class Outcome:
    """What became of a sentence: its texts, or the ``problem``. ``truncated`` where the limit ended one of the texts.
    ``declined``: what made the sentence sensitive, which is then the only text."""

    texts: tuple[str, ...] = ()
    truncated: bool = False
    problem: str = ""
    declined: str = ""


class Journal:
    """The outcomes by sentence that are ``known``, and a place for more. It is for one output and one command."""

    def __init__(self, target: Path, identity: Mapping[str, Any]) -> None:
        """Read what is kept for ``target``. Raises :class:`DataError` naming the settings in which the command that made
        it differs from ``identity``."""
        self.path = target.with_name(f".{target.name}.progress.jsonl")
        self.known: dict[str, Outcome] = {}
        lines = read_lines(self.path) if self.path.exists() else []
        if lines:
            self._read(lines, identity)
        self._file = AppendOnly(self.path)
        if not lines:
            self._file.append([json.dumps(dict(identity))])

    def add(self, sentence: str, outcome: Outcome) -> None:
        """Keep the ``outcome`` of ``sentence``."""
        self._file.append([json.dumps([sentence, asdict(outcome)], ensure_ascii=False)])

    def remove(self) -> None:
        """The output is whole: nothing needs to be kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what it holds stays."""
        self._file.close()

    def _read(self, lines: list[str], identity: Mapping[str, Any]) -> None:
        try:
            header, *entries = map(json.loads, lines)
            self.known = {
                sentence: Outcome(tuple(kept["texts"]), kept["truncated"], kept["problem"], kept["declined"])
                for sentence, kept in entries
            }
            differing = [name for name, value in identity.items() if header.get(name) != value]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged(self.path, error, "Remove it to begin anew.") from None
        if differing:
            raise DataError(
                f"{self.path} was begun with another setting of {', '.join(differing)}.",
                "Use the same settings to go on, or remove that file to begin anew.",
            )
