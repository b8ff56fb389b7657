"""20,000 seeded pairs of clause and row: evaluated as in Postgres, or refused."""

from __future__ import annotations

import os

import psycopg
import pytest
from tests.oracle.where_oracle import Oracle

PAIRS = 5_000
_FIRST = int(os.environ.get("PGSHAPES_ORACLE_SEED", "1000"))


@pytest.mark.parametrize("seed", range(_FIRST, _FIRST + 4))
def test_random_clauses_over_random_rows(seed: int, sql: psycopg.Connection) -> None:
    """There is no difference, and fewer than a fifth of the clauses are refused."""
    totals = Oracle(sql, seed).run(PAIRS)
    print(f"seed {seed}", totals.report())
    assert totals.pairs >= PAIRS and totals.routed >= PAIRS
    assert not totals.differences, totals.differences[:10]
    assert totals.refused.total() < 0.2 * totals.clauses
