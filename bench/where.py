"""`python -m bench.where`: what a WHERE clause costs per row, and what finding a row's shapes costs per
change.

No Postgres and no network: predicates and the index alone, in one thread. Budgets: 0.2 µs per evaluation
of an ILIKE clause, 5 µs per change whatever the number of equality shapes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench.proc import conditions
from tests.support.postgres.where_tables import RELATION, row

from pgshapes.model.change import Row
from pgshapes.routing.metering import Meter
from pgshapes.routing.shape_index import ShapeIndex
from pgshapes.where.clause import Predicate, clause_from_sql, prepare_clause

CLAUSES = {
    "equality": "i8 = 42",
    "equality and range": "i4 = 5 AND n > 10.5",
    "IN of 20": "u IN ("
    + ", ".join(f"'00000000-0000-0000-0000-{number:012d}'" for number in range(20))
    + ")",
    "ILIKE": "t ILIKE '%needle%'",
    "dates and OR": "tz >= '2024-01-01' AND tz < '2025-01-01' OR b IS NOT TRUE",
}
SAMPLE_S = 0.5


def main() -> None:
    """All figures, in order."""
    print(f"conditions: {conditions()}")
    rows = random_rows(1_000)
    evaluation(rows)
    making()
    for shapes in (1_000, 10_000):
        residual(shapes, rows)
    for shapes in (10, 1_000, 100_000):
        routing(shapes, rows)
    arrays(10_000)


def random_rows(count: int) -> list[Row]:
    """Rows of short texts and small numbers, one in ten values NULL."""
    pick = random.Random(1)
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "needle", "consectetur", "adipiscing", "elit", "sed"]
    return [
        row(
            i4=str(pick.randrange(10)),
            i8=str(pick.randrange(100_000)),
            n=f"{pick.randrange(10_000) / 100:.2f}",
            b=pick.choice("tf"),
            t=" ".join(pick.choice(words) for _ in range(4)).title(),
            u=f"00000000-0000-0000-0000-{pick.randrange(40):012d}",
            tz=f"202{pick.randrange(10)}-06-15 12:30:00+00",
            ta="{" + ",".join(pick.sample(words, 3)) + "}",
        )
        for _ in range(count)
    ]


def predicate(text: str) -> Predicate:
    """A clause over the bench's table."""
    return clause_from_sql(text, RELATION).compile(RELATION)


def rate(work: Callable[[], int]) -> float:
    """Units per second: the best of five samples."""
    best = 0.0
    for _ in range(5):
        started, units = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < SAMPLE_S / 5:
            units += work()
        best = max(best, units / spent)
    return best


def evaluation(rows: list[Row]) -> None:
    """ns per row of five clauses."""
    for name, text in CLAUSES.items():
        judge = predicate(text)

        def work(judge: Predicate = judge) -> int:
            matches = judge.matches
            for one in rows:
                matches(one)
            return len(rows)

        print(f"{name:20s} {1e9 / rate(work):6.0f} ns/row")


def making() -> None:
    """What a clause costs until it is ready, without the server's part."""
    texts = [f"i8 = {number} AND t ILIKE '%{number}%'" for number in range(500)]
    started = time.perf_counter()
    for text in texts:
        clause_from_sql(prepare_clause(text, {}, RELATION).authority_sql[7:].split(', "')[0], RELATION)
    print(f"making a clause twice  {(time.perf_counter() - started) / len(texts) * 1e6:6.0f} µs")
    started = time.perf_counter()
    try:
        prepare_clause("i4 = 1 OR " * 10_000 + "b", {}, RELATION)
    except Exception as refused:
        assert "Invalid" in str(refused)
    print(f"refusing 100 kB        {(time.perf_counter() - started) * 1e3:6.2f} ms")


def residual(shapes: int, rows: list[Row]) -> None:
    """Evaluations per second when no clause can be looked up and none is like another."""
    index: ShapeIndex[int] = ShapeIndex(Meter())
    for number in range(shapes):
        index.add(number, predicate(f"t ILIKE '%needle {number}%'"))

    def work() -> int:
        for one in rows[:5]:
            index.matching(one)
        return 5 * shapes

    print(f"{shapes:7d} ILIKE shapes    {rate(work) / 1e6:6.2f} M evaluations/s")


def routing(shapes: int, rows: list[Row]) -> None:
    """µs per change when every shape is an equality."""
    index: ShapeIndex[int] = ShapeIndex(Meter())
    started = time.perf_counter()
    for number in range(shapes):
        index.add(number, predicate(f"i8 = {number}" if number % 2 else f"i8 = {number} AND b"))
    added = (time.perf_counter() - started) / shapes

    def work() -> int:
        for one in rows:
            index.matching(one)
        return len(rows)

    print(f"{shapes:7d} equality shapes {1e6 / rate(work):6.2f} µs/change   add {added * 1e6:4.0f} µs")


def arrays(shapes: int) -> None:
    """µs per change when every shape asks for an element of an array."""
    index: ShapeIndex[int] = ShapeIndex(Meter())
    for number in range(shapes):
        index.add(number, predicate(f"ta @> ARRAY['w{number}']"))
    given = row(ta="{w1,w2,w3,w4}")

    def work() -> int:
        for _ in range(100):
            index.matching(given)
        return 100

    print(f"{shapes:7d} array shapes    {1e6 / rate(work):6.2f} µs/change")


if __name__ == "__main__":
    main()
