"""text, varchar, char, name and enums: their values, functions, comparisons and casts (manual: Character
Types; String Functions and Operators). LIKE is in `patterns.py`.

Values are str. Comparisons of char ignore its trailing blanks.

lower() and upper() do what the collation's provider does (manual: Collation Support, Locale Providers): libc
and builtin map character by character; ICU maps whole strings, so that ß becomes SS and a final Σ becomes ς;
C maps ASCII only. They are not known for Turkish, Azeri and Lithuanian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pgshapes.where.collation import Collation
from pgshapes.where.types.operation import (
    CaseMapping,
    Modifier,
    Operation,
    TypeIO,
    calls,
    comparisons,
    inline,
)

_ASCII_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_ASCII_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_UNICODE_16_LOWER: Final = {
    **{0x1C89: 0x1C8A, 0xA7CB: 0x264, 0xA7CC: 0xA7CD, 0xA7DA: 0xA7DB, 0xA7DC: 0x19B},
    **{code: code + 32 for code in range(0x10D50, 0x10D66)},
}
"""Letters that have case since Unicode 16. Python and the builtin provider of Postgres 17 do not know it."""
_UNICODE_16_UPPER: Final = {lower: upper for upper, lower in _UNICODE_16_LOWER.items()}
_BUILTIN_UNICODE_16: Final = 180_000


def lower_c(text: str) -> str:
    """The mapping of ASCII letters."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def upper_c(text: str) -> str:
    """The mapping of ASCII letters."""
    return text.upper() if text.isascii() else text.translate(_ASCII_UPPER)


def lower_by_character(text: str) -> str:
    """The simple mapping of each character."""
    if text.isascii() or not ("\u0130" in text or "\u03a3" in text):
        return text.lower()
    # Python maps these two to two characters, and by the place in the word.
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()


def upper_by_character(text: str) -> str:
    """The simple mapping of each character."""
    upper = text.upper()
    # No mapping is shorter than its character, so with this length each one is one character.
    return upper if len(upper) == len(text) else "".join(map(_SIMPLE_UPPERS.__getitem__, text))


def _simple_upper(character: str) -> str:
    upper = character.upper()
    if len(upper) == 1:
        return upper
    title = character.title()
    return title if len(title) == 1 else character


_MAX_CHARACTERS_KEPT: Final = 10_000


class _SimpleUppers(dict[str, str]):
    """The mappings of the characters that have occurred, but for very many."""

    def __missing__(self, character: str) -> str:
        if len(self) > _MAX_CHARACTERS_KEPT:
            self.clear()
        upper = self[character] = _simple_upper(character)
        return upper


_SIMPLE_UPPERS: Final = _SimpleUppers()


class _Mappings(NamedTuple):
    """lower() or upper() of the providers."""

    of_ascii: CaseMapping
    of_characters: CaseMapping
    of_strings: CaseMapping
    unicode_16: dict[int, int]

    def of_collation(self, collation: Collation, server_version: int) -> CaseMapping | None:
        """The mapping that a collation has, None if it is not known."""
        if collation.is_plain_c:
            return self.of_ascii
        if not collation.folds_ascii_plainly:
            return None
        mapping = self.of_strings if _maps_strings(collation) else self.of_characters
        if _has_unicode_16(collation, server_version):
            return lambda text: mapping(text).translate(self.unicode_16)
        return mapping


def _maps_strings(collation: Collation) -> bool:
    return collation.provider == "i" or collation.locale == "PG_UNICODE_FAST"


def _has_unicode_16(collation: Collation, server_version: int) -> bool:
    return collation.provider == "b" and (server_version or _BUILTIN_UNICODE_16) >= _BUILTIN_UNICODE_16


lower_of: Final = _Mappings(lower_c, lower_by_character, str.lower, _UNICODE_16_LOWER).of_collation
"""lower() of a collation and a server version, None if it is not known."""
upper_of: Final = _Mappings(upper_c, upper_by_character, str.upper, _UNICODE_16_UPPER).of_collation
"""upper() of a collation and a server version, None if it is not known."""

