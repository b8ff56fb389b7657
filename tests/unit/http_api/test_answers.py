"""The cache of headers returns the headers that would be computed."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pgshapes.http_api.answers import Answers, ResolvedRequest
from pgshapes.http_api.body_cache import Piece
from pgshapes.http_api.headers import Caching, ShapeFacts, shape_headers
from pgshapes.http_api.params import Now, ShapeRequest
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.model.shape import RawShape, ResolvedShape, ShapeDefinition

SETTINGS: Final = HttpSettings(cache_max_age_s=7, cache_stale_age_s=8)
CACHING: Final = Caching(7, 8, SETTINGS.sse_timeout_ms)
DEFINITION: Final = ShapeDefinition((1,), "public", "items", (), (), None, True, "default", "full")

offsets = st.sampled_from([BEFORE_ALL, Offset(0, 0), AFTER_SNAPSHOT, Offset(5, 0), Offset(5, 2)])
facts = st.builds(
    ShapeFacts,
    handle=st.sampled_from(["h1", "h2"]),
    requested=st.one_of(offsets, st.just(Now.NOW)),
    offset=offsets,
    schema=st.sampled_from([b"{}", b'{"a":{}}']),
    is_live=st.just(False),
    is_sse=st.just(False),
    is_up_to_date=st.booleans(),
    has_data=st.just(True),
    is_cacheable=st.booleans(),
)


def asked_for(facts: ShapeFacts) -> ResolvedRequest:
    request = ShapeRequest(
        RawShape("public", "items"), facts.requested, None, facts.is_live, facts.is_sse, None, None
    )
    shape = ResolvedShape(DEFINITION, b"", (), facts.schema)
    return ResolvedRequest(request, shape, facts.handle, [], facts.is_cacheable)


@given(st.lists(facts, max_size=30))
def test_cached_headers_equal_computed_headers(given: list[ShapeFacts]) -> None:
    answers = Answers(SETTINGS)
    for one in given:
        response = answers.of_piece(asked_for(one), Piece(b"[]", one.offset, one.is_up_to_date))
        assert response.headers == shape_headers(one, CACHING)


@given(facts.filter(lambda one: one.requested is not Now.NOW))
def test_headers_are_computed_once_for_equal_facts(one: ShapeFacts) -> None:
    answers = Answers(SETTINGS)
    piece = Piece(b"[]", one.offset, one.is_up_to_date)
    first, second = (answers.of_piece(asked_for(one), piece) for _ in range(2))
    assert first.headers is second.headers


@given(facts)
def test_a_cursor_is_not_added_to_cached_headers(one: ShapeFacts) -> None:
    live = one._replace(is_live=True)
    answers = Answers(SETTINGS)
    for _ in range(2):
        response = answers.of_piece(asked_for(live), Piece(b"[]", live.offset, live.is_up_to_date))
        *own, (name, _) = response.headers
        assert (own, name) == (shape_headers(live, CACHING), b"electric-cursor")
