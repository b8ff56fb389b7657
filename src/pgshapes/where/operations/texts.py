"""Functions of text other than patterns."""

from __future__ import annotations

from collections.abc import Iterator

from pgshapes.where.operations.operation import Operation, calls, inline
from pgshapes.where.operations.patterns import like, not_like


def text_operations() -> Iterator[tuple[str, Operation]]:
    """All text functions by name."""
    yield "textcat", inline("({0} + {1})")
    for stem in ("text", "name", "bpchar"):
        yield f"{stem}like", Operation(call=like, can_raise=True, collation="equal")
        yield f"{stem}nlike", Operation(call=not_like, can_raise=True, collation="equal")
        yield f"{stem}iclike", Operation(call=like, can_raise=True, collation="case")
        yield f"{stem}icnlike", Operation(call=not_like, can_raise=True, collation="case")
    for name, operation in (("like", like), ("notlike", not_like)):
        for first in (25, 19):
            yield f"{name}({first},25)", Operation(call=operation, can_raise=True, collation="equal")
    yield "lower(25)", Operation(call=str.lower, collation="case")
    yield "upper(25)", Operation(call=str.upper, collation="case")
    for name in ("length", "char_length", "character_length"):
        yield f"{name}(25)", inline("len({0})")
    yield "starts_with(25,25)", calls(str.startswith, collation="equal")
    yield "concat", Operation(call=concat)


def concat(*parts: str | None) -> str:
    """All parts that are not NULL, joined."""
    return "".join(part for part in parts if part is not None)
