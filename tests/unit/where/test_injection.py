"""5,000 hostile texts in every place where a text may go."""

from __future__ import annotations

import pytest
from tests.oracle.injection_fuzz import Broken, _check_source, _check_statement, relation, run


def test_hostile_texts_change_neither_statement_nor_source() -> None:
    """An accepted text is one value in one place when it is parsed again."""
    outcomes = run(5_000, seed=11)
    print("seed 11", outcomes)
    assert outcomes["taken"] > 4_000
    assert outcomes["refused"] > 1_000


@pytest.mark.parametrize(
    "sql", ['SELECT 1 FROM "x"."x"; DROP TABLE x', 'SELECT 1 FROM "y"."x"', "SELECT 1, 2"]
)
def test_the_check_of_statements_can_fail(sql: str) -> None:
    """A second statement, another table, another shape."""
    with pytest.raises((Broken, ValueError)):
        _check_statement(sql, relation("x", "x"), 1)


@pytest.mark.parametrize("source", ["print(1)", "k0.format(1)", "'text'", "import os"])
def test_the_check_of_sources_can_fail(source: str) -> None:
    """Unknown names, attributes, texts and statements."""
    with pytest.raises(Broken):
        _check_source(source)
