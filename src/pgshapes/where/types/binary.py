"""bytea and uuid: their values, functions and comparisons (manual: Binary Data Types; UUID Type).

Values are texts as the server writes them: bytea in hex form. The order of the texts is that of the bytes.
"""

from __future__ import annotations

import re
from typing import Final

from pgshapes.where.types.operation import BadLiteral, TypeIO, comparisons, inline, reads
from pgshapes.where.types.texts import read_text

_UUID: Final = re.compile(r"\{?((?:[0-9a-f]{4}-?){7}[0-9a-f]{4})\}?", re.ASCII | re.IGNORECASE)

_HEX: Final = re.compile(r"(?:[0-9a-f]{2}[ \t\r\n]*)*", re.ASCII | re.IGNORECASE)

_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2}|\\)|\\")


def read_uuid(text: str) -> str:
    """A uuid as the server writes it, from a client's text. Raises BadLiteral."""
    found = _UUID.fullmatch(text)
    if found is None or (text.startswith("{") != text.endswith("}")):
        raise BadLiteral
    digits = found[1].replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def read_bytea(text: str) -> str:
    """A bytea in hex form, from a client's text in hex or escape form. Raises BadLiteral."""
    if text.startswith("\\x"):
        if _HEX.fullmatch(text, 2) is None:
            raise BadLiteral("invalid hexadecimal data")
        return "\\x" + "".join(text[2:].split()).lower()
    return "\\x" + _OCTAL.sub(_unescape, text.encode()).hex()


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code is None:
        raise BadLiteral
    return code if code == b"\\" else bytes([int(code, 8)])


TYPES: Final = {
    "bytea": TypeIO(read_text, read_bytea, read_text, is_canonical=True),
    "uuid": TypeIO(read_text, read_uuid, read_text, is_canonical=True),
}
OPERATIONS: Final = {
    **comparisons("bytea", "bytea", is_keyed=True),
    "bytea || bytea": inline("({0} + {1}[2:])"),
    "length(bytea)": inline("(len({0}) // 2 - 1)"),
    **comparisons("uuid", "uuid", is_keyed=True),
    "text::uuid": reads(read_uuid),
}
