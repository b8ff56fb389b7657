"""Hostile texts as clauses, parameters, table and column names: none may change a statement or the Python
source.

`python -m tests.oracle.injection_fuzz --strings 100000` is a long run. For every text that is accepted,
Postgres's own grammar must parse our SQL as intended: one SELECT, one table of that name, as many columns as
were asked for, each value one literal, also where backslashes are escapes. The Python source must consist of
known names only.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import random
import re
import time
from collections import Counter
from functools import cache
from typing import Any

from tests.support.postgres.where_tables import column

from pgshapes.errors import RequestError
from pgshapes.model.relation import Relation
from pgshapes.where.clause import PreparedClause, clause_from_sql, prepare_clause
from pgshapes.where.language.grammar import _library, parse_clause, parse_statements

_PIECES = [
    *(
        "'",
        "''",
        '"',
        '""',
        "\\",
        "\\'",
        "\\\\",
        "E'",
        "$$",
        "$a$",
        "$1",
        "--",
        "/*",
        "*/",
        ";",
        "\n",
        "\t",
        "\r",
        "\0",
    ),
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "::",
        "::text",
        "=",
        " = ",
        " OR ",
        " AND ",
        "1=1",
        "1",
        "t",
        "a",
        "x",
        " ",
    ),
    *(
        "DROP TABLE t",
        "SELECT",
        "UNION SELECT",
        "pg_sleep(9)",
        "; --",
        "') --",
        '") --',
        "U&'\\0027'",
        "B'1'",
        "\u2019",
    ),
    *(
        "é",
        "🙂",
        "\ud800",
        "\u0000",
        "\uff07",
        "%",
        "_",
        "k0",
        "r[0]",
        "__import__('os')",
        "lambda",
        "{0}",
        "%s",
        "{",
        "}}",
    ),
    *(
        "NULL",
        "true",
        "IS NULL",
        "LIKE",
        "ILIKE",
        "IN (",
        "ANY (",
        "ARRAY[",
        "'{",
        "}'",
        "'a'",
        "a = 'x'",
        "n = 1",
    ),
]
_SOURCE_TEXTS = {"t", "f", "true", "false", " ", "-", "C"}
_SOURCE_NAMES = re.compile(
    r"k\d+|t\d+|r|a|b|matches|factory|int|float|len|Decimal|timestamp_of_date|array_order|RowError"
)
_ATTRIBUTES = {
    "lower",
    "startswith",
    "endswith",
    "rstrip",
    "lstrip",
    "strip",
    "items",
    "sizes",
    "find",
}


_DISABLE_STANDARD_CONFORMING_STRINGS = 32
"""`PG_QUERY_DISABLE_STANDARD_CONFORMING_STRINGS` of libpg_query."""


def parse_without_standard_strings(sql: str, *, standard: bool = False) -> bytes:
    """The tree of a text as a server with `standard_conforming_strings = off` reads it, or else with `on`."""
    library = _library()
    library.pg_query_parse_opts.argtypes = [ctypes.c_char_p, ctypes.c_int]
    library.pg_query_parse_opts.restype = library.pg_query_parse.restype
    options = 0 if standard else _DISABLE_STANDARD_CONFORMING_STRINGS
    result = library.pg_query_parse_opts(sql.encode(), options)
    try:
        if result.error:
            raise Broken(f"no statement: {sql!r}")
        return bytes(result.parse_tree)
    finally:
        library.pg_query_free_parse_result(result)


class Broken(AssertionError):
    """A text changed a statement or source."""


def hostile(pick: random.Random) -> str:
    """A text made of pieces that are known from injection attacks."""
    return "".join(pick.choice(_PIECES) for _ in range(pick.randint(1, 9)))


def relation(table: str, name: str) -> Relation:
    """A table with hostile names."""
    columns = (column(name, "text"), column("a", "text"), column("n", "int4"), column("ta", "_text"))
    return Relation(1, table, table, "r", columns, (), 1, database_collation="C")


def _literal(text: str) -> str:
    """The text as a client might quote it, whatever is in it."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


def templates(text: str, name: str) -> list[tuple[str, dict[str, str]]]:
    """The ways a text gets in: the clause, a literal, a parameter, the name of a column."""
    literal = "'" + text.replace("'", "''") + "'"
    quoted = '"' + name.replace('"', '""') + '"'
    return [
        (text, {}),
        (f"a = {literal}", {}),
        ("a = $1 OR n::text LIKE $1 OR $1 = ANY (ta)", {"1": text}),
        ("a ILIKE $1 AND a IN ($1, $2)", {"1": text, "2": text[::-1]}),
        (f"{quoted} = {_literal(text)} AND ta @> ARRAY[$1]", {"1": text}),
    ]


