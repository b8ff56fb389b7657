"""Writes the messages of one change for each shape alone, after something was raised for all of them. Pure.

Slow: `relation_shapes` does it only for a change that failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pgshapes.model.change import Row
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.projection import Origin, Projection, RenderedMessage
from pgshapes.routing.routed_shape import Collected, RoutedShape

Verdicts = dict[RoutedShape, bool | Exception]
"""Whether a row matches, by shape, or what that raised."""

_Messages = tuple[RenderedMessage, ...]
_Kind = tuple[Projection, bool, bool]
"""What shapes have the same messages of a change: whether they have had the row, and have it now."""


class Judged(NamedTuple):
    """The rows of one change and which shapes they match. A missing row has no verdicts."""

    old: Row | None
    new: Row | None
    before: Verdicts
    after: Verdicts


def write_each(judged: Judged, op: int, origin: Origin, into: Collected) -> list[ShapeFailure]:
    """Append the messages for a change to those of each shape. Returns the failures, one for each error."""
    rendered: dict[_Kind, _Messages] = {}
    failed: dict[object, tuple[Exception, list[RoutedShape]]] = {}
    for shape in judged.after or judged.before:
        error = _error(judged, shape)
        kind = (shape.projection, bool(judged.before.get(shape)), bool(judged.after.get(shape)))
        if error is None:
            try:
                if kind not in rendered:
                    rendered[kind] = _render(judged, *kind, op, origin)
                if rendered[kind]:
                    into.setdefault(shape, []).extend(rendered[kind])
            except Exception as raised:
                failed.setdefault(kind, (raised, []))[1].append(shape)
        else:
            failed.setdefault(id(error), (error, []))[1].append(shape)
    return list(_failures(judged, failed.values()))


def _error(judged: Judged, shape: RoutedShape) -> Exception | None:
    verdicts = (judged.before.get(shape), judged.after.get(shape))
    return next((verdict for verdict in verdicts if isinstance(verdict, Exception)), None)


def _render(
    judged: Judged, projection: Projection, was_in: bool, is_in: bool, op: int, origin: Origin
) -> _Messages:
    old, new = judged.old if was_in else None, judged.new if is_in else None
    if old is not None and new is not None:
        return projection.update(origin, op, old, new)
    if old is not None:
        return projection.delete(origin, op, old)
    return () if new is None else projection.insert(origin, op, new)


def _failures(
    judged: Judged, failed: Iterable[tuple[Exception, list[RoutedShape]]]
) -> Iterator[ShapeFailure]:
    row = judged.old if judged.new is None else judged.new
    for error, shapes in failed:
        yield ShapeFailure(tuple(shapes), error, key_of(shapes[0], row))


def key_of(shape: RoutedShape, row: Row | None) -> str | None:
    """The key of a row, None if it cannot be read: it may be the cause of the failure."""
    try:
        return None if row is None else shape.projection.row_key(row)
    except Exception:
        return None
