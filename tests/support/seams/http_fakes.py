"""In-memory implementations of the interfaces in `http_api/ports.py`, and an ASGI client without a network.

Nothing here imitates Postgres or the network.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pgshapes.errors import NotReady, PgShapesError, StorageError
from pgshapes.gates.admission import AdmissionControl
from pgshapes.gates.conditions import Level, ServiceStatus
from pgshapes.http_api.app import AsgiApp, make_app
from pgshapes.http_api.ports import Subsets
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.offset import Offset
from pgshapes.model.shape import RawShape, RelationVersion, ResolvedShape, ShapeDefinition, Subset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import ANY_SIZE, LogSlice
from pgshapes.waiting.notice import Notice

SCHEMA = b'{"id":{"type":"int4","pk_index":0,"not_null":true}}'
COMPLETE = Tail(snapshot_chunks=1, is_snapshot_complete=True)
CHUNK = b'[{"headers":{"control":"snapshot-end","xmin":"7","xmax":"7","xip_list":[]}}]'


def resolved(raw: RawShape) -> ResolvedShape:
    """A resolved definition, without a check against the system catalogs."""
    definition = ShapeDefinition(
        relation_oids=(1,),
        schema=raw.schema,
        table=raw.table,
        key_columns=("id",),
        columns=raw.columns or ("id",),
        where=raw.where,
        selects_all_columns=raw.columns is None,
        replica=raw.replica,
        log=raw.log,
    )
    versions = (RelationVersion(1, raw.schema, raw.table, 1),)
    return ResolvedShape(definition, repr(definition).encode(), versions, SCHEMA)


def message(offset: Offset, **value: str) -> bytes:
    """A change in the format of the log."""
    headers = {"operation": "insert", "lsn": str(offset.tx), "op_position": offset.op}
    return json.dumps({"key": "k", "value": value, "headers": headers}, separators=(",", ":")).encode()


@dataclass
class FakeShape:
    """One incarnation of a shape: its log, and the offsets at which chunks end."""

    comparable: bytes
    tail: Tail = COMPLETE
    chunks: list[bytes] = field(default_factory=lambda: [CHUNK])
    log: list[tuple[Offset, bytes]] = field(default_factory=list)
    bounds: list[Offset] = field(default_factory=list)
    is_retiring: bool = False
    is_damaged: bool = False
    failure: StorageError | None = None
    """Raised by reads."""


class FakeBackend:
    """Implements `Shapes`, `LogReader` and `Readiness` in memory."""

    def __init__(self) -> None:
        self.shapes: dict[str, FakeShape] = {}
        self.handles: dict[bytes, str] = {}
        self.hidden: set[str] = set()
        """Handles that the owner knows and this process does not know yet."""
        self.resolve_error: Exception | None = None
        self.create_error: Exception | None = None
        self.creating: asyncio.Event | None = None
        """If set, creations wait for this event."""
        self.resolving: asyncio.Event | None = None
        self.stream_is = ("", "")
        self.now = Level.ACTIVE
        self.ready: asyncio.Event | None = None
        """If set, requests that wait for readiness wait for this event."""
        self.lsn = 0
        self.calls: list[str] = []
        self.reads: list[str] = []
        self.parts: list[int] = []
        """Sizes of the parts that were read again."""
        self._notices: dict[str, Notice] = {}
        self._removals: dict[str, Notice] = {}

    # Methods for tests

    def add(self, raw: RawShape, handle: str, **fields: Any) -> FakeShape:
        shape = self.shapes[handle] = FakeShape(resolved(raw).comparable, **fields)
        self.handles[shape.comparable] = handle
        return shape

    def append(self, handle: str, tx: int, *ops: int, is_chunk_end: bool = False) -> None:
        shape = self.shapes[handle]
        shape.log += [(Offset(tx, op), message(Offset(tx, op), id=str(op))) for op in ops]
        latest = Offset(tx, ops[-1])
        if is_chunk_end:
            shape.bounds.append(latest)
        self.lsn = max(self.lsn, tx)
        self.set_tail(handle, shape.tail._replace(latest=latest, position=(len(shape.log),)))

    def set_tail(self, handle: str, tail: Tail) -> None:
        self.shapes[handle].tail = tail
        self.note(handle)

    def retire(self, handle: str) -> None:
        self.shapes[handle].is_retiring = True
        self.note(handle)

    def remove(self, handle: str) -> None:
        shape = self.shapes.pop(handle)
        if self.handles.get(shape.comparable) == handle:
            del self.handles[shape.comparable]
        self.note(handle)
        self._removals.pop(handle, Notice()).give()

    def note(self, handle: str) -> None:
        notice = self._notices.pop(handle, None)
        if notice is not None:
            notice.give()

    # Shapes

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        self.calls.append("resolve")
        if self.resolving is not None:
            await self.resolving.wait()
        if self.resolve_error is not None:
            raise self.resolve_error
        return resolved(raw)

    def find_handle(self, shape: ResolvedShape) -> str | None:
        handle = self.handles.get(shape.comparable)
        return handle if handle is not None and self.is_known(handle) else None

    async def get_or_create_shape_handle(
        self, shape: ResolvedShape, timeout_s: float = 30.0
    ) -> tuple[str, Tail]:
        self.calls.append("create")
        if self.creating is not None:
            await self.creating.wait()
        if self.create_error is not None:
            raise self.create_error
        handle = self.handles.get(shape.comparable)
        if handle is None:
            handle = f"{len(self.shapes) + 100}-new"
            self.shapes[handle] = FakeShape(shape.comparable)
            self.handles[shape.comparable] = handle
        return handle, self.shapes[handle].tail

    def is_known(self, handle: str) -> bool:
        shape = self.shapes.get(handle)
        return shape is not None and not shape.is_retiring and handle not in self.hidden

    async def is_in_use(self, handle: str) -> bool:
        self.calls.append("is_in_use")
        return self.is_known(handle)

    async def is_current(self, handle: str, shape: ResolvedShape) -> bool:
        self.calls.append("is_current")
        self.hidden.discard(handle)
        return self.is_known(handle) and self.shapes[handle].comparable == shape.comparable

    def tail(self, handle: str) -> Tail | None:
        return self.shapes[handle].tail if self.is_known(handle) else None

    def tail_changed(self, handle: str) -> Awaitable[None]:
        return self._notices.setdefault(handle, Notice())

    async def removed(self, handle: str) -> None:
        self.calls.append("removed")
        if handle in self.shapes:
            await self._removals.setdefault(handle, Notice())

    async def delete(self, handle: str) -> bool:
        self.calls.append("delete")
        if handle not in self.shapes:
            return False
        self.remove(handle)
        return True

    def last_seen_lsn(self) -> int:
        return self.lsn

    # LogReader

    async def snapshot_chunk_size(self, handle: str, number: int) -> int:
        return len(self._readable(handle).chunks[number])

    async def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        self.reads.append(f"{handle} chunk {number}")
        shape = self._readable(handle)
        return shape.chunks[number]

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        self.reads.append(f"{handle} log {after}")
        shape = self._readable(handle)
        bound = next((bound for bound in shape.bounds if bound > after), None)
        end = tail.latest if bound is None else min(bound, tail.latest)
        body = b",".join(text for offset, text in shape.log if after < offset <= end)
        position = sum(len(text) + 1 for offset, text in shape.log if offset <= after)
        kept = body if len(body) <= most else b""
        return LogSlice(kept, end, bound is not None, position, len(body))

    async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        self.parts.append(size)
        shape = self._readable(handle)
        whole = b",".join(text for _, text in shape.log) if chunk is None else shape.chunks[chunk]
        return whole[position : position + size]

    def _readable(self, handle: str) -> FakeShape:
        shape = self.shapes.get(handle)
        if shape is None or shape.is_damaged:
            raise StorageError("cannot be read")
        if shape.failure is not None:
            raise shape.failure
        return shape

    # Readiness

    def level(self) -> Level:
        return self.now

    def stream(self) -> tuple[str, str]:
        return self.stream_is

    def service_status(self) -> ServiceStatus:
        words = {Level.READ_ONLY: ServiceStatus.WAITING}
        return words.get(self.now) or ServiceStatus(self.now.value)

    async def wait_until(self, level: Level, timeout_s: float) -> None:
        if self.ready is not None:
            await self.ready.wait()
            self.now = Level.ACTIVE
        if self.now is not Level.ACTIVE and self.now is not level:
            raise NotReady("Timeout waiting for Postgres lock acquisition", retry_after_s=5)


@dataclass
class FakeSubsets:
    """Records the subsets that are requested, and answers with an empty result or with `error`."""

    error: PgShapesError | None = None
    asked: list[Subset] = field(default_factory=list)
    resumes: list[Offset] = field(default_factory=list)

    async def subset(self, raw: RawShape, shape: ResolvedShape, subset: Subset, resume: Offset) -> bytes:
        if self.error is not None:
            raise self.error
        self.asked.append(subset)
        self.resumes.append(resume)
        return b'{"metadata":{},"data":[]}'


@dataclass
class Answer:
    """A response, as far as it has been received."""

    status: int = 0
    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    is_whole: bool = False

    @property
    def headers(self) -> dict[str, str]:
        found = {name.decode(): value.decode("latin-1") for name, value in self.pairs}
        assert len(found) == len(self.pairs), f"a header twice: {self.pairs}"
        return found

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def controls(self) -> list[str]:
        return [item["headers"]["control"] for item in self.json if "control" in item["headers"]]


NOT_FOR_SCRIPTS = {"connection", "surrogate-control"}
ALWAYS_READABLE = {
    "cache-control",
    "content-language",
    "content-length",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
}
"""The CORS-safelisted response-header names of the Fetch Standard."""


def check_exposed(headers: dict[str, str]) -> None:
    """Check that scripts in browsers may read every header of a response with CORS headers."""
    exposed = headers.get("access-control-expose-headers")
    if exposed is not None:
        names = {name for name in headers if not name.startswith("access-control-")}
        hidden = names - ALWAYS_READABLE - NOT_FOR_SCRIPTS - set(exposed.split(","))
        assert hidden == set(), f"headers that scripts cannot read: {hidden}"


class Connection:
    """One request in flight."""

    def __init__(self, app: AsgiApp, scope: dict[str, Any], body: bytes, is_complete: bool) -> None:
        self.answer = Answer()
        self.body_came = asyncio.Event()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if scope["method"] == "POST":
            message = {"type": "http.request", "body": body, "more_body": not is_complete}
            self._inbox.put_nowait(message)
        self.task = asyncio.ensure_future(app(scope, self._inbox.get, self._send))

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.answer.status, "a response starts once"
            self.answer.status = message["status"]
            self.answer.pairs = message["headers"]
            check_exposed(self.answer.headers)
        else:
            assert self.answer.status and not self.answer.is_whole
            self.answer.body += message["body"]
            self.answer.is_whole = not message.get("more_body", False)
            self.body_came.set()

    def disconnect(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def whole(self) -> Answer:
        await asyncio.wait_for(self.task, 20)
        assert self.answer.is_whole
        return self.answer


class Client:
    """Sends ASGI requests to an application with fake parts."""

    def __init__(
        self,
        backend: FakeBackend,
        settings: HttpSettings | None = None,
        *,
        subsets: Subsets | None = None,
        initial: int = 300,
        existing: int = 10_000,
    ) -> None:
        self.backend = backend
        self.stopping = asyncio.Event()
        self.admission = AdmissionControl(initial_limit=initial, existing_limit=existing)
        self.app = make_app(
            backend,
            backend,
            backend,
            self.admission,
            settings or HttpSettings(),
            stopping=self.stopping,
            subsets=subsets,
        )

    def open(
        self,
        method: str,
        path: str,
        query: dict[str, str] | str = "",
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        root_path: str = "",
        is_complete: bool = True,
        address: str | None = None,
    ) -> Connection:
        text = query if isinstance(query, str) else "&".join(f"{k}={quote(v)}" for k, v in query.items())
        pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": root_path,
            "query_string": text.encode(),
            "headers": pairs,
            "client": None if address is None else (address, 1),
        }
        return Connection(self.app, scope, body, is_complete)

    async def ask(self, method: str, path: str, query: dict[str, str] | str = "", **more: Any) -> Answer:
        return await self.open(method, path, query, **more).whole()

    async def get(self, query: dict[str, str] | str, **more: Any) -> Answer:
        return await self.ask("GET", "/v1/shape", query, **more)

    def hold(self, query: dict[str, str] | str, **more: Any) -> Connection:
        return self.open("GET", "/v1/shape", query, **more)


async def turns(count: int = 10) -> None:
    """Run `count` turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


ITEMS = RawShape("public", "items")
