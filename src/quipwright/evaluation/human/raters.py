"""Who rates: names in one spelling, a link for each rater, and who did not read what was asked."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from pathlib import Path
from urllib.parse import quote

from quipwright.core.storage.files import disk_errors, write_atomic

HUMAN = "human:"

_NAME = re.compile(r"[\w][\w .'@-]{0,39}")


def rater_name(name: str) -> str:
    """``name`` in the one spelling that votes are signed with: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def checked_name(name: str) -> str:
    """``name`` as :func:`rater_name` spells it. Raises :class:`ValueError` for one that cannot be shown or sent."""
    if not _NAME.fullmatch(spelt := rater_name(name)):
        raise ValueError("Use 1 to 40 letters, digits, spaces or . ' @ - for a name.")
    return spelt


def signature(name: str) -> str:
    """How the rater ``name`` signs a vote, however the name was spelt."""
    return HUMAN + rater_name(name)


class Links:
    """The links of a study's raters, so that nobody answers under another one's name.

    They are made from a key in the folder of the votes, which only its owner may read, and outlive a restart.
    """

    def __init__(self, folder: Path) -> None:
        """Read the key of ``folder``, or draw one. Raises :class:`~quipwright.core.errors.DiskError`."""
        path = folder / "links.key"
        if not path.exists():
            write_atomic(path, secrets.token_hex(16))
            with disk_errors(path):
                path.chmod(0o600)
        self._key = path.read_bytes()

    def key(self, rater: str) -> str:
        """What only the holder of the rater's link knows."""
        return hmac.new(self._key, rater.encode(), hashlib.sha256).hexdigest()[:24]

    def fits(self, rater: str, key: str) -> bool:
        """Whether ``key`` is the rater's."""
        return hmac.compare_digest(self.key(rater).encode(), key.encode())

    def path(self, rater: str, token: str | None = None) -> str:
        """The rater's link behind the server's address."""
        return f"/rater/{quote(rater, safe='')}/{self.key(rater)}" + (f"?token={token}" if token else "")
