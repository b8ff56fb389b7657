"""Hashed ANY, ALL and containment find what a comparison of each pair finds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgshapes.where.types import documents, large_values, membership
from pgshapes.where.types.arrays import Array, vector
from pgshapes.where.types.documents import Document, decode_document
from pgshapes.where.types.operation import TooExpensive


@pytest.fixture(params=[False, True])
def _is_kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without values that are kept, and with them."""
    large_values.keep(is_active=request.param)
    yield
    large_values.forget()
    large_values.keep(is_active=False)


_EQUALITIES: list[tuple[Callable[..., Any], Callable[..., Any], Callable[[Any, Any], bool]]] = [
    (membership.equals_any, membership.any_of, lambda left, item: left == item),
    (membership.equals_all, membership.all_of, lambda left, item: left == item),
    (membership.differs_from_any, membership.any_of, lambda left, item: left != item),
    (membership.differs_from_all, membership.all_of, lambda left, item: left != item),
]


@pytest.mark.usefixtures("_is_kept")
@pytest.mark.parametrize(("hashed", "loop", "test"), _EQUALITIES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 2_000])
def test_equality_with_the_items_of_an_array(
    hashed: Callable[..., Any], loop: Callable[..., Any], test: Callable[[Any, Any], bool], size: int
) -> None:
    """Three-valued, with NULL on both sides, with all items equal and with different ones."""
    pick = random.Random(size)
    choices: list[list[int | None]] = [[1], [1, None], [None], [1, 2], [1, 2, None], [2, 3]]
    for items in choices:
        array = vector(tuple(pick.choices(items, k=size)))
        for left in (1, 2, None):
            assert hashed(left, array) is loop(test, left, array), (left, items)
        assert hashed(1, None) is None


def _random(pick: random.Random, depth: int) -> Any:
    kind = pick.randrange(7 if depth else 5)
    if kind < 5:
        return (1, 2, "a", None, True)[kind]
    size = pick.choice((0, 1, 2, 7))
    if kind == 5:
        return [_random(pick, depth - 1) for _ in range(size)]
    return {pick.choice("abc"): _random(pick, depth - 1) for _ in range(size)}


def _holds(left: Document, right: Document) -> bool:
    if left.kind != right.kind:
        return False
    if left.kind == "object":
        return all(
            key in left.content and _holds(left.content[key], one) for key, one in right.content.items()
        )
    if left.kind == "array":
        return all(any(_holds(item, one) for item in left.content) for one in right.content)
    return left == right


@pytest.mark.usefixtures("_is_kept")
def test_containment_of_json() -> None:
    """Random documents, also with as many items as are collected in a set."""
    pick = random.Random(5)
    padding = list(range(3, 2_003))
    for _ in range(3_000):
        left, right = _random(pick, 3), _random(pick, 2)
        if isinstance(left, list) and pick.random() < 0.1:
            left += padding
            right = [*right, *padding[:9]] if isinstance(right, list) else right
        ours, theirs = decode_document(json.dumps(left)), decode_document(json.dumps(right))
        is_scalar_of_array = isinstance(left, list) and not isinstance(right, list | dict)
        wanted = Document("array", (theirs,)) if is_scalar_of_array else theirs
        assert documents.contains(ours, theirs) is _holds(ours, wanted), (left, right)


@pytest.mark.parametrize("text", ['{"a": 1}', '["a", "b", 1, null]', '"a"', "1", "[]"])
def test_keys_of_json(text: str) -> None:
    """Of an object, of an array of strings, and of a string."""
    document = decode_document(text)
    for keys in ((), ("a",), ("b",), ("a", "b"), ("c", None), ("a", None), (None,)):
        array = Array((len(keys),), (1,), keys)
        given = [key for key in keys if key is not None]
        assert documents.has_any_key(document, array) is any(
            documents.has_key(document, key) for key in given
        )
        assert documents.has_all_keys(document, array) is all(
            documents.has_key(document, key) for key in given
        )
    assert documents.has_key(document, "a") is ("a" in text)


def test_a_large_value_is_made_once_until_it_is_forgotten() -> None:
    """Equal text is the same value; small texts are decoded each time."""
    made: list[str] = []

    def decode(text: str) -> str:
        made.append(text)
        return text

    large_values.keep(is_active=False)
    large_values.decoded(decode, "x" * 2_000)
    large_values.keep()
    for _ in range(3):
        large_values.decoded(decode, "x" * 2_000)
        large_values.decoded(decode, "y")
    assert len(made) == 1 + 1 + 3
    large_values.forget()
    large_values.decoded(decode, "x" * 2_000)
    large_values.forget()
    large_values.keep(is_active=False)
    assert len(made) == 1 + 1 + 3 + 1


def test_containment_that_compares_too_many_pairs_is_too_expensive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each array of one side is compared with each of the other; that is neither TRUE nor FALSE."""
    monkeypatch.setattr(documents, "_MAX_PAIRS", 10_000)
    left = decode_document(json.dumps([[2]] * 199 + [[1]]))
    assert documents.contains(left, decode_document(json.dumps([[1]] * 20)))
    with pytest.raises(TooExpensive):
        documents.contains(left, decode_document(json.dumps([[1]] * 200)))


def test_too_many_patterns_for_a_text_are_too_expensive() -> None:
    """Those of an array's column, of which each is tried."""
    patterns = vector(tuple(f"%{number}%" for number in range(1_000)))
    assert membership.matches_any(lambda _, __: False, "a" * 10_000, patterns) is False
    with pytest.raises(TooExpensive):
        membership.matches_all(lambda _, __: True, "a" * 1_000_000, patterns)
    assert membership.matches_any(lambda _, __: True, None, patterns) is None
