"""The shipped `pg_catalog.tsv` is what `tools/update_pg_catalog.py` makes from Postgres 18, and from
Postgres 16.
"""

from __future__ import annotations

import psycopg
import pytest
from tools.update_pg_catalog import TARGET, VERSION, catalog_lines

from pgshapes.embedded.server import EmbeddedPostgres


def made_by(version: int) -> list[str]:
    with EmbeddedPostgres(version=version) as server, psycopg.connect(server.url()) as connection:
        return list(catalog_lines(connection))


def shipped() -> list[str]:
    return TARGET.read_text(encoding="ascii").splitlines()


def test_the_file_is_up_to_date() -> None:
    """`make pg-catalog` would not change it."""
    assert made_by(VERSION) == shipped()


@pytest.mark.parametrize("version", [16])
def test_an_older_server_has_the_same_rows(version: int) -> None:
    """All but the header, which names the version."""
    assert made_by(version)[1:] == shipped()[1:]
