"""Builds the SQL that renders a row as the JSON text for clients (docs/protocol.md). Pure.

The text of a value is the result of its type's output function, because pgoutput sends that (manual: Logical
Replication Message Formats). A cast to text can differ (bool, bpchar, inet, name, "char", xml, and types with
their own cast). `concat()` calls the output function of each argument. It also builds the row in one buffer,
whereas a chain of `||` copies it once per operator.

Invariant: no value becomes part of the JSON structure, whatever type its column has. A value that is not
escaped is cast to the type that needs no escapes, so that any other type raises an error.

Not here: the clause (the caller's), and the key in Python (`model.key`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import orjson

from pgshapes.model.key import NULL_VALUE, key_prefix
from pgshapes.model.quoting import qualified_name, quote_identifier, quote_literal
from pgshapes.model.relation import Column, Relation

_MAX_ARGUMENTS: Final = 96
"""Arguments per `concat()`; Postgres takes at most 100 (FUNC_MAX_ARGS)."""

_TEXT_OIDS: Final = frozenset({25, 1043})
"""text and varchar: `to_json` can be applied to the value directly."""

PLAIN_TYPES: Final = {
    16: "bool",
    20: "int8",
    21: "int2",
    23: "int4",
    26: "oid",
    28: "xid",
    29: "cid",
    700: "float4",
    701: "float8",
    1700: "numeric",
    2950: "uuid",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1266: "timetz",
    1000: "bool[]",
    1005: "int2[]",
    1007: "int4[]",
    1016: "int8[]",
    1021: "float4[]",
    1022: "float8[]",
    1028: "oid[]",
    1231: "numeric[]",
    2951: "uuid[]",
}
"""Types whose text contains no character that JSON escapes, and no `/` (with VALUE_SETTINGS), by oid."""


def copy_rows(relation: Relation, columns: Iterable[str], where_sql: str | None) -> str:
    """The COPY statement that sends one JSON text per line (manual: COPY, CSV format).

    JSON text contains no control character, so with these delimiters nothing is quoted or doubled.
    """
    return copy_texts(select_rows(relation, columns, where_sql))


_COPY: Final = "COPY ("
_TO_STDOUT: Final = ") TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"


def copy_texts(query: str) -> str:
    """The COPY statement for a query with one column of JSON texts."""
    return f"{_COPY}{query}{_TO_STDOUT}"


def copy_after_pin(copy_sql: str, search_path: str) -> str:
    """A statement of `copy_texts` whose query is planned with the present search path and run with this one.

    The condition reads no row, so it is a one-time filter, which is evaluated before the first row is read.
    """
    query = copy_sql.removeprefix(_COPY).removesuffix(_TO_STDOUT)
    pin = f"SELECT pg_catalog.set_config('search_path', {quote_literal(search_path)}, true)"
    return copy_texts(f"SELECT * FROM ({query}) rows WHERE ({pin}) IS NOT NULL")


def select_rows(relation: Relation, columns: Iterable[str], where_sql: str | None) -> str:
    """The SELECT for the rows' JSON texts. `where_sql` is generated SQL, never a client's text."""
    selection = f" WHERE ({where_sql})" if where_sql else ""
    return f"SELECT {row_json(relation, columns)} FROM {from_item(relation)}{selection}"


def from_item(relation: Relation) -> str:
    """The table in FROM. Ordinary tables have ONLY: inheriting tables are other relations in the stream."""
    only = "ONLY " if relation.kind == "r" else ""
    return f"{only}{qualified_name(relation.schema, relation.name)}"


def row_json(relation: Relation, columns: Iterable[str], snapshot_mark: int | None = None) -> str:
    """The expression for one row: `{"key":…,"value":{…},"headers":{…}}`, values in alphabetical order."""
    pieces = _Pieces()
    pieces.constant('{"key":')
    _add_key(pieces, relation)
    pieces.constant(',"value":{')
    for index, name in enumerate(sorted(columns)):
        pieces.constant(f"{',' if index else ''}{_json(name)}:")
        _add_value(pieces, relation.columns[relation.column_index[name]])
    pieces.constant('},"headers":' + _headers(relation, snapshot_mark) + "}")
    return _concat(tuple(pieces))


class _Pieces:
    """Arguments of `concat()` in order; adjacent constants are merged."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._constant = ""

    def constant(self, text: str) -> None:
        self._constant += text

    def expression(self, sql: str) -> None:
        self._close_constant()
        self._done.append(sql)

    def __iter__(self) -> Iterator[str]:
        self._close_constant()
        return iter(self._done)

    def _close_constant(self) -> None:
        if self._constant:
            self._done.append(quote_literal(self._constant))
            self._constant = ""


