"""The calls from callers to the owner. Everything else callers read from the tables."""

from __future__ import annotations

import msgspec

from pgshapes.model.shape import RawShape, ResolvedShape


class ResolveShape(msgspec.Struct, tag="resolve_shape", frozen=True):
    """Check a definition against the system catalogs. Answer: `ResolvedShape`."""

    raw: RawShape


class CreateOrWaitShapeHandle(msgspec.Struct, tag="create_or_wait_shape_handle", frozen=True):
    """Create the shape, or wait for the creation that is in progress. Answer: the handle."""

    shape: ResolvedShape


class DeleteShape(msgspec.Struct, tag="delete_shape", frozen=True):
    """Remove a shape. Answer: whether it existed."""

    handle: str


class ListUnseen(msgspec.Struct, tag="list_unseen", frozen=True):
    """List the delivered transactions that a snapshot taken now may not see. Answer: `Unseen`."""


class Unseen(msgspec.Struct, tag="unseen", frozen=True):
    """Delivered transactions that no snapshot is known to see."""

    delivered_lsn: int
    """Every commit up to here has been delivered, or was visible before the owner began."""
    transactions: tuple[tuple[int, int], ...]
    """xid and commit LSN of each."""


class InvalidateRelation(msgspec.Struct, tag="invalidate_relation", frozen=True):
    """Remove a relation from `relations`, because the table has changed; it is looked up again when
    needed.
    """

    oid: int


class NoteUse(msgspec.Struct, tag="note_use", frozen=True):
    """Report the shapes that were read since the last call of this kind. Answer: None."""

    handles: tuple[str, ...]


Call = ResolveShape | CreateOrWaitShapeHandle | DeleteShape | ListUnseen | InvalidateRelation | NoteUse
Reply = ResolvedShape | Unseen | str | bool | None
