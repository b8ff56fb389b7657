"""A table is declared in one place; replicas, frames and metrics are made from the declaration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.architecture.source import ROOT

from pgshapes.tables.deltas import Rows
from pgshapes.tables.replica import TablesReplica
from pgshapes.tables.table import Table, TableReplica
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import TABLES, TablesReader

ONE_MORE = """
import asyncio, importlib.util, sys
from pathlib import Path

spec = importlib.util.find_spec("pgshapes.tables.tables_reader")
last = "    progress = TableOf(str, int)\\n"
source = Path(spec.origin).read_text()
assert source.count(last) == 1
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
exec(source.replace(last, last + "    moons = TableOf(tuple[str, int], float)\\n"), vars(module))

from tests.support.seams.links import Script, connecting, listening
from pgshapes.tables.tables import Tables

async def main(path):
    tables = Tables()
    tables.moons.put(("Io", 1), 1.77)
    async with listening(path, tables, Script()), connecting(path) as link:
        await link.connected()
        assert link.tables.moons[("Io", 1)] == 1.77
        tables.moons.put(("Europa", 2), 3.55)
        tables.moons.remove(("Io", 1))
        await link.barrier(timeout_s=10)
        print(dict(link.tables.moons.items()))

asyncio.run(main(Path(sys.argv[1])))
"""
"""A program whose source has one more declaration: a state and deltas go over a link."""


TYPED = """
from typing import assert_type
from pgshapes.model.relation import Relation
from pgshapes.tables.replica import TablesReplica
from pgshapes.tables.table import Table, TableReader
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import TablesReader

def reads(owners: Tables, callers: TablesReader, replica: TablesReplica) -> None:
    assert_type(owners.relations, Table[tuple[str, str], Relation])
    assert_type(callers.relations, TableReader[tuple[str, str], Relation])
    assert_type(replica.progress, TableReader[str, int])
    owners.progress.put("n", 1)

def writes(owners: Tables, callers: TablesReader) -> None:
    owners.progress.put("n", "text")
    callers.progress.put("n", 1)
"""
WRONG = (
    'Argument 2 to "put" of "Table" has incompatible type "str"; expected "int"',
    '"TableReader[str, int]" has no attribute "put"',
)


def test_types_are_exact_and_callers_see_no_put(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, text=True, timeout=200, check=False)
    *errors, _ = done.stdout.splitlines()
    assert len(errors) == len(WRONG), done.stdout
    for error, wrong in zip(errors, WRONG, strict=True):
        assert wrong in error


def test_one_more_table_is_one_more_declaration(socket_path: Path) -> None:
    command = [sys.executable, "-c", ONE_MORE, str(socket_path)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{('Europa', 2): 3.55}\n", "")


def test_every_declared_table_is_on_both_sides_and_in_the_frames() -> None:
    names = ("relations", "handles", "shapes", "tails", "creation_locks", "status", "progress")
    assert tuple(TABLES) == Rows.__struct_fields__ == names
    tables, replica = Tables(), TablesReplica()
    for name in names:
        assert type(getattr(tables, name)) is Table and getattr(tables, name).name == name
        assert type(getattr(replica, name)) is TableReplica


def test_reading_a_table_calls_nothing() -> None:
    """They are plain attributes: callers read several for each request."""
    for holder in (Tables(), TablesReplica()):
        assert set(TABLES) <= set(vars(holder))
    assert not hasattr(type(TABLES["tails"]), "__set__")


def test_a_reader_without_tables_raises() -> None:
    with pytest.raises(AttributeError, match="TablesReader has not set its table tails"):
        _ = TablesReader().tails
