"""A call that has to wait for a session is handed to the owner that is there afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import NotReady
from pgshapes.gates.conditions import Condition, Conditions
from pgshapes.model.shape import RawShape
from pgshapes.owner import current_owner
from pgshapes.owner.current_owner import CurrentOwner
from pgshapes.tables.calls import Call, CreateOrWaitShapeHandle, DeleteShape, ResolveShape
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.tables import Tables

CHECK = ResolveShape(RawShape("public", "items"))
WAITING: list[Call] = [CreateOrWaitShapeHandle(shape_of()), DeleteShape("h")]


class AnOwner:
    """It answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def handle(self, call: Call, context: CallContext) -> str:
        return self.name


class Scene:
    """A handler, its owner, and whether there is a session."""

    def __init__(self) -> None:
        tables = Tables()
        self.conditions = Conditions(tables.status)
        self.owner: Any = AnOwner("first")
        self._handler = CurrentOwner(tables, lambda: self.owner)

    def begin_session(self) -> None:
        for condition in Condition:
            self.conditions.meet(condition)

    def ask(self, call: Call) -> asyncio.Future[object]:
        context = CallContext(time.monotonic() + 60)
        return asyncio.ensure_future(self._handler.handle(call, context))


@pytest.mark.parametrize("call", [*WAITING, CHECK], ids=lambda call: type(call).__name__)
async def test_without_an_owner_calls_wait_for_one(call: Call) -> None:
    scene = Scene()
    scene.owner = None
    scene.begin_session()
    waiting = scene.ask(call)
    await asyncio.sleep(0)
    scene.owner = AnOwner("second")
    async with asyncio.timeout(10):
        assert await waiting == "second"


@pytest.mark.parametrize("call", WAITING, ids=lambda call: type(call).__name__)
async def test_a_call_that_waited_gets_the_owner_that_is_there_then(call: Call) -> None:
    scene = Scene()
    waiting = scene.ask(call)
    await asyncio.sleep(0)
    scene.owner = AnOwner("second")
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.begin_session()
    async with asyncio.timeout(10):
        assert await waiting == "second"


@pytest.mark.parametrize("call", WAITING, ids=lambda call: type(call).__name__)
async def test_a_call_is_refused_if_no_owner_comes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_owner, "READY_TIMEOUT_S", 0.05)
    scene = Scene()
    waiting = scene.ask(call)
    await asyncio.sleep(0)
    scene.owner = None
    scene.begin_session()
    with pytest.raises(NotReady):
        async with asyncio.timeout(10):
            await waiting


async def test_a_definition_is_checked_without_a_session() -> None:
    assert await Scene().ask(CHECK) == "first"
