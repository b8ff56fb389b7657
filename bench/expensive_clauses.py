"""`python -m bench.expensive_clauses`: clauses that take long for a row of a megabyte.

For each: whether it is refused when it is made, or the processor time of routing one row to one shape, the
bound that was known from the clause, and how long other work waits at most while a transaction of two such
rows is routed to three shapes with clauses like it. No Postgres and no network: the router alone, in one
thread.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from bench.proc import conditions
from tests.support.postgres.where_tables import RELATION, row
from tests.support.seams.routing_samples import OLD_SNAPSHOT, definition

from pgshapes.errors import RequestError
from pgshapes.model.change import Change, Fragment, Operation, Row
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.metering import Meter
from pgshapes.routing.router import Router
from pgshapes.where.clause import Clause, prepare_clause

TEXT: Final = row(i4="1", i8="-1", t="a" * 1_000_000)
ACCENTS: Final = row(i4="1", i8="-1", t="é" * 1_000_000)
ITEMS: Final = row(i4="1", i8="-1", ia="{" + ",".join(map(str, range(200_000))) + "}")
NUMBERS: Final = row(i4="1", i8="-1", j=str(list(range(50_000))))


def _nested(levels: int) -> str:
    text = "t"
    for _ in range(levels // 2):
        text = f"lower(upper({text}))"
    return text


def _case(levels: int) -> str:
    text = "t LIKE '%a_b%'"
    for _ in range(levels):
        text = f"CASE WHEN t LIKE '%a_b%' THEN true ELSE {text} END"
    return text


class Case(NamedTuple):
    """A clause and the row that makes it expensive. `{}` is replaced by a number, for clauses like it."""

    name: str
    clause: str
    row: Row


CASES: Final = (
    Case("LIKE '%' + '_a' × 5000 + 'b%'", f"t LIKE '%{'_a' * 5000}b{{}}%'", TEXT),
    Case("LIKE '%' + '_a' × 200 + 'b%'", f"t LIKE '%{'_a' * 200}b{{}}%'", TEXT),
    Case("LIKE '%' + '_' × 20000 + 'b%'", f"t LIKE '%{'_' * 20000}b{{}}%'", TEXT),
    Case("LIKE '%' + '_a' × 5000 + 'b'", f"t LIKE '%{'_a' * 5000}b{{}}'", TEXT),
    Case("300 × <> ALL (200,000 items)", " AND ".join(["i8 <> ALL (ia)"] * 300) + " AND i4 <> {}", ITEMS),
    Case("300 × < ALL (200,000 items)", " AND ".join(["i8 < ALL (ia)"] * 300) + " AND i4 <> {}", ITEMS),
    Case("@> of 8,000 in 50,000 numbers", f"j @> '{list(range(8000))}' AND i4 <> {{}}", NUMBERS),
    Case("lower(upper(…)), 34 deep", f"{_nested(34)} = '{{}}'", ACCENTS),
    Case("25 nested CASE around a LIKE", f"{_case(25)} OR i4 = {{}}", TEXT),
    Case("400 words", " OR ".join(f"t LIKE '%word{n}{{0}}%'" for n in range(400)), TEXT),
)
SHAPES, ROWS = 3, 2


def made(case: Case, number: int) -> Clause:
    """A clause of the case. Raises RequestError when it is refused."""
    prepared = prepare_clause(case.clause.format(number), {}, RELATION)
    return prepared.confirm([expr.type.oid for expr in prepared._described])


def route(clauses: list[Clause], changed: Row, rows: int) -> tuple[float, float, int]:
    """Processor time of a transaction, the longest step, and how many shapes were ended."""
    router = Router(DeliveredTransactions(), meter=Meter(time.perf_counter, time.thread_time))
    for number, clause in enumerate(clauses):
        router.register(str(number), RELATION, definition(RELATION, ["i4"], clause.sql), clause)
        router.release(str(number), OLD_SNAPSHOT)
    changes = tuple(Change(Operation.INSERT, RELATION.oid, 2 * op, None, changed) for op in range(rows))
    rest: Fragment | None = Fragment(70, 100, 108, changes, True, True)
    began, longest, ended = time.thread_time(), 0.0, 0
    while rest is not None:
        step = time.thread_time()
        router.meter.begin_step()
        routed = router.route(rest)
        rest, ended = routed.rest, ended + sum(len(failure.shapes) for failure in routed.failures)
        longest = max(longest, time.thread_time() - step)
    return time.thread_time() - began, longest, ended


def main() -> None:
    """Print the table."""
    print(conditions())
    both = f"{ROWS} rows, {SHAPES} shapes"
    print(f"{'clause':32s} {'one row':>9s} {'bound':>9s} {both:>18s} {'others wait':>12s}")
    for case in CASES:
        try:
            clauses = [made(case, number) for number in range(SHAPES)]
        except RequestError as error:
            said = str(error.errors)
            print(f"{case.name:32s}   refused: {said[said.index('may take') : said.index(' for a row')]}")
            continue
        one, _, _ = route(clauses[:1], case.row, 1)
        total, longest, ended = route(clauses, case.row, ROWS)
        bound = clauses[0].compile(RELATION).cost.of_row(case.row)
        note = f"  {ended} shapes ended" if ended else ""
        print(f"{case.name:32s} {one:7.2f} s {bound:7.2f} s {total:16.2f} s {longest:10.2f} s{note}")


if __name__ == "__main__":
    main()
