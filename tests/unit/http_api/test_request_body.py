"""POST bodies, and how they are merged with the query."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.http_api.parameters import (
    MAX_VALUES,
    UnreadableBody,
    gather_subset,
    merge_parameters,
    parse_body,
)


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


def values_in(value: Any) -> int:
    """Values and names in a JSON value."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(values_in, value.values()))
    return 1 + (sum(map(values_in, value)) if isinstance(value, list) else 0)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(JSON, st.booleans())
def test_the_number_of_values_is_exact(value: Any, is_escaped: bool) -> None:
    """Whatever is inside of texts, a body with as many values as are allowed is accepted and no more."""
    padding = MAX_VALUES - values_in(value) - 4  # the object, its two names and the list
    for more, is_accepted in ((0, True), (1, False)):
        body = {"a": value, "b": [0] * (padding + more)}
        raw = json.dumps(body, ensure_ascii=is_escaped).encode()
        if is_accepted:
            assert len(parse_body(raw)["b"]) == padding
        else:
            with pytest.raises(UnreadableBody, match="more than 50000 values") as refused:
                parse_body(raw)
            assert refused.value.status == 413


QUADRATIC = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from pgshapes.http_api.parameters import UnreadableBody, parse_body
for text in (b'{"a":"' + b'\\\\"' * 3_000_000, b'"\\\\' * 3_000_000, b'"' * 6_000_000):
    try:
        parse_body(text + b"," * 50_000)
    except UnreadableBody:
        pass
"""


def test_a_text_without_end_is_read_once() -> None:
    """Read again from each of its quotes, it would take hours of the processor, of which there are 20 s."""
    subprocess.run([sys.executable, "-c", QUADRATIC], check=True)


@pytest.mark.parametrize("item", ['"id"', "1.5", "[]", "{}", '"\\""', "null", '{"a":', '"'])
def test_a_body_takes_little_more_memory_than_its_size(item: str) -> None:
    """Also one that is not valid."""
    raw = ('{"columns":[' + ",".join([item] * (4_000_000 // (len(item) + 1))) + "]}").encode()
    tracemalloc.start()
    with pytest.raises(UnreadableBody):
        parse_body(raw)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000
