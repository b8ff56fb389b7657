"""Parsing of query strings into nested parameters."""

from __future__ import annotations

from typing import Any

import pytest

from pgshapes.errors import RequestError
from pgshapes.http_api.parameters import parse_query_string


@pytest.mark.parametrize(
    ("raw", "parameters"),
    [
        (b"", {}),
        (b"&&", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a", {"a": ""}),
        (b"a=", {"a": ""}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"where=a+%3D+%27%C3%A4%27", {"where": "a = 'ä'"}),
        (b"params[1]=x&params%5B2%5D=y", {"params": {"1": "x", "2": "y"}}),
        (b"params[1]=x&params[1]=y", {"params": {"1": "y"}}),
        (b"columns[]=a&columns[]=b", {"columns": ["a", "b"]}),
        (b"params=x&params[1]=y", {"params": {"1": "y"}}),
        (b"params[1]=y&params=x", {"params": "x"}),
        (b"params[1]=y&params[]=x", {"params": ["x"]}),
        (b"a]=1", {"a]": "1"}),
        (b"a[b=1", {"a[b": "1"}),
        (b"[]=1", {"[]": "1"}),
        (b"a=100%", {"a": "100%"}),
    ],
)
def test_a_query_string_is_read(raw: bytes, parameters: dict[str, Any]) -> None:
    assert parse_query_string(raw) == parameters


def test_nested_brackets_are_no_texts() -> None:
    assert not isinstance(parse_query_string(b"a[b][c]=1")["a"], str)


@pytest.mark.parametrize("raw", [b"a=%ff", b"%c3=1", b"a=\xff"])
def test_a_query_that_is_not_utf8_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        parse_query_string(raw)
    assert refused.value.errors == {"query": ["is not valid UTF-8"]}
