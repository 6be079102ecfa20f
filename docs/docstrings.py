"""Docstrings for the site: Sphinx roles become plain code, because Markdown does not know them."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(~?)([\w.]+)`")


def plain(text: str) -> str:
    """``text`` with each role replaced by the name it shows, as code."""
    return _ROLE.sub(lambda role: f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`", text)


class Roles(Extension):
    """Rewrites the docstring of every object that is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called once for each object."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
