"""Random transactions of the writers. Pure: the same numbers give the same statements.

Statements do not depend on what the tables have, so that a seed repeats them whatever was lost with a
connection. Every transaction leaves the sum of the balances as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.support.torture.definitions import ACCOUNTS, FILL_ACCOUNTS, FUNDS

Draw = Callable[[Random], str]

IDS: Final = 300
MOVED: Final = 1000
"""A row whose key changes gets its id plus this, and back."""
TRUNCATE_SHARE: Final = 0.002
"""Of transactions: each makes all clients of a table refetch."""


@dataclass(frozen=True)
class Transaction:
    """Statements from BEGIN to COMMIT or ROLLBACK."""

    statements: tuple[str, ...]
    is_committed: bool
    truncates: frozenset[str] = frozenset()
    """The tables that are empty in it at some time."""


def draw_transaction(chance: Random) -> Transaction:
    """One transaction of one to eight statements."""
    is_committed = chance.random() > 0.06
    if chance.random() < TRUNCATE_SHARE:
        return _truncating(chance, is_committed)
    statements: list[str] = []
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        if chance.random() < 0.1:
            statements += ["SAVEPOINT s", _statement(chance), "ROLLBACK TO s"]
        if chance.random() < 0.05:
            statements += ["SAVEPOINT s", _statement(chance), "RELEASE s"]
        statements.append(_statement(chance))
    return Transaction(tuple(statements), is_committed)


def _truncating(chance: Random, is_committed: bool) -> Transaction:
    table = chance.choice(("items", "orders", "events", "things", "wide", "docs", "accounts"))
    after = (FILL_ACCOUNTS,) if table == "accounts" else ()
    return Transaction((f"TRUNCATE {table}", *after), is_committed, frozenset({table}))


def _statement(chance: Random) -> str:
    return chance.choice(_DRAWS)(chance)


def _items(chance: Random) -> str:
    row, tenant, n = chance.randint(1, IDS), chance.randint(1, 5), chance.randint(0, 1000)
    how = chance.random()
    if how < 0.35:
        pad = chance.choice(("NULL", "''", "'x'", f"repeat('x', {chance.randint(1, 400)})", "'yé\"''\\/'"))
        return (
            f"INSERT INTO items (id, tenant, n, pad) VALUES ({row}, {tenant}, {n}, {pad})"
            f" ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, n = excluded.n, pad = excluded.pad"
        )
    if how < 0.6:
        return f"UPDATE items SET n = {n}, tenant = {tenant} WHERE id = {row}"
    if how < 0.65:
        return f"UPDATE items SET n = NULL WHERE id = {row}"
    if how < 0.72:
        return f"UPDATE items SET n = n + 1 WHERE tenant = {tenant} AND id % 7 = {row % 7}"
    if how < 0.76:
        return (
            f"INSERT INTO items (id, tenant, n, pad) SELECT i, {tenant}, {n}, 'x' || i"
            f" FROM generate_series({row}, {row + 30}) i ON CONFLICT (id) DO NOTHING"
        )
    if how < 0.86:
        return _key_change(chance, "items", row)
    return f"DELETE FROM items WHERE id IN ({row}, {row + MOVED}, {(row * 7) % IDS})"


def _key_change(chance: Random, table: str, row: int) -> str:
    old, new = chance.choice(((row, row + MOVED), (row + MOVED, row)))
    return (
        f"UPDATE {table} SET id = {new} WHERE id = {old}"
        f" AND NOT EXISTS (SELECT FROM {table} WHERE id = {new})"
    )


def _orders(chance: Random) -> str:
    region, number = chance.choice(("eu", "us", "a/b", 'q"q')), chance.randint(1, 60)
    amount = chance.choice(("0", "100.5", "100.50", "1e-3", "99999999999999999999.5", f"{chance.random()}"))
    status = chance.choice(("'open'", "'OPEN'", "'closed'", "NULL", "''"))
    how = chance.random()
    if how < 0.45:
        return (
            f"INSERT INTO orders VALUES ('{region}', {number}, {amount}, {status})"
            " ON CONFLICT (region, number) DO UPDATE SET amount = excluded.amount, status = excluded.status"
        )
    if how < 0.75:
        return f"UPDATE orders SET status = {status}, amount = {amount} WHERE number = {number}"
    if how < 0.85:
        moved = f"SELECT FROM orders WHERE region = 'eu' AND number = {number}"
        return (
            f"UPDATE orders SET region = 'eu' WHERE region = 'us' AND number = {number}"
            f" AND NOT EXISTS ({moved})"
        )
    return f"DELETE FROM orders WHERE region = '{region}' AND number = {number}"


def _events(chance: Random) -> str:
    row, day = chance.randint(1, 120), chance.randint(0, 29)
    kind = chance.choice(("'a'", "'b'", "'c'", "NULL"))
    how = chance.random()
    if how < 0.45:
        return (
            f"INSERT INTO events VALUES ({row}, {day}, {kind}, {_document(chance)})"
            " ON CONFLICT (id, day) DO UPDATE SET kind = excluded.kind, payload = excluded.payload"
        )
    if how < 0.7:
        return f"UPDATE events SET payload = {_document(chance)}, kind = {kind} WHERE id = {row}"
    if how < 0.85:
        there = f"SELECT FROM events WHERE id = {row} AND day = {day}"
        first = f"(SELECT min(day) FROM events WHERE id = {row})"
        return f"UPDATE events SET day = {day} WHERE id = {row} AND day = {first} AND NOT EXISTS ({there})"
    return f"DELETE FROM events WHERE id = {row} AND day < {day}"


def _document(chance: Random) -> str:
    value: Any = chance.choice(
        ({"k": "1"}, {"k": 1, "a": [1, None]}, [], "text", None, {"é": {"k": "1"}}, 1.50)
    )
    return "NULL" if chance.random() < 0.15 else _literal(json.dumps(value))


def _things(chance: Random) -> str:
    code = f"c{chance.randint(1, 150)}"
    tags = chance.choice(
        ("NULL", "'{}'", "'{red}'", "'{red,blue,NULL}'", '\'{"a b","\\""}\'', "'{blue,red}'")
    )
    price = chance.choice(("NULL", "10.25", "10.250", "0", f"{chance.random() * 1000:.3f}", "'NaN'"))
    note = chance.choice(("NULL", "''", "'tab\t, line\n, \u2028'", f"'n{chance.randint(0, 9)}'"))
    how = chance.random()
    if how < 0.5:
        return (
            f"INSERT INTO things (code, tags, j, price, note)"
            f" VALUES ('{code}', {tags}, {_document(chance)}, {price}, {note}) ON CONFLICT (code)"
            " DO UPDATE SET tags = excluded.tags, j = excluded.j, price = excluded.price,"
            " note = excluded.note"
        )
    if how < 0.75:
        return f"UPDATE things SET tags = {tags}, j = {_document(chance)} WHERE code = '{code}'"
    if how < 0.85:
        new = f"{code}-{chance.randint(0, 1)}"
        there = f"SELECT FROM things WHERE code = '{new}'"
        return f"UPDATE things SET code = '{new}' WHERE code = '{code}' AND NOT EXISTS ({there})"
    return f"DELETE FROM things WHERE code LIKE '{code}%'"


def _accounts(chance: Random) -> str:
    """Each is one statement, so that a row that is missing changes nothing."""
    one, other = chance.sample(range(1, ACCOUNTS + 1), 2)
    extra, money = chance.randint(100, 140), chance.randint(1, FUNDS // ACCOUNTS // 4)
    how = chance.random()
    if how < 0.6:
        signed = f"CASE id WHEN {one} THEN -{money} ELSE {money} END"
        return f"UPDATE accounts SET balance = balance + {signed} WHERE id IN ({one}, {other})"
    if how < 0.75:
        opened = (
            f"INSERT INTO accounts VALUES ({extra}, {extra % 3}, {money})"
            " ON CONFLICT DO NOTHING RETURNING balance"
        )
        return (
            f"WITH opened AS ({opened}) UPDATE accounts"
            f" SET balance = balance - (SELECT coalesce(sum(balance), 0) FROM opened) WHERE id = {one}"
        )
    if how < 0.9:
        closed = f"DELETE FROM accounts WHERE id IN ({extra}, {extra + MOVED}) RETURNING balance"
        return (
            f"WITH closed AS ({closed}) UPDATE accounts"
            f" SET balance = balance + (SELECT coalesce(sum(balance), 0) FROM closed) WHERE id = {one}"
        )
    return _key_change(chance, "accounts", extra)


def _wide(chance: Random) -> str:
    row, n = chance.randint(1, 40), chance.randint(0, 100)
    how = chance.random()
    if how < 0.3:
        pieces = f"generate_series(1, {chance.randint(100, 400)}) i"
        big = f"(SELECT string_agg(md5((i * {n})::text), '') FROM {pieces})"
        return (
            f"INSERT INTO wide VALUES ({row}, {n}, {big})"
            " ON CONFLICT (id) DO UPDATE SET n = excluded.n, big = excluded.big"
        )
    if how < 0.8:
        return f"UPDATE wide SET n = {n} WHERE id = {row}"
    if how < 0.9:
        return _key_change(chance, "wide", row)
    return f"DELETE FROM wide WHERE id IN ({row}, {row + MOVED})"


def _docs(chance: Random) -> str:
    row, mood = chance.randint(1, 150), chance.choice(("'sad'", "'ok'", "'happy'", "NULL"))
    born = chance.choice(("NULL", "'infinity'", "'0044-03-15 BC'", f"'200{chance.randint(0, 9)}-06-15'"))
    score = chance.choice(("'NaN'", "'-Infinity'", "0.1", "-0", "1e-300", f"{chance.random()}"))
    how = chance.random()
    if how < 0.5:
        ref = f"'{chance.getrandbits(128):032x}'"
        return (
            f"INSERT INTO docs VALUES ({row}, {mood}, {born},"
            f" '2020-01-01Z'::timestamptz + {row} * interval '1h', {score}, {ref}) ON CONFLICT (id) DO UPDATE"
            " SET mood = excluded.mood, born = excluded.born, score = excluded.score"
        )
    if how < 0.8:
        return f"UPDATE docs SET mood = {mood}, score = {score} WHERE id = {row}"
    if how < 0.88:
        return _key_change(chance, "docs", row)
    return f"DELETE FROM docs WHERE id IN ({row}, {row + MOVED})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_DRAWS: Final[tuple[Draw, ...]] = (
    _items,
    _items,
    _accounts,
    _accounts,
    _orders,
    _events,
    _things,
    _wide,
    _docs,
)
