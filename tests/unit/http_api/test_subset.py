"""Subset snapshots: validation, then execution through the port."""

from __future__ import annotations

import pytest
from tests.support.seams.http_fakes import ITEMS, Client, FakeBackend, FakeSubsets

from pgshapes.errors import RequestError
from pgshapes.gates.admission import Kind
from pgshapes.model.offset import Offset
from pgshapes.model.shape import RawShape, ResolvedShape, Subset

HANDLE = "17-4"


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    return backend


async def test_a_get_with_subset_parameters(backend: FakeBackend) -> None:
    subsets = FakeSubsets()
    query = {
        "table": "items",
        "offset": "-1",
        "subset__where": "id = $1",
        "subset__params": '{"1":"5"}',
        "subset__order_by": "id DESC",
        "subset__limit": "10",
        "subset__offset": "20",
    }
    assert (await Client(backend, subsets=subsets).get(query)).status == 200
    assert subsets.asked == [Subset("id = $1", (("1", "5"),), "id DESC", 10, 20)]


async def test_a_post_with_a_subset_body(backend: FakeBackend) -> None:
    subsets = FakeSubsets()
    client = Client(backend, subsets=subsets)
    body = b'{"where":"value ILIKE $1","params":{"1":"%2"},"where_expr":{}}'
    answer = await client.ask("POST", "/v1/shape", "table=items&offset=-1&log=full", body=body)
    assert (answer.status, answer.headers["electric-snapshot"]) == (200, "true")
    assert subsets.asked == [Subset("value ILIKE $1", (("1", "%2"),))]
    assert "electric-schema" in answer.headers


async def test_a_post_without_subset_keys_is_an_ordinary_request(backend: FakeBackend) -> None:
    answer = await Client(backend).ask("POST", "/v1/shape", "", body=b'{"table":"items","handle":"x"}')
    assert answer.json["errors"] == {"offset": ["can't be blank"]}


async def test_a_change_during_the_query_comes_after_the_offset(backend: FakeBackend) -> None:
    class Racing(FakeSubsets):
        async def subset(self, raw: RawShape, shape: ResolvedShape, subset: Subset, resume: Offset) -> bytes:
            backend.append(HANDLE, 60, 0)
            return await super().subset(raw, shape, subset, resume)

    backend.append(HANDLE, 50, 0)
    answer = await Client(backend, subsets=Racing()).get("table=items&offset=now&subset__where=true")
    assert answer.headers["electric-offset"] == "50_0"


async def test_the_resume_offset_does_not_skip_unsent_changes(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0)
    backend.append(HANDLE, 60, 0)
    query = f"table=items&handle={HANDLE}&offset=50_0&subset__where=true"
    subsets = FakeSubsets()
    answer = await Client(backend, subsets=subsets).get(query)
    assert answer.headers["electric-offset"] == "50_0"
    assert subsets.resumes == [Offset(50, 0)]


async def test_a_handle_is_checked_first(backend: FakeBackend) -> None:
    subsets = FakeSubsets()
    answer = await Client(backend, subsets=subsets).get("table=items&handle=x&offset=0_0&subset__where=true")
    assert (answer.status, answer.headers["electric-handle"]) == (409, HANDLE)
    assert subsets.asked == []


async def test_refusals_are_nested(backend: FakeBackend) -> None:
    subsets = FakeSubsets(RequestError(errors={"subset": {"where": "bad enum"}}))
    client = Client(backend, subsets=subsets)
    at_run_time = await client.get("table=items&offset=-1&subset__where=x")
    assert (at_run_time.status, at_run_time.json["errors"]) == (400, {"subset": {"where": "bad enum"}})
    before = await client.get("table=items&offset=-1&subset__limit=0&subset__order_by=id")
    assert before.json["errors"] == {"subset": {"limit": ["must be greater than 0"]}}
    assert client.admission.in_use(Kind.EXISTING) == 0


async def test_a_bad_shape_hides_a_bad_subset(backend: FakeBackend) -> None:
    backend.resolve_error = RequestError.field("table", "does not exist")
    answer = await Client(backend, subsets=FakeSubsets()).get("table=x&offset=-1&subset__limit=0")
    assert answer.json["errors"] == {"table": ["does not exist"]}


async def test_a_server_without_subsets_refuses_them(backend: FakeBackend) -> None:
    answer = await Client(backend).get("table=items&offset=-1&subset__where=true")
    assert answer.status == 400
    assert answer.json["errors"] == {"subset": ["subset snapshots are not supported by this server"]}
    assert "create" not in backend.calls
