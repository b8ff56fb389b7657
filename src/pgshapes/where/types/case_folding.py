"""lower() and upper() as the collation's library does them (manual: Collation Support, Locale Providers).

libc and the builtin provider map character by character; ICU maps whole strings, so that ß becomes SS and a
final Σ becomes ς; C maps ASCII only. Turkish, Azeri and Lithuanian have rules of their own and are refused
before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pgshapes.where.collation import Collation

Fold = Callable[[str], str]

_ASCII_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_ASCII_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_UNICODE_16_LOWER: Final = {
    **{0x1C89: 0x1C8A, 0xA7CB: 0x264, 0xA7CC: 0xA7CD, 0xA7DA: 0xA7DB, 0xA7DC: 0x19B},
    **{code: code + 32 for code in range(0x10D50, 0x10D66)},
}
"""Letters that have had case since Unicode 16, which Python and the builtin provider of Postgres 17 do not
have.
"""
_UNICODE_16_UPPER: Final = {lower: upper for upper, lower in _UNICODE_16_LOWER.items()}
_BUILTIN_UNICODE_16: Final = 180_000


def lower_of(collation: Collation, server_version: int) -> Fold | None:
    """lower() of a collation, None if it is not known."""
    if collation.is_plain_c:
        return lower_c
    if not collation.folds_ascii_plainly:
        return None
    fold = str.lower if _maps_strings(collation) else lower_by_character
    if _has_unicode_16(collation, server_version):
        return lambda text: fold(text).translate(_UNICODE_16_LOWER)
    return fold


def upper_of(collation: Collation, server_version: int) -> Fold | None:
    """upper() of a collation, None if it is not known."""
    if collation.is_plain_c:
        return upper_c
    if not collation.folds_ascii_plainly:
        return None
    fold = str.upper if _maps_strings(collation) else upper_by_character
    if _has_unicode_16(collation, server_version):
        return lambda text: fold(text).translate(_UNICODE_16_UPPER)
    return fold


def _maps_strings(collation: Collation) -> bool:
    return collation.provider == "i" or collation.locale == "PG_UNICODE_FAST"


def _has_unicode_16(collation: Collation, server_version: int) -> bool:
    return collation.provider == "b" and (server_version or _BUILTIN_UNICODE_16) >= _BUILTIN_UNICODE_16


def lower_c(text: str) -> str:
    """ASCII letters only."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def upper_c(text: str) -> str:
    """ASCII letters only."""
    return text.upper() if text.isascii() else text.translate(_ASCII_UPPER)


def lower_by_character(text: str) -> str:
    """Each character by its simple mapping."""
    if text.isascii() or not ("\u0130" in text or "\u03a3" in text):
        return text.lower()
    return "".join("i" if mark == "\u0130" else mark.lower() for mark in text)


def upper_by_character(text: str) -> str:
    """Each character by its simple mapping."""
    return text.upper() if text.isascii() else "".join(map(_simple_upper, text))


def _simple_upper(mark: str) -> str:
    upper = mark.upper()
    if len(upper) == 1:
        return upper
    title = mark.title()
    return title if len(title) == 1 else mark
