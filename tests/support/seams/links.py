"""Helpers for tests of links: a scripted handler, and owners with a caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pgshapes.tables.calls import Call, DeleteShape, Reply
from pgshapes.tables.link import InProcessLink, OwnerLink
from pgshapes.tables.mailbox import CallContext, Mailbox
from pgshapes.tables.tables import Tables
from pgshapes.tables.unix_link import UnixSocketLink, UnixSocketOwner

Act = Callable[[CallContext], Awaitable[Reply]]


@dataclass
class Script:
    """A handler that runs a registered function for each handle to delete."""

    acts: dict[str, Act] = field(default_factory=dict)
    received: list[Call] = field(default_factory=list)
    contexts: list[CallContext] = field(default_factory=list)

    def __call__(self, call: Call, context: CallContext) -> Awaitable[Reply]:
        assert isinstance(call, DeleteShape)
        self.received.append(call)
        self.contexts.append(context)
        return self.acts[call.handle](context)

    def on(self, handle: str) -> Callable[[Act], Act]:
        """Register the function for `DeleteShape(handle)`."""

        def register(act: Act) -> Act:
            self.acts[handle] = act
            return act

        return register


@dataclass
class Pair:
    """An owner and one caller."""

    tables: Tables
    link: OwnerLink
    script: Script
    mailbox: Mailbox
    owner: UnixSocketOwner | None = None

    @property
    def unix_link(self) -> UnixSocketLink:
        """The caller's link, which must be one between processes."""
        assert isinstance(self.link, UnixSocketLink)
        return self.link

    async def delete(self, handle: str, timeout_s: float = 10.0) -> Reply:
        """Make the call that the script has registered for `handle`."""
        return await self.link.call(DeleteShape(handle), timeout_s=timeout_s)


@asynccontextmanager
async def open_pair(
    kind: str, path: Path, script: Script, *, has_notices: bool = True
) -> AsyncIterator[Pair]:
    """An owner and a caller that is connected to it, over the named kind of link."""
    tables = Tables(has_notices=has_notices)
    if kind == "in_process":
        inner = InProcessLink(tables, script)
        try:
            yield Pair(tables, inner, script, inner.mailbox)
        finally:
            await inner.close()
        return
    async with (
        listening(path, tables, script) as owner,
        connecting(path, has_notices=has_notices) as link,
    ):
        await link.connected()
        yield Pair(tables, link, script, owner.mailbox, owner)


@asynccontextmanager
async def listening(path: Path, tables: Tables, script: Script) -> AsyncIterator[UnixSocketOwner]:
    """An owner that listens."""
    owner = UnixSocketOwner(path, tables, script)
    await owner.start()
    try:
        yield owner
    finally:
        await owner.close()


@asynccontextmanager
async def connecting(path: Path, *, has_notices: bool = True) -> AsyncIterator[UnixSocketLink]:
    """A caller that keeps trying to connect."""
    link = UnixSocketLink(path, has_notices=has_notices)
    link.start()
    try:
        yield link
    finally:
        await link.close()


async def turns(count: int = 5) -> None:
    """Let the loop turn a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(check: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until `check()` is true."""
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.002)
