"""The shipped `pg_catalog.tsv` is what `tools/update_pg_catalog.py` makes from Postgres 18, and from older
versions but for a few rows of 14.
"""

from __future__ import annotations

import psycopg
import pytest
from tests.support.postgres.installations import postgres_of
from tools.update_pg_catalog import TARGET, VERSION, catalog_lines

DIFFERENT_IN_14 = {
    "T\t18\tchar\tb\tS\t0\t1002\t0",
    "T\t18\tchar\tb\tZ\t0\t1002\t0",
    "O\t##\t601\t628\t600\t1",
    "O\t##\t628\t603\t600\t1",
    "O\t<->\t603\t628\t701\t1",
    "O\t<->\t628\t603\t701\t1",
    "O\t@@\t0\t602\t600\t1",
    "C\t602\t600\te\tf",
}
"""The category of "char", and operators of geometric types, which no clause can use."""


def shipped() -> list[str]:
    return TARGET.read_text(encoding="ascii").splitlines()


def test_the_file_is_up_to_date() -> None:
    """`make pg-catalog` would not change it."""
    with postgres_of(VERSION) as server, psycopg.connect(server.url()) as connection:
        assert list(catalog_lines(connection)) == shipped()


@pytest.mark.each_postgres
def test_each_version_has_the_same_rows(sql: psycopg.Connection) -> None:
    """All but the header, which names the version."""
    difference = set(list(catalog_lines(sql))[1:]) ^ set(shipped()[1:])
    assert difference == (DIFFERENT_IN_14 if sql.info.server_version < 150000 else set())
