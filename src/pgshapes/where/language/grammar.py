"""Text → syntax tree, by Postgres's own grammar (libpg_query, through its C interface). Knows no types.

The tree is the library's JSON as dicts and lists. The only results are the expression of `SELECT 1 WHERE
<clause>` and the terms of `SELECT 1 ORDER BY <terms>`, and only if the statement is exactly that.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from pgshapes.where.language.refusal import Refusal

Node = dict[str, Any]

MAX_CLAUSE_BYTES: Final = 65_536
"""1,000 uuids in an IN list are 40 kB. The C library recurses: for a clause of this length it needs less
than 4 MB of stack.
"""

_WRAPPER: Final = b"SELECT 1 WHERE "
_ORDER_WRAPPER: Final = b"SELECT 1 ORDER BY "
_LIBRARIES: Final = {"win32": "pg_query.dll", "darwin": "libpg_query.dylib"}
_STATEMENT_KEYS: Final = {"targetList", "limitOption", "op"}


class _Error(ctypes.Structure):
    _fields_ = [
        ("message", ctypes.c_char_p),
        ("funcname", ctypes.c_char_p),
        ("filename", ctypes.c_char_p),
        ("lineno", ctypes.c_int),
        ("cursorpos", ctypes.c_int),
        ("context", ctypes.c_char_p),
    ]


class _Result(ctypes.Structure):
    _fields_ = [
        ("parse_tree", ctypes.c_char_p),
        ("stderr_buffer", ctypes.c_char_p),
        ("error", ctypes.POINTER(_Error)),
    ]


@cache
def _library() -> ctypes.CDLL:
    """The shared library in the package `postgast`, whose Python modules, which need protobuf, are not
    imported.
    """
    spec = importlib.util.find_spec("postgast")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package postgast is not installed")
    folder = Path(next(iter(spec.submodule_search_locations)))
    library = ctypes.CDLL(str(folder / _LIBRARIES.get(sys.platform, "libpg_query.so")))
    library.pg_query_parse.argtypes = [ctypes.c_char_p]
    library.pg_query_parse.restype = _Result
    library.pg_query_free_parse_result.argtypes = [_Result]
    library.pg_query_free_parse_result.restype = None
    return library


def parse_clause(text: str) -> Node:
    """The expression of a clause. Raises Refusal for text that is not one expression."""
    wrapped = _WRAPPER + _encode(text, "WHERE clause")
    statement = _parse_select(wrapped, "whereClause", 'unescaped ";" causing statement split')
    clause: Node = statement["whereClause"]
    return clause


def parse_sort_order(text: str) -> list[Node]:
    """The terms of a sort order. Raises Refusal for text that is not a list of terms."""
    wrapped = _ORDER_WRAPPER + _encode(text, "ORDER BY")
    statement = _parse_select(wrapped, "sortClause", "Unexpected `;` in order by")
    return [term["SortBy"] for term in statement["sortClause"]]


def location_in_clause(location: int) -> int:
    """Byte position in the user's text of a position in the parsed statement."""
    return max(0, location - len(_WRAPPER))


def location_in_sort_order(location: int) -> int:
    """Byte position in the user's text of a position in the parsed statement."""
    return max(0, location - len(_ORDER_WRAPPER))


def _encode(text: str, what: str) -> bytes:
    if len(text) > MAX_CLAUSE_BYTES:
        raise Refusal(f"{what} is longer than {MAX_CLAUSE_BYTES} bytes")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise Refusal(f"{what} is not valid UTF-8") from None
    if len(encoded) > MAX_CLAUSE_BYTES:
        raise Refusal(f"{what} is longer than {MAX_CLAUSE_BYTES} bytes")
    if b"\0" in encoded:
        raise Refusal(f"{what} must not contain NUL characters")
    return encoded


def _parse_select(statement: bytes, clause: str, split: str) -> Node:
    """The SELECT of the statement. Raises Refusal if it has other clauses than this one, or there are more
    statements.
    """
    statements = parse_statements(statement)
    if len(statements) != 1:
        raise Refusal(split)
    select: Node | None = statements[0].get("stmt", {}).get("SelectStmt")
    if select is None or select.keys() - {clause} != _STATEMENT_KEYS or select["op"] != "SETOP_NONE":
        raise Refusal("malformed query ending with SQL clauses")
    if len(select["targetList"]) != 1 or clause not in select:
        raise Refusal("malformed query ending with SQL clauses")
    return select


def parse_statements(statement: bytes) -> list[Node]:
    """The statements of a text, as `RawStmt` nodes. Raises Refusal."""
    result = _library().pg_query_parse(statement)
    try:
        if result.error:
            error = result.error.contents
            text = error.message.decode(errors="replace")
            raise Refusal(text, at=max(0, error.cursorpos - 1))
        tree: list[Node] = orjson.loads(result.parse_tree)["stmts"]
        return tree
    except (RecursionError, orjson.JSONDecodeError):
        raise Refusal("WHERE clause is nested too deeply") from None
    finally:
        _library().pg_query_free_parse_result(result)
