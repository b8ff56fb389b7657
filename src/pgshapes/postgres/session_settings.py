"""The settings of our sessions and transactions: the text of values, the meaning of our SQL, timeouts. Pure.

Not here: who applies them. A connection of its own gets them with SET when it is opened, one that may go
through a transaction pooler with SET LOCAL in each transaction (`connection`, `snapshot`). Invariant: the log
and every snapshot are read with the same VALUE_SETTINGS, whatever ALTER SYSTEM, DATABASE or ROLE say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Setting = tuple[str, str]
"""The name of a setting, and its value; the items of a list are separated by a comma and a blank."""

SEARCH_PATH: Final = "pg_catalog, pg_temp"

VALUE_SETTINGS: Final[tuple[Setting, ...]] = (
    # First: names and operators of the statements that follow, and of clauses, are those of pg_catalog. Only
    # with this path does the text of regclass, regproc, regtype, regoper, regcollation, regconfig and their
    # like depend on the object alone: it has a schema unless that is pg_catalog. `pg_temp` is listed because
    # it would be searched first otherwise, and a pooled session may have temporary tables of the application.
    ("search_path", SEARCH_PATH),
    ("client_encoding", "UTF8"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, DMY"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("IntervalStyle", "iso_8601"),
    # Currency sign, separators and digits of money. Every server has the locale C.
    ("lc_monetary", "C"),
    # Quotes in the text of regclass and its like.
    ("quote_all_identifiers", "off"),
    # Not a text: with `on`, `column = NULL` selects rows in a snapshot which the stream's clause does not.
    ("transform_null_equals", "off"),
)
"""What decides the text of a value (docs/semantics.md) or what a rebuilt clause means.

Settings that do not, and why: `xmloption`, `xmlbinary`, `array_nulls`, `timezone_abbreviations` and
`backslash_quote` act on input only; `lc_numeric` and `lc_time` on to_char(), `default_text_search_config` on
text search functions, neither of which we call; `standard_conforming_strings` not on literals of
`quote_literal`; planner settings on no result. No extension of the Postgres distribution, PostGIS or pgvector
has a setting that its output functions read.
"""

_LONG_LIFE: Final[tuple[Setting, ...]] = (
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("synchronous_commit", "local"),
    # Queries of the system catalogs have many expressions and read few rows; compiling them takes seconds.
    ("jit", "off"),
)
_LONG_LIFE_SINCE_17: Final[tuple[Setting, ...]] = (("transaction_timeout", "0"),)


def long_life_settings(server_version: int) -> tuple[Setting, ...]:
    """Overrides timeouts of the role or the database, which would end connections that wait on purpose.

    With `synchronous_commit = local`, commits that alter the publication or a replica identity do not wait
    for a standby while they hold locks. If a standby without such a commit is promoted, the timeline changes
    and all shapes are recreated.
    """
    return _LONG_LIFE + (_LONG_LIFE_SINCE_17 if server_version >= 170000 else ())


def settings_sql(settings: Iterable[Setting], *, local: bool = False) -> str:
    """SET statements; with `local` for the current transaction only, which a transaction pooler allows."""
    verb = "SET LOCAL" if local else "SET"
    return "; ".join(f"{verb} {name} = {_items(value)}" for name, value in settings)


def _items(value: str) -> str:
    return ", ".join(f"'{item}'" for item in value.split(", "))
