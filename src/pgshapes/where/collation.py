"""What is known of a collation, and what follows from it (manual: Collation Support).

Postgres compares text by the rules of a library that is not available here. So text is ordered only where
the order is that of the bytes, and its case is changed only where the mapping is known.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_BYTE_ORDER: Final = frozenset(
    {"C", "POSIX", "ucs_basic", "C.UTF-8", "C.UTF8", "C.utf8", "PG_C_UTF8", "PG_UNICODE_FAST"}
)
_TURKIC: Final = frozenset({"tr", "az", "lt"})


class Collation(NamedTuple):
    """A collation by its locale. `name` is what SQL calls it, "" for the collation of a column or of the
    database.
    """

    locale: str
    provider: str
    """`collprovider`: c libc, i ICU, b builtin."""
    is_deterministic: bool = True
    name: str = ""

    @property
    def is_byte_order(self) -> bool:
        """Whether text is ordered by code point, which is the order of UTF-8 bytes."""
        return self.provider != "i" and self.locale in _BYTE_ORDER

    @property
    def is_plain_c(self) -> bool:
        """Whether only ASCII letters have case."""
        return self.provider != "i" and self.locale in ("C", "POSIX")

    @property
    def folds_ascii_plainly(self) -> bool:
        """Whether A–Z map to a–z and back: not in Turkish, Azeri and Lithuanian."""
        return self.locale.replace("_", "-").split("-")[0].lower() not in _TURKIC


C: Final = Collation("C", "c", name="C")
NAMED: Final = {
    "C": C,
    "POSIX": Collation("POSIX", "c", name="POSIX"),
}
"""Collations that a clause may name: every server has them, with the same meaning."""
