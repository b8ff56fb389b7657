"""`pgshapes.asgi.create_app`: the whole server as an application that another process runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from tests.support.servers.ports import free_port

from pgshapes.asgi import create_app
from pgshapes.config import Settings
from pgshapes.errors import ConfigError
from pgshapes.model.shape import RawShape
from pgshapes.server.application import Application

ITEMS = {"table": "items", "offset": "-1"}


@pytest.fixture
def settings(database_url: str, sql: psycopg.Connection, tmp_path: Path) -> Settings:
    sql.execute("CREATE TABLE items (id int PRIMARY KEY, owner text)")
    sql.execute("INSERT INTO items VALUES (1, 'ann'), (2, 'bob')")
    return Settings(database_url=database_url, storage_dir=tmp_path / "shapes", insecure=True)


@asynccontextmanager
async def client_of(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that is open, once it is ready."""
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
    ):
        while (await client.get("/v1/health")).status_code != 200:
            await asyncio.sleep(0.01)
        yield client


def ids(answer: httpx.Response) -> list[str]:
    return [message["value"]["id"] for message in answer.json() if "value" in message]


async def next_page(client: httpx.AsyncClient, seen: httpx.Response, **more: str) -> httpx.Response:
    place = {name: seen.headers[f"electric-{name}"] for name in ("handle", "offset")}
    return await client.get("/v1/shape", params={**ITEMS, **place, **more})


async def test_it_serves_rows_and_changes_in_this_loop(settings: Settings, sql: psycopg.Connection) -> None:
    async with client_of(create_app(settings)) as client:
        first = await client.get("/v1/shape", params=ITEMS)
        assert ids(first) == ["1", "2"]
        at_end = await next_page(client, first)
        live = asyncio.create_task(next_page(client, at_end, live="true"))
        await asyncio.to_thread(sql.execute, "INSERT INTO items VALUES (3, 'cal')")
        assert ids(await live) == ["3"]


async def test_handles_stay_valid_when_it_is_opened_again(settings: Settings) -> None:
    app = create_app(settings)
    async with client_of(app) as client:
        first = await client.get("/v1/shape", params=ITEMS)
    async with client_of(app) as client:
        again = await next_page(client, first)
    assert again.status_code == 200
    assert again.headers["electric-handle"] == first.headers["electric-handle"]


async def test_the_authorize_function_decides(settings: Settings) -> None:
    asked: list[tuple[str, RawShape | None]] = []

    async def authorize(scope: MutableMapping[str, Any], shape: RawShape | None) -> bool:
        user = dict(scope["headers"]).get(b"x-user", b"").decode()
        asked.append((user, shape))
        return shape is not None and shape.params == (("1", user),)

    own = {**ITEMS, "where": "owner = $1", "params[1]": "ann"}
    async with client_of(create_app(settings, authorize=authorize)) as client:
        allowed = await client.get("/v1/shape", params=own, headers={"x-user": "ann"})
        others = await client.get("/v1/shape", params=own, headers={"x-user": "bob"})
        all_rows = await client.get("/v1/shape", params=ITEMS, headers={"x-user": "ann"})
        deleting = await client.delete("/v1/shape", params={"handle": "1"}, headers={"x-user": "ann"})
    assert ids(allowed) == ["1"]
    assert allowed.headers["cache-control"] == "no-cache"
    assert [answer.status_code for answer in (others, all_rows)] == [403, 403]
    assert others.json() == {"message": "Not authorized for this shape"}
    assert others.headers["cache-control"] in ("no-store", "no-cache")
    assert deleting.status_code == 405
    assert [user for user, _ in asked] == ["ann", "bob", "ann"]


async def test_the_secret_is_not_required_with_an_authorize_function(settings: Settings) -> None:
    async def everyone(scope: MutableMapping[str, Any], shape: RawShape | None) -> bool:
        return True

    secret = Settings(database_url=settings.database_url, storage_dir=settings.storage_dir, secret="s")
    async with client_of(create_app(secret, authorize=everyone)) as client:
        assert (await client.get("/v1/shape", params=ITEMS)).status_code == 200
    async with client_of(create_app(secret)) as client:
        assert (await client.get("/v1/shape", params=ITEMS)).status_code == 401


async def test_an_error_of_the_authorize_function_refuses_the_request(settings: Settings) -> None:
    async def broken(scope: MutableMapping[str, Any], shape: RawShape | None) -> bool:
        raise LookupError("no such user")

    async with client_of(create_app(settings, authorize=broken)) as client:
        answer = await client.get("/v1/shape", params=ITEMS)
    assert answer.status_code == 500
    assert "value" not in answer.text


async def test_a_second_one_on_the_same_storage_does_not_start(settings: Settings) -> None:
    async with client_of(create_app(settings)):
        with pytest.raises(ConfigError, match="storage"):
            async with create_app(settings).lifespan():
                pass


async def test_an_unknown_database_is_an_error_of_the_lifespan(settings: Settings) -> None:
    nowhere = settings.database_url + "_unknown"
    app = create_app(Settings(database_url=nowhere, storage_dir=settings.storage_dir, insecure=True))
    ended = asyncio.Event()
    with pytest.raises(ConfigError, match="create it or correct the name"):
        async with app.lifespan():
            app.on_end(ended.set)
            await ended.wait()


async def test_an_unreadable_url_is_an_error_of_the_lifespan(settings: Settings) -> None:
    url = "postgresql://me:p@word@db/app"
    app = create_app(Settings(database_url=url, storage_dir=settings.storage_dir, insecure=True))
    with pytest.raises(ConfigError, match="contains a raw @"):
        async with app.lifespan():
            raise AssertionError("it must not start")


async def test_an_unreachable_database_is_waited_for(settings: Settings) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    app = create_app(Settings(database_url=nowhere, storage_dir=settings.storage_dir, insecure=True))
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
    ):
        answer = await client.get("/v1/shape", params=ITEMS)
        assert answer.status_code == 503
        assert (await client.get("/v1/health")).json() == {"status": "waiting"}


async def test_under_an_asgi_server(settings: Settings) -> None:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), port=port, lifespan="on", log_level="warning")
    )
    serving = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        answer = await client.get("/v1/shape", params=ITEMS)
        assert ids(answer) == ["1", "2"]
    server.should_exit = True
    await serving
