"""The kinds of statements that the oracle runs, and one statement with what it concerns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self


class Kind(Enum):
    """What a statement does, as far as rules tell statements apart."""

    CONTROL = "control"
    """BEGIN, COMMIT, ROLLBACK, SAVEPOINT …"""
    DML = "dml"
    TRUNCATE = "truncate"

    CREATE_TABLE = "create table"
    DROP_TABLE = "drop table"
    RENAME_TABLE = "rename table"
    SET_SCHEMA = "set schema"
    RENAME_SCHEMA = "rename schema"
    DROP_SCHEMA = "drop schema"

    ADD_COLUMN = "add column"
    DROP_COLUMN = "drop column"
    RENAME_COLUMN = "rename column"
    RETYPE = "alter type"
    RETYPE_USING = "alter type using"
    SAME_TYPE_USING = "alter to the same type using"
    SET_NOT_NULL = "set not null"
    DROP_NOT_NULL = "drop not null"
    DEFAULT = "set or drop default"
    SET_EXPRESSION = "set expression"
    DROP_EXPRESSION = "drop expression"
    STATISTICS = "set statistics"
    STORAGE = "set storage"

    ADD_CONSTRAINT = "add constraint"
    DROP_CONSTRAINT = "drop constraint"
    MOVE_KEY = "move key"
    IDENTITY = "replica identity"
    PARAMETERS = "storage parameters"
    CLUSTER_ON = "cluster on"
    ROW_SECURITY = "row security"
    INHERIT = "inherit"
    NO_INHERIT = "no inherit"

    ATTACH = "attach partition"
    DETACH = "detach partition"
    CREATE_PARTITION = "create partition"
    DROP_PARTITION = "drop partition"

    CREATE_TYPE = "create type"
    DROP_TYPE = "drop type"
    RENAME_TYPE = "rename type"
    ENUM_ADD = "enum add value"
    ENUM_RENAME = "enum rename value"
    ATTRIBUTE = "composite attribute"
    DOMAIN = "domain"

    INDEX = "index"
    VACUUM_FULL = "vacuum full"
    CLUSTER = "cluster"
    ANALYZE = "analyze"
    REINDEX = "reindex"
    COMMENT = "comment"
    PRIVILEGE = "privilege"

    PUBLICATION_LEAVE = "publication without a table"
    PUBLICATION_JOIN = "publication with a table"
    PUBLICATION_NARROW = "publication with a filter or column list"
    PUBLICATION_OPERATIONS = "publication operations"
    DROP_PUBLICATION = "drop publication"

    MIGRATION = "migration"
    """Whatever a migration does."""

    @property
    def is_ddl(self) -> bool:
        """Whether it counts as a statement of the run."""
        return self not in (Kind.CONTROL, Kind.DML)


OUTSIDE_TRANSACTIONS = frozenset({Kind.VACUUM_FULL, Kind.CLUSTER})
"""VACUUM cannot run in a transaction."""


@dataclass(frozen=True)
class Statement:
    """A statement; tables by full name, columns by name, as they are when it runs."""

    kind: Kind
    sql: str
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Columns whose values or description it changes, under their old and new names."""

    def as_json(self) -> dict[str, Any]:
        """The statement for a journal."""
        return asdict(self) | {"kind": self.kind.name}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """The statement of a journal."""
        tables, columns = tuple(record["tables"]), tuple(record["columns"])
        return cls(Kind[record["kind"]], record["sql"], tables, columns)


def control(sql: str) -> Statement:
    """BEGIN, COMMIT and the like."""
    return Statement(Kind.CONTROL, sql)
