"""A request that cannot be served as it is."""

from __future__ import annotations


class BadRequestError(Exception):
    """The request cannot be served as it is; ``param`` names the field. ``status`` is HTTP's."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        """``message`` says what was wrong and what would do."""
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code
