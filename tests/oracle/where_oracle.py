"""The oracle of WHERE: random clauses over random rows, evaluated by Postgres and by pgshapes.

`python -m tests.oracle.where_oracle --pairs 1000000` is a long run against the embedded server. A pair is
one clause and one row. The result must be True exactly where Postgres says TRUE, and False where it says
FALSE or NULL or raises an error for the row. A clause that is refused is not a pair; refusals are counted by
reason. The rows are also routed to a shape of each clause, through the router with its index.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg
from psycopg import pq
from tests.oracle.routing import differences_in_routing
from tests.oracle.where_clauses import COLUMNS, ClauseWriter, GeneratedClause
from tests.oracle.where_values import MOODS, SINCE_15, random_value
from tests.support.postgres.installations import postgres_of

from pgshapes.errors import RequestError
from pgshapes.model.change import Row
from pgshapes.model.relation import Relation
from pgshapes.postgres.relation_sql import RELATION_BY_NAME, relation_from_row
from pgshapes.where.clause import Clause, clause_from_sql, prepare_clause

SETTINGS = (
    "SET bytea_output = 'hex'; SET DateStyle = 'ISO, DMY'; SET TimeZone = 'UTC';"
    "SET extra_float_digits = 1; SET IntervalStyle = 'iso_8601'"
)
ROWS = 40
"""Rows over which each clause is evaluated."""


@dataclass
class Totals:
    """The figures of a run."""

    clauses: int = 0
    pairs: int = 0
    true: int = 0
    errors: int = 0
    routed: int = 0
    """Pairs of clause and row that went through the router and its index."""
    invalid: int = 0
    """Clauses that the server refuses as well."""
    refused: Counter[str] = field(default_factory=Counter)
    generated_kinds: Counter[str] = field(default_factory=Counter)
    refused_kinds: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, other: Totals) -> None:
        """Add the figures of another run."""
        for name in ("clauses", "pairs", "true", "errors", "routed", "invalid"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.refused += other.refused
        self.generated_kinds += other.generated_kinds
        self.refused_kinds += other.refused_kinds
        self.differences += other.differences

    def report(self) -> str:
        """The figures as text."""
        refused = sum(self.refused.values())
        lines = [
            f"clauses {self.clauses}: invalid for the server too {self.invalid}, refused by us {refused}",
            f"pairs {self.pairs}: TRUE {self.true}, errors in Postgres {self.errors}, routed {self.routed}",
            f"differences {len(self.differences)}",
            "refusals by reason:",
            *(f"  {count:7d}  {reason}" for reason, count in self.refused.most_common(40)),
            "share of valid clauses refused, by what is in them:",
        ]
        for kind, count in sorted(self.generated_kinds.items()):
            lines.append(f"  {self.refused_kinds[kind] / count:6.1%} of {count:7d}  {kind}")
        return "\n".join(lines + self.differences[:20])


class Oracle:
    """One connection with one table of random rows."""

    def __init__(self, connection: psycopg.Connection, seed: int) -> None:
        self.connection = connection
        self.pick = random.Random(seed)
        connection.execute(SETTINGS)
        self._create_table()
        self.relation = self._relation()
        self._judged_clauses: list[tuple[Clause, list[bool]]] = []
        self.rows = self.fill()

    def _create_table(self) -> None:
        labels = ", ".join(f"'{label}'" for label in MOODS)
        self.connection.execute(
            f"DROP TABLE IF EXISTS things; DROP TYPE IF EXISTS mood; CREATE TYPE mood AS ENUM ({labels});"
            "DROP DOMAIN IF EXISTS age; CREATE DOMAIN age AS int4"
        )
        lengths = {"bpchar": "char(4)"}
        columns = [
            f"{name} {lengths.get(kind, kind[1:] + '[]' if kind.startswith('_') else kind)}"
            for kind, names in COLUMNS.items()
            for name in names
        ]
        self.connection.execute(f"CREATE TABLE things (id int PRIMARY KEY, {', '.join(columns)})")

    def _relation(self) -> Relation:
        found = self.connection.execute(RELATION_BY_NAME, ("public", "things")).fetchone()
        assert found is not None
        return relation_from_row(found)

    def fill(self) -> list[Row]:
        """New random rows; their texts as the output functions write them."""
        self.connection.execute("TRUNCATE things")
        kinds = [kind for kind, names in COLUMNS.items() for _ in names]
        for number in range(ROWS):
            values = [None if self.pick.random() < 0.12 else random_value(self.pick, kind) for kind in kinds]
            self._insert(number, kinds, values)
        result = self.connection.pgconn.exec_(b"SELECT * FROM things ORDER BY id")
        assert result.status == pq.ExecStatus.TUPLES_OK
        return [
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def _insert(self, number: int, kinds: list[str], values: list[str | None]) -> None:
        marks = ", ".join(f"${index + 2}" for index in range(len(kinds)))
        statement = f"INSERT INTO things VALUES ($1, {marks})".encode()
        given = [str(number), *values]
        encoded = [None if value is None else value.encode() for value in given]
        result = self.connection.pgconn.exec_params(statement, encoded)
        assert result.status == pq.ExecStatus.COMMAND_OK, result.error_message

    def run(self, pairs: int, until_s: float = float("inf")) -> Totals:
        """Evaluate random clauses until there are `pairs` pairs."""
        totals = Totals()
        while totals.pairs < pairs and time.monotonic() < until_s:
            for _ in range(200):
                self.judge(ClauseWriter(self.pick).write(), totals)
                if totals.pairs >= pairs:
                    break
            totals.differences += differences_in_routing(self.relation, self.rows, self._judged_clauses)
            totals.routed += len(self._judged_clauses) * len(self.rows)
            self._judged_clauses.clear()
            self.rows = self.fill()
        return totals

    def judge(self, made: GeneratedClause, totals: Totals) -> None:
        """Evaluate one clause over all rows."""
        if self.connection.info.server_version < 150_000 and f"{SINCE_15}'" in f"{made.text} {made.params}":
            return
        totals.clauses += 1
        params = {str(index + 1): value for index, value in enumerate(made.params)}
        answers = self._ask(made.text, made.params)
        try:
            prepared = prepare_clause(made.text, params, self.relation)
        except RequestError as refusal:
            self._note_refusal(made, refusal, answers, totals)
            return
        except Exception as error:
            totals.differences.append(f"{error!r}: {made.text} {made.params}")
            return
        described = self._describe(prepared.authority_sql)
        if isinstance(described, str):
            self._note_rejection(made, described, answers, totals)
            return
        totals.generated_kinds.update(made.kinds)
        try:
            clause = prepared.confirm(described)
        except RequestError as refusal:
            totals.differences.append(f"not confirmed: {made.text} {made.params} {refusal.errors}")
            return
        try:
            ours = self._judged(clause)
            again = self._judged(clause_from_sql(clause.sql, self.relation))
        except Exception as error:
            totals.differences.append(f"{error!r}: {made.text} {made.params}")
            return
        self._judged_clauses.append((clause, ours))
        self._compare(made, ours, answers, totals)
        self._compare(made, again, self._ask(clause.sql, []), totals, counts=False)

    def _judged(self, clause: Clause) -> list[bool]:
        matches = clause.compile(self.relation).matches
        return [matches(row) for row in self.rows]

    def _compare(
        self,
        made: GeneratedClause,
        ours: list[bool],
        answers: list[str | None] | str,
        totals: Totals,
        *,
        counts: bool = True,
    ) -> None:
        if isinstance(answers, str):
            if any(ours):
                totals.differences.append(f"server: {answers}; ours: taken: {made.text} {made.params}")
            return
        for row, mine, theirs in zip(self.rows, ours, answers, strict=True):
            if counts:
                totals.pairs += 1
                totals.true += theirs == "t"
                totals.errors += theirs is not None and theirs not in "tf"
            if mine is not (theirs == "t"):
                which = "" if counts else " (normalised)"
                shown = f"{made.text} {made.params} row {self._shown(row, made)}"
                totals.differences.append(f"Postgres {theirs}, ours {mine}{which}: {shown}")
                return

    def _shown(self, row: Row, made: GeneratedClause) -> dict[str, str | None]:
        words = set(re.findall(r"\w+", made.text))
        names = [column.name for column in self.relation.columns]
        return {name: text for name, text in zip(names, row, strict=True) if name in words}

    def _note_refusal(
        self, made: GeneratedClause, refusal: RequestError, answers: list[str | None] | str, totals: Totals
    ) -> None:
        if isinstance(answers, str):
            totals.invalid += 1
            return
        totals.generated_kinds.update(made.kinds)
        totals.refused_kinds.update(made.kinds)
        totals.refused[_reason(refusal)] += 1

    def _note_rejection(
        self, made: GeneratedClause, described: str, answers: list[str | None] | str, totals: Totals
    ) -> None:
        if isinstance(answers, str):
            totals.invalid += 1
            return
        totals.differences.append(f"the server rejects our SQL: {described}: {made.text} {made.params}")

    def _describe(self, sql: str) -> list[int] | str:
        pgconn = self.connection.pgconn
        result = pgconn.prepare(b"", sql.encode())
        if result.status != pq.ExecStatus.COMMAND_OK:
            return result.error_message.decode()
        described = pgconn.describe_prepared(b"")
        return [described.ftype(index) for index in range(described.nfields)]

    def _ask(self, text: str, params: list[str]) -> list[str | None] | str:
        """Postgres's answer for each row: t, f, None or an error. A text when it refuses the whole clause."""
        given = [value.encode() for value in params]
        statement = f"SELECT ({text}) FROM things ORDER BY id"
        result = self.connection.pgconn.exec_params(statement.encode(), given)
        if result.status == pq.ExecStatus.TUPLES_OK:
            if result.ftype(0) != 16:
                return "not a boolean"
            return [_text(result.get_value(row, 0)) for row in range(result.ntuples)]
        if self.connection.pgconn.prepare(b"", statement.encode()).status != pq.ExecStatus.COMMAND_OK:
            return result.error_message.decode()
        return self._ask_each(text, given)

    def _ask_each(self, text: str, given: list[bytes]) -> list[str | None] | str:
        empty = self.connection.pgconn.exec_params(f"SELECT ({text}) FROM things WHERE false".encode(), given)
        if empty.status != pq.ExecStatus.TUPLES_OK:
            return empty.error_message.decode()
        answers: list[str | None] = []
        for number in range(len(self.rows)):
            statement = f"SELECT ({text}) FROM things WHERE id = {number}"
            result = self.connection.pgconn.exec_params(statement.encode(), given)
            is_answer = result.status == pq.ExecStatus.TUPLES_OK
            answers.append(
                _text(result.get_value(0, 0)) if is_answer else "error " + result.error_message.decode()
            )
        return answers


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _reason(refusal: RequestError) -> str:
    text = next(iter(refusal.errors.values()))[0]
    text = re.sub(r"^At location \d+: ", "", text)
    return re.sub(r"(invalid syntax for type \w+):.*", r"\1", text, flags=re.DOTALL)[:110]


def main() -> int:
    """Run with the arguments of the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", type=int, default=16, help="Postgres, 14 to 18")
    parser.add_argument("--url", help="a server to ask instead of the embedded one; a table `things` is made")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}")
    started = time.monotonic()
    if chosen.url:
        totals = _run(chosen.url, chosen.seed, chosen.pairs)
    else:
        with postgres_of(chosen.version) as server:
            totals = _run(server.url(), chosen.seed, chosen.pairs)
    print(totals.report())
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if totals.differences else 0


def _run(url: str, seed: int, pairs: int) -> Totals:
    with psycopg.connect(url, autocommit=True) as connection:
        return Oracle(connection, seed).run(pairs)


if __name__ == "__main__":
    sys.exit(main())
