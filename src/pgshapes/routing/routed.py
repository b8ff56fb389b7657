"""What routing returns: the entries to append to the logs, and the shapes to remove. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgshapes.model.change import Fragment
from pgshapes.routing.failures import ShapeFailure
from pgshapes.routing.routed_shape import RoutedShape
from pgshapes.shape_log.store import Entry


@dataclass(slots=True)
class Append:
    """Entries to append to one shape's log."""

    handle: str
    entries: list[Entry]
    ends_transaction: bool
    shape: RoutedShape


@dataclass(slots=True)
class Routed:
    """What to do with the shapes after a fragment or a release."""

    appends: list[Append] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Handles of the shapes to remove."""
    reason: str = "truncated"
    """Why they are removed."""
    outdated: list[str] = field(default_factory=list)
    """Handles of the shapes to remove because a change has texts of older types than their rows."""
    failures: list[ShapeFailure] = field(default_factory=list)
    """The shapes that end because something was raised for them."""
    rest: Fragment | None = None
    """What is left of the fragment when the step was over; to be routed next."""