def _add_key(pieces: _Pieces, relation: Relation) -> None:
    columns = [relation.columns[relation.column_index[name]] for name in relation.key_columns]
    prefix = key_prefix(relation.schema, relation.name)
    if any(not _is_plain(column) for column in columns):
        pieces.expression(f"pg_catalog.to_json({_key_text(prefix, columns)})")
        return
    pieces.constant(_json(prefix)[:-1])
    for column in columns:
        pieces.constant("/")
        _add_quoted(pieces, column, _text(column), quote='\\"', absent=NULL_VALUE)
    pieces.constant('"')


def _key_text(prefix: str, columns: Sequence[Column]) -> str:
    """The key as an expression of type text, for columns whose text may need escapes."""
    pieces = _Pieces()
    pieces.constant(prefix)
    for column in columns:
        pieces.constant("/")
        _add_quoted(pieces, column, _escaped_key_text(column), quote='"', absent=NULL_VALUE)
    return _concat(tuple(pieces))


def _add_value(pieces: _Pieces, column: Column) -> None:
    text = _text(column)
    if _is_plain(column):
        _add_quoted(pieces, column, text, quote='"', absent="null")
    elif column.type_oid in _TEXT_OIDS:
        pieces.expression(f"COALESCE(pg_catalog.to_json({text}), 'null')")
    else:
        pieces.expression(
            f"CASE WHEN {_not_null_sql(column)} THEN pg_catalog.to_json({text}) ELSE 'null' END"
        )


def _add_quoted(pieces: _Pieces, column: Column, text: str, *, quote: str, absent: str) -> None:
    """`text` in quotes, or `absent` for NULL; for NULL the expression `text` must be NULL or empty.

    Only key columns cannot be NULL: a NOT NULL constraint may be NOT VALID since Postgres 18.
    """
    if column.pk_index is not None:
        pieces.constant(quote)
        pieces.expression(text)
        pieces.constant(quote)
        return
    is_not_null, mark = _not_null_sql(column), quote_literal(quote)
    pieces.expression(f"CASE WHEN {is_not_null} THEN {mark} ELSE {quote_literal(absent)} END")
    pieces.expression(text)
    pieces.expression(f"CASE WHEN {is_not_null} THEN {mark} END")


def _is_plain(column: Column) -> bool:
    """Whether no text of the column's type needs escapes; for a domain its base type decides."""
    return (column.base_type_oid or column.type_oid) in PLAIN_TYPES


def _not_null_sql(column: Column) -> str:
    """Not `IS NOT NULL`, which is false for a row value with a NULL field."""
    return f"{quote_identifier(column.name)} IS DISTINCT FROM NULL"


def _text(column: Column) -> str:
    """An expression for the output text, as an argument of `concat()` or of a function on text."""
    name, oid = quote_identifier(column.name), column.base_type_oid or column.type_oid
    if oid in PLAIN_TYPES:
        return f"{name}::pg_catalog.{PLAIN_TYPES[oid]}"
    return f"{name}::pg_catalog.text" if column.type_oid in _TEXT_OIDS else f"pg_catalog.concat({name})"


def _escaped_key_text(column: Column) -> str:
    """The text with doubled slashes. `COLLATE "C"`, because `replace` rejects nondeterministic collations."""
    text = _text(column)
    if _is_plain(column):
        return text
    return f"pg_catalog.replace({text} COLLATE pg_catalog.\"C\", '/', '//')"


def _concat(pieces: Sequence[str]) -> str:
    while len(pieces) > _MAX_ARGUMENTS:
        starts = range(0, len(pieces), _MAX_ARGUMENTS)
        pieces = tuple(_concat(pieces[start : start + _MAX_ARGUMENTS]) for start in starts)
    return f"pg_catalog.concat({', '.join(pieces)})"


def _headers(relation: Relation, snapshot_mark: int | None) -> str:
    headers: dict[str, object] = {"operation": "insert", "relation": [relation.schema, relation.name]}
    if snapshot_mark is not None:
        headers["snapshot_mark"] = snapshot_mark
    return orjson.dumps(headers).decode()


def _json(text: str) -> str:
    return orjson.dumps(text).decode()