_MAX_CHARACTERS: Final = 10_485_760


def read_text(text: str) -> str:
    """The text itself."""
    return text


def read_name(text: str) -> str:
    """A name, truncated to 63 bytes as in the server."""
    return text.encode()[:63].decode(errors="ignore")


def _is_length(modifier: tuple[int, ...]) -> bool:
    return len(modifier) == 1 and 1 <= modifier[0] <= _MAX_CHARACTERS


def _cut(modifier: tuple[int, ...]) -> Callable[[str], str]:
    (size,) = modifier
    return lambda text: text[:size]


def _padded(modifier: tuple[int, ...]) -> Callable[[str], str]:
    (size,) = modifier
    return lambda text: text[:size].ljust(size)


def concat(*parts: str | None) -> str:
    """The concatenation of all parts that are not NULL."""
    return "".join(part for part in parts if part is not None)


def _trim(method: str) -> Operation:
    """The trimming of given characters; without any nothing is trimmed, where Python would trim blanks."""
    return inline(f"({{0}}.{method}({{1}}) if {{1}} else {{0}})", collation="equal")


_LENGTH: Final = inline("len({0})")
_LENGTH_WITHOUT_BLANKS: Final = inline('len({0}.rstrip(" "))')
_POSITION: Final = inline("({0}.find({1}) + 1)", collation="equal")
_TEXT: Final = TypeIO(read_text, read_text, read_text, is_canonical=True)

TYPES: Final = {
    "text": _TEXT,
    "varchar": _TEXT._replace(modifier=Modifier(_is_length, _cut)),
    "bpchar": _TEXT._replace(is_canonical=False, modifier=Modifier(_is_length, _padded)),
    "name": TypeIO(read_text, read_name, read_text, is_canonical=True),
}
OPERATIONS: Final = {
    **comparisons("text", "text", is_keyed=True, is_collated=True),
    **comparisons("name", "name", is_keyed=True, is_collated=True),
    **comparisons("name", "text", is_keyed=True, is_collated=True),
    **comparisons("text", "name", is_keyed=True, is_collated=True),
    **comparisons("bpchar", "bpchar", operands=('{0}.rstrip(" ")', '{1}.rstrip(" ")'), is_collated=True),
    "anyenum = anyenum": inline("{0} == {1}", equality="eq"),
    "anyenum <> anyenum": inline("{0} != {1}", equality="ne"),
    "text || text": inline("({0} + {1})"),
    "lower(text)": calls(str.lower, case_mapping=lower_of),
    "upper(text)": calls(str.upper, case_mapping=upper_of),
    "length(text)": _LENGTH,
    "char_length(text)": _LENGTH,
    "character_length(text)": _LENGTH,
    "length(bpchar)": _LENGTH_WITHOUT_BLANKS,
    "char_length(bpchar)": _LENGTH_WITHOUT_BLANKS,
    "character_length(bpchar)": _LENGTH_WITHOUT_BLANKS,
    "btrim(text)": inline('{0}.strip(" ")'),
    "ltrim(text)": inline('{0}.lstrip(" ")'),
    "rtrim(text)": inline('{0}.rstrip(" ")'),
    "btrim(text, text)": _trim("strip"),
    "ltrim(text, text)": _trim("lstrip"),
    "rtrim(text, text)": _trim("rstrip"),
    "strpos(text, text)": _POSITION,
    "position(text, text)": _POSITION,
    "text ^@ text": inline("{0}.startswith({1})", collation="equal"),
    "starts_with(text, text)": inline("{0}.startswith({1})", collation="equal"),
    "concat(any)": calls(concat),
    "bpchar::text": inline('{0}.rstrip(" ")'),
    "bpchar::varchar": inline('{0}.rstrip(" ")'),
    "name::text": inline("{0}"),
    "name::varchar": inline("{0}"),
}
