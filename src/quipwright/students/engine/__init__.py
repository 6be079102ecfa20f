"""The decoding engine: how students of every family write, the same text in any company."""

from quipwright.students.engine.engine import Engine, OnToken, Texts

__all__ = ["Engine", "OnToken", "Texts"]
