"""Encodes pgoutput messages, following the manual only, to test the decoder."""

from __future__ import annotations

from pgshapes.postgres.pgoutput_messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    RelationMessage,
    Truncate,
    Tuple,
    TypeMessage,
    Update,
)


def number(value: int, width: int) -> bytes:
    return value.to_bytes(width, "big", signed=value < 0)


def string(text: str) -> bytes:
    return text.encode() + b"\0"


def row(values: Tuple) -> bytes:
    out = number(len(values), 2)
    for value in values:
        if value is None:
            out += b"n"
        elif value is UNCHANGED:
            out += b"u"
        else:
            raw = value.encode()
            out += b"t" + number(len(raw), 4) + raw
    return out


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    match message:
        case Begin(final_lsn, commit_time, xid):
            return b"B" + number(final_lsn, 8) + number(commit_time, 8) + number(xid, 4)
        case Commit(commit_lsn, end_lsn, commit_time):
            return b"C\0" + number(commit_lsn, 8) + number(end_lsn, 8) + number(commit_time, 8)
        case Origin(lsn, name):
            return b"O" + number(lsn, 8) + string(name)
        case RelationMessage(oid, schema, name, identity, columns):
            out = b"R" + number(oid, 4) + string("" if schema == "pg_catalog" else schema)
            out += string(name) + identity.encode() + number(len(columns), 2)
            for column in columns:
                out += number(int(column.is_key), 1) + string(column.name)
                out += number(column.type_oid, 4) + number(column.typmod, 4)
            return out
        case TypeMessage(oid, schema, name):
            return b"Y" + number(oid, 4) + string(schema) + string(name)
        case Insert(oid, new):
            return b"I" + number(oid, 4) + b"N" + row(new)
        case Update(oid, identity, old, new):
            before = b"" if identity is None or old is None else identity.value.encode() + row(old)
            return b"U" + number(oid, 4) + before + b"N" + row(new)
        case Delete(oid, identity, old):
            return b"D" + number(oid, 4) + identity.value.encode() + row(old)
        case Truncate(oids, is_cascade, restarts_identity):
            options = is_cascade * 1 + restarts_identity * 2
            listed = b"".join(number(oid, 4) for oid in oids)
            return b"T" + number(len(oids), 4) + number(options, 1) + listed
        case LogicalMessage(is_transactional, lsn, prefix, content):
            head = b"M" + number(int(is_transactional), 1) + number(lsn, 8)
            return head + string(prefix) + number(len(content), 4) + content
