"""The errors of values: what Postgres would answer with an error instead of a value."""

from __future__ import annotations


class RowError(Exception):
    """Evaluating the clause on this row raises an error in Postgres: overflow, division by zero, bad cast."""


class BadLiteral(ValueError):
    """Text that is no value of the type, or in a form that is not taken; `reason` replaces the usual
    message.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
