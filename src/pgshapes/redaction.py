"""Keeps the secrets of this process out of the texts that it writes: log lines, errors, responses.

This is the second line of defence: texts are built from parts that are no secrets. It is the one place that
knows the secrets' values, and every text that comes from Postgres or libpq passes it, as does every line of
the log. State: the values, which a process gives once at its start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

SHORTEST: Final = 6
"""A shorter secret is part of ordinary words, and replacing it there would show where it is."""
WORDS: Final = frozenset({"password", "postgres", "postgresql", "database", "secret"})
"""Passwords that are words of our own texts; replacing them would disclose them."""
MASK: Final = "***"


class Redaction:
    """Replaces the hidden values in texts."""

    def __init__(self) -> None:
        self._hidden: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str]) -> None:
        """Replace these values from now on, also where they are percent-encoded or shown by `repr`."""
        for secret in secrets:
            if len(secret) >= SHORTEST and secret.lower() not in WORDS:
                self._hidden.update((secret, quote(secret, ""), repr(secret)[1:-1]))
        longest_first = sorted(self._hidden, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_searched, longest_first))) if longest_first else None

    def redact(self, text: str) -> str:
        """The text with `***` in place of hidden values."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _searched(secret: str) -> str:
    # A password of letters only may be a part of ordinary words.
    return rf"\b{secret}\b" if secret.isalpha() else re.escape(secret)


redaction: Final = Redaction()
"""The one of this process."""
