"""LIKE: every way to test a pattern finds what a plain comparison finds."""

from __future__ import annotations

import random

import pytest

from pgshapes.where.types.operation import TooExpensive
from pgshapes.where.types.patterns import compile_pattern, like


def _matches(text: str, pattern: str) -> bool:
    """Every way to divide the text, tried one by one."""
    reached = {0}
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            reached = set(range(min(reached), len(text) + 1)) if reached else set()
            continue
        wanted = next(characters) if character == "\\" else character
        is_any = character == "_"
        reached = {at + 1 for at in reached if at < len(text) and (is_any or text[at] == wanted)}
    return len(text) in reached


@pytest.mark.parametrize("seed", range(20))
def test_all_ways_to_test_a_pattern_agree(seed: int) -> None:
    """Random patterns, short ones and, with long pieces, those that no regular expression is made of."""
    pick = random.Random(seed)
    for _ in range(400):
        text = "".join(pick.choices("aab\n", k=pick.randrange(60)))
        size = pick.choice((4, 8, 30))
        pattern = "".join(
            pick.choices(("a", "b", "_", "%", "__", "aba", "\\%", "aa\n"), k=pick.randrange(size))
        )
        assert like(text, pattern) == _matches(text, pattern), (text, pattern)
        if "%" in pattern:
            start, _, end = text.partition("b")
            long = pattern.replace("%", "%" + "_" * 18 + "a", 1)
            subject = start + "b" * 18 + end
            assert like(subject, long) == _matches(subject, long), (subject, long)


@pytest.mark.parametrize(
    ("pattern", "is_match"),
    [
        ("%" + "_" * 20_000 + "b%", False),
        ("%" + "_" * 20_000 + "a%", True),
        ("%" + "_" * 200 + "b" + "_" * 700 + "%b", False),
        ("%" + "_a" * 5_000 + "b", False),
        ("_a" * 5_000 + "%", True),
        ("%" + "a" * 5_000 + "b%c%", False),
        ("%a" * 1_000 + "%", True),
    ],
)
def test_runs_of_one_character_wildcards_cost_no_search(pattern: str, is_match: bool) -> None:
    """No position of the text is compared with more than a short piece."""
    assert compile_pattern(pattern).searched <= 16
    assert like("a" * 100_000, pattern) is is_match


def test_a_pattern_of_a_column_that_would_take_minutes_is_too_expensive() -> None:
    """It is neither a match nor none."""
    with pytest.raises(TooExpensive):
        like("a" * 1_000_000, "%" + "_a" * 5_000 + "b%")
    with pytest.raises(TooExpensive):
        like("a" * 100_000, "%" + "a_" * 20_000 + "b%")
    assert not like("a" * 1_000, "%" + "a_" * 20_000 + "b%")
