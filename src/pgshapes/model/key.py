"""The key of a row, the same in snapshots, subsets and the log (docs/protocol.md). Pure.

`"schema"."table"/"v1"/"v2"…`: names with `"` doubled, values with `/` doubled, NULL (only without a primary
key) a bare `_`. Invariant: keys made here are byte-identical to those that Postgres makes with the SQL of
`postgres.rendering`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from pgshapes.model.quoting import qualified_name

NULL_VALUE: Final = "_"


def key_prefix(schema: str, table: str) -> str:
    """The common prefix of the keys of a table's rows. For a partitioned table: the root's name."""
    return qualified_name(schema, table)


def row_key(prefix: str, values: Iterable[str | None]) -> str:
    """The key of the row whose key columns have these texts, in key order."""
    parts = [prefix]
    parts += [NULL_VALUE if value is None else f'"{value.replace("/", "//")}"' for value in values]
    return "/".join(parts)


def json_text(text: str) -> bytes:
    """A JSON string with the same escapes as Postgres's `to_json(text)`."""
    return orjson.dumps(text)
