"""What was raised while a change was processed for some shapes. Pure.

Whatever is raised for one shape or one relation ends only that: the shape has missed a change, so it cannot
continue, and others are not affected. The router ends such shapes and lists the failures; `owner` logs them
and refuses the definitions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgshapes.model.change import Row
from pgshapes.routing.routed_shape import Collected, RoutedShape

Evaluate = Callable[[Callable[[Row], bool], Row], bool]
"""Evaluates a predicate for a row, again after it raised RecursionError, where there is room for it."""


@dataclass(slots=True, frozen=True)
class ShapeFailure:
    """One error, and the shapes that end by it."""

    shapes: tuple[RoutedShape, ...]
    error: Exception
    key: str | None = None
    """The key of the row; None if it is about no row, or has no key that can be read."""

    @property
    def handles(self) -> tuple[str, ...]:
        """The handles of the shapes."""
        return tuple(shape.handle for shape in self.shapes)


class UnknownLayout(Exception):
    """The columns of a relation are not known, as its last RELATION message could not be processed."""


def withdraw(collected: Collected, op: int) -> None:
    """Remove the messages of the change `op`, the latest, of which some shapes may have theirs already."""
    for shape, messages in list(collected.items()):
        while messages and messages[-1].offset.op >= op:
            messages.pop()
        if not messages:
            del collected[shape]
