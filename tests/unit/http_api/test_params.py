"""Every rule for parameters that does not need the system catalogs."""

from __future__ import annotations

from typing import Any

import pytest

from pgshapes.errors import RequestError
from pgshapes.http_api.params import (
    MAX_COLUMNS,
    MAX_PARAMS,
    Now,
    ShapeRequest,
    parse_delete_request,
    parse_shape_request,
)
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.model.shape import RawShape

GOOD = {"table": "items", "offset": "-1"}


def parse(**given: Any) -> ShapeRequest:
    return parse_shape_request({name: value for name, value in (GOOD | given).items() if value is not None})


def errors_of(**given: Any) -> Any:
    with pytest.raises(RequestError) as refused:
        parse(**given)
    assert refused.value.status == 400
    assert refused.value.message == "Invalid request"
    return refused.value.errors


def test_the_minimal_request() -> None:
    request = parse()
    assert request.raw == RawShape("public", "items")
    assert request.offset == BEFORE_ALL
    assert (request.handle, request.is_live, request.is_sse, request.subset) == (None, False, False, None)


def test_all_parts_of_a_definition() -> None:
    request = parse(
        table='"Other".Items',
        where="a = $1 AND b = $2",
        params={"2": "y", "1": "x"},
        columns='id,"B"',
        queryable_columns="id",
        replica="full",
        log="changes_only",
    )
    assert request.raw == RawShape(
        schema="Other",
        table="items",
        where="a = $1 AND b = $2",
        params=(("1", "x"), ("2", "y")),
        columns=("id", "B"),
        queryable_columns=("id",),
        replica="full",
        log="changes_only",
    )


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("-1", BEFORE_ALL),
        ("-1_0", BEFORE_ALL),
        ("now", Now.NOW),
        ("0_0", Offset(0, 0)),
        ("0_inf", AFTER_SNAPSHOT),
        ("12_4", Offset(12, 4)),
        ("+012_+04", Offset(12, 4)),
        ("18446744073709551615_0", Offset(2**64 - 1, 0)),
    ],
)
def test_offsets(text: str, offset: Offset | Now) -> None:
    assert parse(offset=text, handle="h").offset == offset


@pytest.mark.parametrize("offset", ["-1", "-1_0", "now"])
def test_a_handle_is_ignored_at_offsets_without_one(offset: str) -> None:
    assert parse(offset=offset, handle="h").handle is None


@pytest.mark.parametrize(
    "text", ["0_-1", "x", "1", "_", "1_", "0_0_0", "inf_0", "-2", "18446744073709551616_0"]
)
def test_malformed_offsets(text: str) -> None:
    assert errors_of(offset=text, handle="h") == {"offset": ["has invalid format"]}


@pytest.mark.parametrize("value", ["true", "", "0", "no", "FALSE", False, True, None, {}])
def test_a_flag_is_set_by_anything_but_false(value: Any) -> None:
    given = {"table": "items", "offset": "0_0", "handle": "h", "live": value}
    assert parse_shape_request(given).is_live
    assert not parse_shape_request(given | {"live": "false"}).is_live


def test_the_old_name_of_the_stream_flag_is_a_fallback() -> None:
    live = {"offset": "0_0", "handle": "h", "live": "true"}
    assert parse(**live, experimental_live_sse="true").is_sse
    assert not parse(**live, experimental_live_sse="true", live_sse="false").is_sse


@pytest.mark.parametrize("name", ["where", "columns", "queryable_columns", "replica", "log", "handle"])
@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_counts_as_absent(name: str, blank: str) -> None:
    assert parse(**{name: blank}) == parse()


def test_params_without_a_clause_are_ignored() -> None:
    assert parse(params={"1": "x"}).raw == RawShape("public", "items")


def test_columns_of_a_json_body_are_not_parsed() -> None:
    assert parse(columns=["Id", "b"]).raw.columns == ("Id", "b")


@pytest.mark.parametrize("value", ["true", "false", "1", "0", True, False, ""])
def test_the_compaction_flag_is_accepted(value: Any) -> None:
    assert parse(experimental_compaction=value) == parse()


