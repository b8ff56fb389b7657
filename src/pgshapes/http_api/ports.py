"""What the HTTP API needs of the rest of the program. `wiring.py` plugs the real parts in."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from pgshapes.gates.admission import Kind
from pgshapes.gates.conditions import Level, ServiceStatus
from pgshapes.model.offset import Offset
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.model.subset import Subset
from pgshapes.model.tail import Tail


class Shapes(Protocol):
    """Shapes as a caller sees them; reads are plain table reads, calls go to the owner."""

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        """Check a definition. Raises RequestError, NotNow, SourceError, SchemaChanged."""

    def find_handle(self, shape: ResolvedShape) -> str | None:
        """The live, activated handle of a definition as far as this process knows."""

    async def get_or_create_shape_handle(self, shape: ResolvedShape, timeout_s: float) -> tuple[str, Tail]:
        """The handle of a definition, creating the shape if need be. Raises CreationFailed, NotNow,
        SchemaChanged."""

    def is_known(self, handle: str) -> bool:
        """Whether this process's tables have the handle (and it is not retiring); for admission."""

    async def is_current(self, handle: str, shape: ResolvedShape) -> bool:
        """Whether `handle` lives and stands for this very definition; the owner is asked before the answer is
        no."""

    def tail(self, handle: str) -> Tail | None:
        """The readable end of a log, None when the shape is gone or retiring."""

    def tail_changed(self, handle: str) -> Awaitable[None]:
        """Done at the next change of the tail, or when the shape goes."""

    async def removed(self, handle: str) -> None:
        """Wait until a retiring shape is gone everywhere, so that a 409 may be sent."""

    async def delete(self, handle: str) -> bool:
        """Remove a shape; False when there is none."""

    def last_seen_lsn(self) -> int:
        """Commit LSN of the last transaction that the owner has made readable."""


class Subsets(Protocol):
    """One-off queries on a part of a shape."""

    async def subset(self, raw: RawShape, shape: ResolvedShape, subset: Subset, resume: Offset) -> bytes:
        """The response body `{"metadata": …, "data": […]}`.

        `raw` tells the queryable columns. The snapshot sees all of the log up to `resume`. Raises
        RequestError with its errors under `subset`, SchemaChanged, NotNow, SourceError.
        """


class Readiness(Protocol):
    """Whether the service can do what a request needs."""

    def level(self) -> Level:
        """How much can be done now."""

    def service_status(self) -> ServiceStatus:
        """The word for `/v1/health`."""

    async def wait_until(self, level: Level, timeout_s: float) -> None:
        """Return once `level` is reached. Raises NotReady with the first unmet condition."""


class Permit(Protocol):
    """A slot for one request in flight; whoever has it gives it back."""

    def swap_to_existing(self) -> bool:
        """Turn an *initial* permit into an *existing* one, if there is one; False keeps the old kind."""

    def release(self) -> None:
        """Give it back; a second time does nothing."""


class Admission(Protocol):
    """Bounds how many requests are in flight."""

    def acquire(self, kind: Kind) -> Permit:
        """A permit. Raises Overloaded at once when the limit is reached."""
