"""What a caller can ask of the owner. Everything else it reads from the tables."""

from __future__ import annotations

import msgspec

from pgshapes.model.shape import RawShape, ResolvedShape


class ResolveShape(msgspec.Struct, tag="resolve_shape", frozen=True):
    """Check a definition against the catalogue. Answer: `ResolvedShape`."""

    raw: RawShape


class CreateOrWaitShapeHandle(msgspec.Struct, tag="create_or_wait_shape_handle", frozen=True):
    """Create the shape, or attach to the creation that is under way. Answer: the handle."""

    shape: ResolvedShape


class DeleteShape(msgspec.Struct, tag="delete_shape", frozen=True):
    """Remove a shape. Answer: whether it existed."""

    handle: str


Call = ResolveShape | CreateOrWaitShapeHandle | DeleteShape
Reply = ResolvedShape | str | bool | None
