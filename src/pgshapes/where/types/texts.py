"""Functions of text and bytea other than patterns (manual: String Functions and Operators)."""

from __future__ import annotations

from collections.abc import Iterator

from pgshapes.where.types.operation import Operation, calls, inline, raises
from pgshapes.where.types.patterns import escaped_pattern, like, not_like


def text_operations() -> Iterator[tuple[str, Operation]]:
    """All text functions by name. What folds case is carried out by the collation (`folding.py`)."""
    yield "textcat", inline("({0} + {1})")
    yield "byteacat", inline("({0} + {1}[2:])")
    yield from _matches()
    yield "lower(25)", calls(str.lower, collation="case")
    yield "upper(25)", calls(str.upper, collation="case")
    for name in ("length", "char_length", "character_length"):
        yield f"{name}(25)", inline("len({0})")
        yield f"{name}(1042)", inline('len({0}.rstrip(" "))')
    yield "length(17)", inline("(len({0}) // 2 - 1)")
    for name, method in (("btrim", "strip"), ("ltrim", "lstrip"), ("rtrim", "rstrip")):
        yield f"{name}(25)", inline(f'{{0}}.{method}(" ")')
        yield f"{name}(25,25)", inline(f"({{0}}.{method}({{1}}) if {{1}} else {{0}})", collation="equal")
    for name in ("strpos", "position"):
        yield f"{name}(25,25)", inline("({0}.find({1}) + 1)", collation="equal")
    yield "starts_with(25,25)", inline("{0}.startswith({1})", collation="equal")
    yield "concat", calls(concat)


def _matches() -> Iterator[tuple[str, Operation]]:
    for stem in ("text", "name", "bpchar"):
        for word, need in (("", "equal"), ("ic", "case")):
            yield f"{stem}{word}like", Operation(call=like, can_raise=True, collation=need)
            yield f"{stem}{word}nlike", Operation(call=not_like, can_raise=True, collation=need)
    for name, operation in (("like", like), ("notlike", not_like)):
        for first in (25, 19):
            yield f"{name}({first},25)", Operation(call=operation, can_raise=True, collation="equal")
    yield "like_escape(25,25)", raises(escaped_pattern)


def concat(*parts: str | None) -> str:
    """All parts that are not NULL, joined."""
    return "".join(part for part in parts if part is not None)
