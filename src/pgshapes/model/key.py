"""The key of a row, as snapshot, subset and log all write it (docs/protocol.md). Pure.

`"schema"."table"/"v1"/"v2"…`: names with `"` doubled, values with `/` doubled, NULL (only without a primary
key) a bare `_`. Invariant: what this module makes of a row's texts is byte for byte what `postgres.rendering`
makes Postgres write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from pgshapes.model.quoting import qualified_name

NULL_VALUE: Final = "_"


def key_prefix(schema: str, table: str) -> str:
    """What the keys of all rows of a table begin with. Partitioned tables: the root's name."""
    return qualified_name(schema, table)


def row_key(prefix: str, values: Iterable[str | None]) -> str:
    """The key of the row whose key columns have these texts, in key order."""
    parts = [prefix]
    parts += [NULL_VALUE if value is None else f'"{value.replace("/", "//")}"' for value in values]
    return "/".join(parts)


def json_text(text: str) -> bytes:
    """A JSON string with the same escapes as Postgres's `to_json(text)`."""
    return orjson.dumps(text)
