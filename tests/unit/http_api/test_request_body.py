"""POST bodies, and how they are merged with the query."""

from __future__ import annotations

from typing import Any

import pytest

from pgshapes.http_api.parameters import UnreadableBody, gather_subset, merge_parameters, parse_body


@pytest.mark.parametrize(
    ("query", "body", "merged"),
    [
        ({"a": "1"}, {}, {"a": "1"}),
        ({"a": "1", "b": "2"}, {"a": "3"}, {"a": "3", "b": "2"}),
        ({"offset": "-1"}, {"offset": 5}, {"offset": "-1", "subset": {"offset": 5}}),
        ({"where": "q"}, {"where": "b", "x": 1}, {"where": "q", "x": 1, "subset": {"where": "b"}}),
        (
            {"subset__limit": "1", "subset__where": "q"},
            {"where": "b"},
            {"subset": {"limit": "1", "where": "b"}},
        ),
        (
            {"subset__limit": "1", "offset": "-1"},
            {"subset": {"where": "b"}, "offset": "now", "where": "own"},
            {"subset": {"limit": "1", "where": "b"}, "offset": "now", "where": "own"},
        ),
        ({}, {"subset": {}}, {"subset": {}}),
        ({"subset__x": "1"}, {}, {"subset": {"x": "1"}}),
        ({}, {"subset": "no object"}, {"subset": "no object"}),
        ({}, {"order_by_expr": {}}, {"subset": {"order_by_expr": {}}}),
    ],
)
def test_the_body_overrides_the_query(query: Any, body: Any, merged: Any) -> None:
    assert merge_parameters(query, body) == merged


def test_a_query_without_subset_keys_is_unchanged() -> None:
    query = {"a": "1"}
    assert gather_subset(query) is query


def test_bodies() -> None:
    assert parse_body(b"") == {}
    assert parse_body(b"{}") == {}
    assert parse_body(b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"[]", "Request body must be a JSON object"),
        (b'"x"', "Request body must be a JSON object"),
        (b"null", "Request body must be a JSON object"),
        (b"not json", "Invalid JSON in request body"),
        (b"\xff", "Invalid JSON in request body"),
    ],
)
def test_bad_bodies(raw: bytes, text: str) -> None:
    with pytest.raises(UnreadableBody) as refused:
        parse_body(raw)
    assert (refused.value.status, refused.value.message) == (400, text)