def check_text(pick: random.Random, outcomes: Counter[str]) -> None:
    """Check one text in two of these ways. Raises Broken."""
    text, table = hostile(pick), hostile(pick)
    safe = "".join(mark for mark in table if mark != "\0" and not 0xD800 <= ord(mark) < 0xE000) or "x"
    over = relation(safe, safe[::-1])
    for clause, params in pick.sample(templates(text, over.columns[0].name), 2):
        try:
            prepared = prepare_clause(clause, params, over)
        except RequestError:
            outcomes["refused"] += 1
            continue
        outcomes["taken"] += 1
        check_taken(prepared, over, params)


def check_taken(prepared: PreparedClause, over: Relation, params: dict[str, str]) -> None:
    """Check a clause that was accepted. Raises Broken."""
    sql = prepared.authority_sql
    _check_statement(sql, over, len(prepared._described))
    if parse_without_standard_strings(sql) != parse_without_standard_strings(sql, standard=True):
        raise Broken(f"another meaning where backslashes escape: {sql!r}")
    clause = prepared._clause
    again = clause_from_sql(clause.sql, over)
    alone = _without_places(parse_clause(clause.sql))
    equal = _without_places(parse_clause(f"{clause.sql} = {clause.sql}"))["A_Expr"]
    tested = _without_places(parse_clause(f"NOT {clause.sql} IS NULL"))["BoolExpr"]["args"][0]["NullTest"]
    if [equal["lexpr"], equal["rexpr"], tested["arg"]] != [alone] * 3:
        raise Broken(f"not closed in itself: {clause.sql!r}")
    literals = set(_literals(parse_clause(clause.sql)))
    for value in params.values():
        if not any(value in literal for literal in literals) and _is_plain(value):
            raise Broken(f"a value is lost: {value!r} in {clause.sql!r}")
    _check_source(clause.compile(over).source)
    if again.compile(over).source != clause.compile(over).source:
        raise Broken(f"read back differently: {clause.sql!r}")


def _without_places(node: Any) -> Any:
    """The tree without byte positions."""
    if isinstance(node, dict):
        places = ("location", "rexpr_list_start", "rexpr_list_end", "list_start", "list_end")
        return {key: _without_places(value) for key, value in node.items() if key not in places}
    return [_without_places(one) for one in node] if isinstance(node, list) else node


def _is_plain(value: str) -> bool:
    """Whether the value stands as it is in the SQL (in an array's text it is quoted once more)."""
    return not set(value) & set('"\\')


def _check_statement(sql: str, over: Relation, expected: int) -> None:
    statements = parse_statements(sql.encode())
    if len(statements) != 1:
        raise Broken(f"{len(statements)} statements: {sql!r}")
    select = statements[0]["stmt"].get("SelectStmt", {})
    if set(select) != {"targetList", "fromClause", "limitOption", "op"} or select["op"] != "SETOP_NONE":
        raise Broken(f"another statement: {sql!r}")
    if len(select["targetList"]) != expected:
        raise Broken(f"{len(select['targetList'])} columns: {sql!r}")
    (table,) = select["fromClause"]
    shown = table["RangeVar"]
    if shown["schemaname"] != over.schema[:63] and len(over.schema.encode()) < 64:
        raise Broken(f"another table: {sql!r}")


def _literals(node: Any) -> list[str]:
    found, pending = [], [node]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            if "sval" in part and isinstance(part["sval"], str):
                found.append(part["sval"])
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return found


@cache
def _check_source(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and not _SOURCE_NAMES.fullmatch(node.id):
            raise Broken(f"a name that is not ours: {node.id!r}")
        if isinstance(node, ast.Attribute) and node.attr not in _ATTRIBUTES:
            raise Broken(f"an attribute that is not ours: {node.attr!r}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in _SOURCE_TEXTS:
            raise Broken(f"a text in the source: {node.value!r}")
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Await | ast.Yield | ast.ClassDef):
            raise Broken(f"a statement that is not ours: {type(node).__name__}")


def run(strings: int, seed: int) -> Counter[str]:
    """Check `strings` texts. Raises Broken."""
    pick = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(strings):
        check_text(pick, outcomes)
    return outcomes


def main() -> None:
    """Run with the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    started = time.monotonic()
    outcomes = run(chosen.strings, chosen.seed)
    print(f"{chosen.strings} strings, {dict(outcomes)}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
