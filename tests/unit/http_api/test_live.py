"""Long polls, holds, and shapes that are removed during them."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.seams.http_fakes import CHUNK, COMPLETE, ITEMS, Answer, Client, FakeBackend, turns

from pgshapes.errors import DiskFull, RequestError, StorageError, StorageFailing, StorageShortage
from pgshapes.gates.admission import Kind
from pgshapes.gates.conditions import Level
from pgshapes.http_api.response import ResponseAborted
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.offset import Offset
from pgshapes.model.shape import RawShape
from pgshapes.model.tail import Tail
from pgshapes.shape_log import disk_errors
from pgshapes.shape_log.store import ANY_SIZE, LogSlice

HANDLE = "17-4"
LIVE = f"table=items&handle={HANDLE}&offset=0_inf&live=true"
QUICK = HttpSettings(long_poll_timeout_ms=20, snapshot_timeout_s=0.02)
FOREVER = HttpSettings(long_poll_timeout_ms=600_000, snapshot_timeout_s=600)
MUST_REFETCH = [{"headers": {"control": "must-refetch"}}]


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    return backend


def in_use(client: Client) -> int:
    return client.admission.in_use(Kind.INITIAL) + client.admission.in_use(Kind.EXISTING)


async def test_a_held_request_is_answered_by_the_next_change(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    held = client.hold(LIVE)
    await turns()
    assert held.answer.status == 0
    backend.append(HANDLE, 50, 0, 2)
    answer = await held.whole()
    assert [item.get("key") for item in answer.json] == ["k", "k", None]
    assert answer.headers["electric-offset"] == "50_2"
    assert answer.headers["electric-has-data"] == "true"


async def test_a_live_request_after_the_first_snapshot_chunk(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(f"table=items&handle={HANDLE}&offset=0_0&live=true")
    await turns()
    backend.append(HANDLE, 50, 0)
    assert (await held.whole()).headers["electric-offset"] == "50_0"


async def test_thousands_of_waiters_share_one_watch_one_read_and_one_body(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    held = [client.hold(LIVE) for _ in range(2000)]
    await turns()
    watchers = backend._notices[HANDLE].waiters
    backend.append(HANDLE, 50, 0)
    answers = [await one.whole() for one in held]
    assert watchers == 1
    assert backend.reads == [f"{HANDLE} log 0_inf"]
    assert len({id(answer.body) for answer in answers}) <= 2
    assert len({answer.body for answer in answers}) == 1
    assert in_use(client) == 0


async def test_a_change_between_reading_the_tail_and_waiting_is_not_missed(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(LIVE)
    await asyncio.sleep(0)
    backend.append(HANDLE, 50, 0)
    assert (await held.whole()).headers["electric-offset"] == "50_0"


async def test_a_tail_that_changes_without_new_messages_continues_the_wait(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(LIVE)
    await turns()
    backend.set_tail(HANDLE, COMPLETE._replace(snapshot_chunks=2))
    await turns()
    assert held.answer.status == 0
    backend.append(HANDLE, 50, 0)
    assert (await held.whole()).status == 200


async def test_stopping_answers_all_held_requests_at_once(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    held = [client.hold(LIVE) for _ in range(50)]
    await turns()
    client.stopping.set()
    for one in held:
        answer = await one.whole()
        assert (answer.status, answer.controls) == (200, ["up-to-date"])
        assert answer.headers["electric-has-data"] == "false"
    late = await client.get(LIVE)
    assert late.headers["electric-has-data"] == "false"


async def test_a_disconnect_releases_the_permit_at_once(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    held = [client.hold(LIVE) for _ in range(10)]
    await turns()
    assert in_use(client) == 10
    for one in held[:9]:
        one.disconnect()
    await turns()
    assert in_use(client) == 1
    assert all(one.task.done() for one in held[:9])
    backend.append(HANDLE, 50, 0)
    assert (await held[9].whole()).status == 200
    held[0].task.result()


async def test_the_watch_ends_with_its_last_waiter(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(LIVE)
    await turns()
    assert backend._notices[HANDLE].waiters == 1
    held.disconnect()
    await turns()
    assert backend._notices[HANDLE].waiters == 0


async def test_a_timeout_while_the_service_is_down_names_the_condition(backend: FakeBackend) -> None:
    client = Client(backend, HttpSettings(long_poll_timeout_ms=50))
    held = client.hold(LIVE)
    await turns()
    backend.now = Level.STARTING
    answer = await held.whole()
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert answer.json == {"message": "Timeout waiting for Postgres lock acquisition"}


async def test_a_timeout_while_read_only_is_no_error(backend: FakeBackend) -> None:
    client = Client(backend, HttpSettings(long_poll_timeout_ms=50))
    held = client.hold(LIVE)
    await turns()
    backend.now = Level.READ_ONLY
    assert (await held.whole()).status == 200


# --- shapes that are removed


async def test_a_removed_shape_is_answered_with_409(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(LIVE)
    await turns()
    backend.remove(HANDLE)
    answer = await held.whole()
    assert (answer.status, answer.json) == (409, MUST_REFETCH)
    assert "electric-handle" not in answer.headers


async def test_a_removed_shape_names_its_successor_if_there_is_one(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(LIVE)
    await turns()
    backend.remove(HANDLE)
    backend.add(ITEMS, "18-5")
    assert (await held.whole()).headers["electric-handle"] == "18-5"


async def test_the_409_of_a_retiring_shape_waits_until_it_is_removed(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    held = client.hold(LIVE)
    await turns()
    backend.retire(HANDLE)
    await turns()
    assert held.answer.status == 0
    backend.remove(HANDLE)
    assert (await held.whole()).status == 409


async def test_the_409_for_a_retiring_handle_waits_too(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    backend.retire(HANDLE)
    held = client.hold(f"table=items&handle={HANDLE}&offset=0_0")
    await turns()
    assert held.answer.status == 0
    backend.remove(HANDLE)
    answer = await held.whole()
    assert answer.status == 409
    assert answer.headers["electric-handle"] not in ("", HANDLE)


async def test_a_shape_whose_files_cannot_be_read_is_dropped(backend: FakeBackend) -> None:
    backend.append(HANDLE, 5, 0)
    backend.shapes[HANDLE].is_damaged = True
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf")
    assert (answer.status, answer.json) == (409, MUST_REFETCH)
    assert "delete" in backend.calls
    assert HANDLE not in backend.shapes


@pytest.mark.parametrize("failure", [StorageShortage("open: Too many open files"), DiskFull("write")])
async def test_a_shortage_is_no_damage(backend: FakeBackend, failure: StorageError) -> None:
    backend.shapes[HANDLE].failure = failure
    client = Client(backend)
    for _ in range(3):
        answer = await client.get("table=items&offset=-1")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "open" not in answer.json["message"]
    assert "delete" not in backend.calls
    backend.shapes[HANDLE].failure = None
    assert (await client.get("table=items&offset=-1")).status == 200


@pytest.mark.parametrize(("asked", "status"), [("offset=-1", 200), (f"offset=0_inf&handle={HANDLE}", 409)])
async def test_an_error_of_the_disk_is_damage_when_it_lasts(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, asked: str, status: int
) -> None:
    """A client without a handle, which has nothing to refetch, is served from the next shape."""
    backend.shapes[HANDLE].failure = StorageFailing("read: Input/output error")
    client = Client(backend)
    backend.append(HANDLE, 5, 0)
    assert (await client.get(f"table=items&{asked}")).status == 503
    assert "delete" not in backend.calls
    monkeypatch.setattr(disk_errors, "LIMIT_S", -1.0)
    answer = await client.get(f"table=items&{asked}")
    assert answer.status == status
    assert HANDLE not in backend.shapes


async def test_missing_files_of_a_removed_shape_are_no_damage(backend: FakeBackend) -> None:
    class Racing(FakeBackend):
        async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
            self.remove(handle)
            return await super().read_log(handle, after, tail, most)

    racing = Racing()
    racing.add(ITEMS, HANDLE)
    racing.append(HANDLE, 5, 0)
    answer = await Client(racing).get(f"table=items&handle={HANDLE}&offset=0_inf")
    assert answer.status == 409
    assert "delete" not in racing.calls


async def test_a_shape_that_is_retired_while_it_is_read_is_not_served(backend: FakeBackend) -> None:
    class Retiring(FakeBackend):
        async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
            piece = await super().read_log(handle, after, tail, most)
            await asyncio.sleep(0)
            self.remove(handle)
            return piece

    retiring = Retiring()
    retiring.add(ITEMS, HANDLE)
    retiring.append(HANDLE, 5, 0)
    answer = await Client(retiring).get(f"table=items&handle={HANDLE}&offset=0_inf")
    assert (answer.status, answer.json) == (409, MUST_REFETCH)
    assert "delete" not in retiring.calls


async def test_a_shape_that_is_removed_while_a_large_body_is_sent(
    backend: FakeBackend,
) -> None:
    """The response is not completed, so that its client asks again; not an error of the server."""

    class Removing(FakeBackend):
        async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
            part = await super().read_part(handle, chunk, position, size)
            self.remove(handle)
            return part

    removing = Removing()
    shape = removing.add(ITEMS, HANDLE, chunks=[b"x" * 500_000])
    held = Client(removing).hold("table=items&offset=-1")
    with pytest.raises(ResponseAborted):
        await held.task
    assert shape.chunks[0].startswith(held.answer.body) and not held.answer.is_whole


class Ending(FakeBackend):
    """Removes a shape as its snapshot is read, `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        if self.times:
            self.times -= 1
            self.remove(handle)
        return await super().read_snapshot_chunk(handle, number)


@pytest.mark.parametrize("offset", ["-1", "now"])
async def test_a_first_request_whose_shape_ends_is_begun_again(offset: str) -> None:
    ending = Ending(3)
    ending.add(ITEMS, HANDLE)
    answer = await Client(ending).get(f"table=items&offset={offset}")
    assert answer.status == 200
    assert answer.headers["electric-handle"] in ending.shapes


async def test_a_first_request_whose_shapes_end_again_and_again_gets_a_503() -> None:
    ending = Ending(1000)
    answer = await Client(ending).get("table=items&offset=-1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_first_request_that_waits_for_a_chunk_is_begun_again(backend: FakeBackend) -> None:
    backend.set_tail(HANDLE, Tail())
    held = Client(backend, FOREVER).hold("table=items&offset=-1")
    await turns()
    backend.remove(HANDLE)
    assert (await held.whole()).status == 200


GONE = RequestError.field("table", "does not exist")


@pytest.mark.parametrize("mode", ["", "&live=true", "&live=true&live_sse=true"])
async def test_a_client_between_polls_gets_a_409_before_the_400(backend: FakeBackend, mode: str) -> None:
    """Also when the shape has been removed from the tables."""
    client = Client(backend)
    backend.remove(HANDLE)
    backend.resolve_error = GONE
    answer = await client.get(f"table=items&handle={HANDLE}&offset=0_inf{mode}")
    assert (answer.status, answer.json) == (409, MUST_REFETCH)
    for first in ("offset=-1", f"offset=-1&handle={HANDLE}", "offset=now"):
        assert (await client.get(f"table=items&{first}")).status == 400


async def test_a_shape_that_cannot_be_created_any_more_is_a_409_before_the_400(backend: FakeBackend) -> None:
    client = Client(backend)
    backend.remove(HANDLE)
    backend.create_error = GONE
    assert (await client.get(f"table=items&handle={HANDLE}&offset=0_inf")).status == 409
    assert (await client.get("table=items&offset=-1")).status == 400


async def test_the_409_of_a_table_that_has_ended_waits_for_the_removal(backend: FakeBackend) -> None:
    client = Client(backend, FOREVER)
    backend.retire(HANDLE)
    backend.resolve_error = GONE
    held = client.hold(f"table=items&handle={HANDLE}&offset=0_inf")
    await turns()
    assert held.answer.status == 0
    backend.remove(HANDLE)
    assert (await held.whole()).status == 409


async def test_a_wrong_definition_with_a_handle_in_use_is_a_400(backend: FakeBackend) -> None:
    backend.resolve_error = RequestError.field("where", "syntax error")
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf&where=x")
    assert answer.status == 400
    assert "is_in_use" in backend.calls


# --- handles


async def test_an_unknown_handle_gets_the_right_one(backend: FakeBackend) -> None:
    answer = await Client(backend).get("table=items&handle=nonexistent&offset=0_0")
    assert (answer.status, answer.headers["electric-handle"]) == (409, HANDLE)
    assert backend.calls.count("is_current") == 1


async def test_an_unknown_handle_of_an_unknown_shape_creates_it() -> None:
    backend = FakeBackend()
    answer = await Client(backend).get("table=items&handle=nonexistent&offset=0_0")
    assert (answer.status, answer.json) == (409, MUST_REFETCH)
    assert answer.headers["electric-handle"] in backend.shapes


async def test_the_handle_of_another_shape_is_not_served(backend: FakeBackend) -> None:
    backend.add(RawShape("public", "other"), "99-9")
    answer = await Client(backend).get("table=items&handle=99-9&offset=0_0")
    assert (answer.status, answer.headers["electric-handle"]) == (409, HANDLE)


async def test_a_handle_that_only_the_owner_knows_is_served(backend: FakeBackend) -> None:
    backend.hidden.add(HANDLE)
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_0")
    assert answer.status == 200


async def test_a_shape_that_cannot_be_created_now(backend: FakeBackend) -> None:
    backend.now = Level.READ_ONLY
    client = Client(backend)
    assert (await client.get("table=items&offset=-1")).status == 200
    answer = await client.get("table=other&offset=-1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


# --- snapshots in progress


async def test_the_first_chunk_is_waited_for(backend: FakeBackend) -> None:
    backend.set_tail(HANDLE, Tail())
    held = Client(backend, FOREVER).hold("table=items&offset=-1")
    await turns()
    assert held.answer.status == 0
    backend.set_tail(HANDLE, Tail(snapshot_chunks=1))
    answer = await held.whole()
    assert (answer.body, answer.headers["electric-offset"]) == (CHUNK, "0_0")


async def test_the_next_chunk_is_waited_for(backend: FakeBackend) -> None:
    backend.shapes[HANDLE].chunks.append(b'["second"]')
    backend.set_tail(HANDLE, Tail(snapshot_chunks=1))
    held = Client(backend, FOREVER).hold(f"table=items&handle={HANDLE}&offset=0_0")
    await turns()
    backend.set_tail(HANDLE, Tail(snapshot_chunks=2))
    answer = await held.whole()
    assert (answer.body, answer.headers["electric-offset"]) == (b'["second"]', "0_1")
    assert "electric-up-to-date" not in answer.headers


async def test_a_request_after_the_last_snapshot_chunk_gets_the_log(backend: FakeBackend) -> None:
    backend.set_tail(HANDLE, Tail(snapshot_chunks=1))
    held = Client(backend, FOREVER).hold(f"table=items&handle={HANDLE}&offset=0_0")
    await turns()
    backend.set_tail(HANDLE, COMPLETE)
    answer = await held.whole()
    assert (answer.controls, answer.headers["electric-offset"]) == (["up-to-date"], "0_inf")


async def test_a_chunk_that_is_not_written_in_time(backend: FakeBackend) -> None:
    backend.set_tail(HANDLE, Tail())
    answer = await Client(backend, QUICK).get("table=items&offset=-1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


# --- beyond the end


BEYOND = f"table=items&handle={HANDLE}&offset=50_0"


@pytest.mark.parametrize(("level", "status"), [(Level.ACTIVE, 409), (Level.READ_ONLY, 503)])
async def test_an_offset_beyond_the_end_is_never_a_400(
    backend: FakeBackend, level: Level, status: int
) -> None:
    client = Client(backend, QUICK)
    backend.now = level
    answer: Answer = await client.get(BEYOND)
    assert answer.status == status
    assert "electric-handle" not in answer.headers


async def test_an_offset_beyond_the_end_is_served_when_the_shape_catches_up(backend: FakeBackend) -> None:
    held = Client(backend, FOREVER).hold(BEYOND)
    await turns()
    backend.append(HANDLE, 49, 0)
    await turns()
    assert held.answer.status == 0
    backend.append(HANDLE, 50, 0, 2)
    answer = await held.whole()
    assert (answer.status, answer.headers["electric-offset"]) == (200, "50_2")


async def test_any_offset_within_the_log_works(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0, 4)
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=50_1")
    assert [item["headers"].get("op_position") for item in answer.json] == [4, None]
    assert Offset(50, 4) == backend.shapes[HANDLE].tail.latest