def test_unknown_names_are_ignored() -> None:
    assert parse(expired_handle="x", subset__where_expr="y", database_id="z") == parse()


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"replica": "half"}, {"replica": ["is invalid"]}),
        ({"log": "none"}, {"log": ["is invalid"]}),
        ({"params": "{}"}, {"params": ["is invalid"]}),
        ({"params": ["x"]}, {"params": ["is invalid"]}),
        ({"params": {"1": 5}}, {"params": ["is invalid"]}),
        ({"table": ["x"]}, {"table": ["is invalid"]}),
        ({"table": "a\0"}, {"table": ["is invalid"]}),
        ({"where": 5}, {"where": ["is invalid"]}),
        ({"experimental_compaction": "maybe"}, {"experimental_compaction": ["is invalid"]}),
        ({"columns": "id,"}, {"columns": ["Invalid zero-length delimited identifier"]}),
        ({"columns": []}, {"columns": ["is invalid"]}),
        ({"columns": {"a": "b"}}, {"columns": ["is invalid"]}),
        ({"columns": [""]}, {"columns": ["Invalid zero-length delimited identifier"]}),
        (
            {"queryable_columns": "a b"},
            {"queryable_columns": ["Invalid unquoted identifier contains special characters: a b"]},
        ),
        ({"offset": None}, {"offset": ["can't be blank"]}),
        ({"offset": " "}, {"offset": ["can't be blank"]}),
        ({"offset": "0_0"}, {"handle": ["can't be blank when offset != -1"]}),
        ({"live": "true"}, {"live": ["can't be true when offset == -1"]}),
        ({"live": "true", "offset": "now"}, {"live": ["can't be true when offset is 'now'"]}),
        ({"live_sse": "true"}, {"live_sse": ["can't be true unless live is also true"]}),
        ({"table": None}, {"table": ["can't be blank"]}),
        ({"table": ".x"}, {"table": ["Invalid zero-length delimited identifier"]}),
    ],
)
def test_refusals(given: dict[str, Any], errors: Any) -> None:
    assert errors_of(**given) == errors


def test_type_errors_are_returned_together() -> None:
    given = {"replica": "x", "log": "y", "columns": ",", "offset": None}
    assert set(errors_of(**given)) == {"replica", "log", "columns"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"replica": "x", "offset": "bad"}, "replica"),
        ({"offset": "bad", "table": None}, "offset"),
        ({"offset": "1_0", "live_sse": "true", "table": None}, "handle"),
        ({"live": "true", "table": None}, "live"),
        ({"live_sse": "true", "table": None}, "live_sse"),
    ],
)
def test_errors_of_a_stage_hide_those_of_later_stages(given: dict[str, Any], field: str) -> None:
    assert list(errors_of(**given)) == [field]


def test_deleting_by_definition_by_handle_or_both() -> None:
    assert parse_delete_request({"table": "items"}).raw == RawShape("public", "items")
    assert parse_delete_request({"handle": "h"}).handle == "h"
    both = parse_delete_request({"table": "items", "handle": "h", "where": "a = 1"})
    assert (both.raw, both.handle) == (RawShape("public", "items", where="a = 1"), "h")


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({}, {"handle": ["can't be blank when shape definition is missing"]}),
        ({"table": ".x"}, {"table": ["Invalid zero-length delimited identifier"]}),
        ({"handle": "h", "replica": "x"}, {"replica": ["is invalid"]}),
    ],
)
def test_bad_deletions(given: dict[str, str], errors: Any) -> None:
    with pytest.raises(RequestError) as refused:
        parse_delete_request(given)
    assert refused.value.errors == errors


def test_repeated_columns_count_once() -> None:
    assert parse(columns=",".join(["id", "name"] * 3_000)).raw.columns == ("id", "name")
    assert parse(columns=["id"] * 1_000_000).raw.columns == ("id",)
    assert parse(columns="A,a").raw.columns == ("a",)


@pytest.mark.parametrize("name", ["columns", "queryable_columns"])
def test_too_many_columns(name: str) -> None:
    columns = [f"c{number}" for number in range(MAX_COLUMNS + 1)]
    message = {name: [f"has more than {MAX_COLUMNS} columns"]}
    assert errors_of(**{name: columns}) == message
    assert errors_of(**{name: ",".join(columns)}) == message
    assert len(getattr(parse(**{name: columns[:-1]}).raw, name)) == MAX_COLUMNS


def test_too_long_texts() -> None:
    assert errors_of(columns="c" * 1_000_000) == {"columns": ["is longer than 262144 characters"]}
    assert errors_of(columns=["c" * 64]) == {"columns": ["Identifier is too long (max length is 63)"]}
    for name in ("where", "table", "handle", "offset"):
        assert errors_of(**{name: "x" * 65_537}) == {name: ["is longer than 65536 characters"]}


def test_too_many_params() -> None:
    many = {str(number): "" for number in range(MAX_PARAMS + 1)}
    assert errors_of(params=many) == {"params": [f"has more than {MAX_PARAMS} entries"]}
    assert errors_of(params={"1": "x" * 1_000_000}) == {"params": ["is longer than 1000000 characters"]}
