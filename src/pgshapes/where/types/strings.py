"""Text-like types, bool, uuid and bytea. Text is str; blank-padded char loses its blanks when compared;
bytea stays in the server's hex form, whose order is that of the bytes.
"""

from __future__ import annotations

import re
from typing import Final

from pgshapes.where.types.operation import BadLiteral

_UUID: Final = re.compile(r"\{?((?:[0-9a-f]{4}-?){7}[0-9a-f]{4})\}?", re.ASCII | re.IGNORECASE)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}[ \t\r\n]*)*", re.ASCII | re.IGNORECASE)
_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2}|\\)|\\")
_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")
_SPACE: Final = " \t\n\v\f\r"


def decode_bool(text: str) -> bool:
    """A bool as the server writes it."""
    return text == "t"


def read_bool(text: str) -> bool:
    """A bool from a user's text: unique prefixes of true, false, yes, no, on, off. Raises BadLiteral."""
    word = text.strip(_SPACE).lower()
    if word == "o" or not word:
        raise BadLiteral
    if any(full.startswith(word) for full in _TRUE):
        return True
    if any(full.startswith(word) for full in _FALSE):
        return False
    raise BadLiteral


def write_bool(value: bool) -> str:
    """As `boolout` writes it."""
    return "t" if value else "f"


def read_text(text: str) -> str:
    """Text is itself."""
    return text


def read_name(text: str) -> str:
    """A name, cut to 63 bytes as the server does."""
    return text.encode()[:63].decode(errors="ignore")


def read_uuid(text: str) -> str:
    """A uuid in the server's form. Raises BadLiteral."""
    found = _UUID.fullmatch(text)
    if found is None or (text.startswith("{") != text.endswith("}")):
        raise BadLiteral
    digits = found[1].replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def read_bytea(text: str) -> str:
    """A bytea in hex form from hex or escape form. Raises BadLiteral."""
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
