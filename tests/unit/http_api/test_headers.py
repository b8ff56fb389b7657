"""Tables of cache rules, cursors, entity tags and preflights."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
from tests.support.seams.http_fakes import ALWAYS_READABLE, NOT_FOR_SCRIPTS

from pgshapes.http_api import headers
from pgshapes.http_api.headers import Caching, ShapeFacts
from pgshapes.http_api.params import Now
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset

FACTS = ShapeFacts(handle="H", requested=Offset(5, 0), offset=Offset(9, 2), schema=b"{}")
CACHING = Caching(60, 300, 60_000)
DAY = headers.CURSOR_EPOCH + 86_400


@pytest.mark.parametrize(
    ("facts", "caching", "value"),
    [
        (FACTS, CACHING, b"public, max-age=60, stale-while-revalidate=300"),
        (FACTS, Caching(1, 3, 60_000), b"public, max-age=1, stale-while-revalidate=3"),
        (
            FACTS._replace(requested=BEFORE_ALL),
            CACHING,
            b"public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746",
        ),
        (FACTS._replace(is_live=True), CACHING, b"public, max-age=5, stale-while-revalidate=5"),
        (FACTS._replace(is_live=True, is_sse=True), CACHING, b"public, max-age=59"),
        (FACTS._replace(is_live=True, is_sse=True), Caching(60, 300, 1_500), b"public, max-age=1"),
        (FACTS._replace(is_cacheable=False), CACHING, b"no-cache"),
        (FACTS._replace(requested=BEFORE_ALL, is_cacheable=False), CACHING, b"no-cache"),
        (FACTS._replace(is_live=True, is_sse=True, is_cacheable=False), CACHING, b"no-cache"),
    ],
)
def test_cache_control_of_a_success(facts: ShapeFacts, caching: Caching, value: bytes) -> None:
    assert headers.success_cache(facts, caching) == value
    assert dict(headers.shape_headers(facts, caching))[b"cache-control"] == value


@pytest.mark.parametrize(
    ("handle", "is_cacheable", "value"),
    [
        ("H", True, b"public, max-age=60, must-revalidate"),
        (None, True, b"public, max-age=1, must-revalidate"),
        ("H", False, b"no-cache"),
        (None, False, b"no-cache"),
    ],
)
def test_cache_control_of_a_409(handle: str | None, is_cacheable: bool, value: bytes) -> None:
    found = dict(headers.refetch_headers(handle, is_cacheable=is_cacheable))
    assert found[b"cache-control"] == value
    assert found.get(b"electric-handle") == (handle.encode() if handle else None)
    assert found.get(b"etag") == (b'"H::"' if handle else None)


def test_cache_control_of_an_error() -> None:
    kept = dict(headers.error_headers(is_cacheable=True))
    assert (kept[b"cache-control"], kept[b"surrogate-control"]) == (b"no-store", b"no-store")
    posted = dict(headers.error_headers(is_cacheable=False))
    assert posted[b"cache-control"] == b"no-cache"
    assert b"surrogate-control" not in posted


def test_an_entity_tag_has_handle_and_both_offsets() -> None:
    assert dict(headers.shape_headers(FACTS, CACHING))[b"etag"] == b'"H:5_0:9_2"'
    assert headers.etag_of(FACTS._replace(requested=BEFORE_ALL, offset=AFTER_SNAPSHOT)) == "H:-1:0_inf"
    assert headers.etag_of(FACTS._replace(requested=Now.NOW)) == "H:now:9_2"


def test_an_entity_tag_without_change_is_unique() -> None:
    quiet = FACTS._replace(has_data=False)
    assert b"etag" not in dict(headers.shape_headers(quiet, CACHING))
    assert headers.no_change_etag(quiet, 17) == (b"etag", b'"H:5_0:9_2:17"')


@pytest.mark.parametrize(
    ("now_s", "timeout_ms", "previous", "cursor"),
    [
        (DAY, 20_000, None, 86_400),
        (DAY + 0.9, 20_000, None, 86_400),
        (DAY + 1, 20_000, None, 86_420),
        (DAY + 20, 20_000, "", 86_420),
        (DAY + 21, 20_000, "86420", 86_440),
        (DAY + 1, 20_000, "no number", 86_420),
        (DAY + 1, 20_000, "8_6", 86_420),
        (DAY + 1, 20_000, "5.5", 86_420),
        (DAY + 1, 999, "86420", 0),
        (DAY + 1, 1_000, None, 86_401),
    ],
)
def test_a_cursor_is_the_end_of_the_window(
    now_s: float, timeout_ms: int, previous: str | None, cursor: int
) -> None:
    assert headers.next_cursor(now_s, timeout_ms, previous, random.random) == cursor


@pytest.mark.parametrize("previous", [86_420, 90_000])
def test_the_next_cursor_is_a_random_number_after_the_previous_one(previous: int) -> None:
    for drawn in (0.0, 0.5, 1 - 2**-53, *(random.random() for _ in range(50))):
        draw = iter([drawn]).__next__
        cursor = headers.next_cursor(DAY + 1, 20_000, str(previous), draw)
        assert previous < cursor <= previous + headers.CURSOR_JUMP_S


@pytest.mark.parametrize(
    ("requested", "allowed"),
    [
        ([], None),
        ([b"If-None-Match"], b"if-none-match"),
        ([b"traceparent"], b"traceparent"),
        ([b"Content-Type"], b"content-type"),
        ([b"content-type, If-None-Match,x-evil"], b"content-type, if-none-match"),
        ([b"content-type", b"traceparent,content-type"], b"content-type, traceparent"),
        ([b"x-evil"], None),
    ],
)
def test_preflight(requested: list[bytes], allowed: bytes | None) -> None:
    assert dict(headers.preflight_headers(requested)).get(b"access-control-allow-headers") == allowed


def test_every_header_is_exposed_to_scripts_or_not_for_them() -> None:
    """`Connection` of the fake application checks the same for each response of a test."""
    tree = ast.parse(Path(headers.__file__).read_text())
    pairs = [node for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    literal = {
        pair.elts[0].value.decode()
        for pair in pairs
        if isinstance(pair.elts[0], ast.Constant) and isinstance(pair.elts[0].value, bytes)
    }
    assert "cache-control" in literal
    others = {name for name in literal if not name.startswith("access-control-")}
    assert others - ALWAYS_READABLE - NOT_FOR_SCRIPTS == set()
    named = {value for name, value in vars(headers).items() if name.isupper() and value in headers.EXPOSED}
    assert named == set(headers.EXPOSED)
