"""A seed gives the same faults and statements; a journal gives them back; rules decide on refetches."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from random import Random

from tests.oracle.ddl.statements import Kind, Statement
from tests.support.torture import run
from tests.support.torture.definitions import WATCHED, Watched
from tests.support.torture.faults import FORMS, weights
from tests.support.torture.judge import NOT_COMPLETE, RECORDING_S, Judge
from tests.support.torture.plan import Batch, Draws, dealt, pieces, read_journal, writer_chance
from tests.support.torture.statements import draw_transaction

ALL = weights(frozenset(), frozenset())
NEVER = float("inf")


def test_a_seed_repeats_the_faults() -> None:
    batches = [Draws(3, ALL).batch(number) for number in range(1, 40)]
    assert batches == [Draws(3, ALL).batch(number) for number in range(1, 40)]
    assert batches != [Draws(4, ALL).batch(number) for number in range(1, 40)]
    assert {fault.kind for batch in batches for fault in batch.faults} >= {"kill", "ddl", "halt"}


def test_each_kind_is_dealt_once() -> None:
    runs = dealt(ALL, 3, hands=2, batches=2, every_s=2)
    faults = [len(batch.faults) for run in runs for batch in run]
    assert len(faults) == 4 and max(faults) - min(faults) <= 1
    assert sorted(fault.kind for run in runs for batch in run for fault in batch.faults) == sorted(ALL)
    assert runs == dealt(ALL, 3, hands=2, batches=2, every_s=2)
    assert runs != dealt(ALL, 4, hands=2, batches=2, every_s=2)


def test_a_seed_repeats_the_statements() -> None:
    one, again, other = (writer_chance(3, batch, 0) for batch in (1, 1, 2))
    first = [draw_transaction(one) for _ in range(50)]
    assert first == [draw_transaction(again) for _ in range(50)]
    assert first != [draw_transaction(other) for _ in range(50)]


def test_transactions_are_of_all_kinds() -> None:
    chance = Random(1)
    drawn = [draw_transaction(chance) for _ in range(5000)]
    text = " ".join(statement for one in drawn for statement in one.statements)
    for word in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "ROLLBACK TO", "RELEASE", "SET id =", "SET day ="):
        assert word in text
    assert any(not one.is_committed for one in drawn)
    assert any(one.truncates for one in drawn)


def test_kinds_are_chosen_by_name_and_by_group() -> None:
    assert run.MODULES
    assert set(weights(frozenset({"network", "kill"}), frozenset({"cut"}))) == {"kill"} | {
        form.name for form in FORMS.values() if form.group == "network" and form.name != "cut"
    }


def test_a_journal_gives_the_batches_back(tmp_path: Path) -> None:
    batches = list(map(Draws(3, ALL).batch, islice(range(1, 9), 5)))
    records = [{"event": "run", "options": {"seed": 3}}, *({"event": "batch"} | b.as_json() for b in batches)]
    journal = tmp_path / "journal"
    journal.write_text("".join(json.dumps(one) + "\n" for one in records) + '{"event": "bat')
    record = read_journal(journal)
    assert (record.options, record.batches, record.violations) == ({"seed": 3}, batches, {})
    assert record.until_failure() == batches
    with journal.open("w") as file:
        for one in [*records, *({"event": "violation", "what": w, "batch": 2} for w in "ab")]:
            file.write(json.dumps(one) + "\n")
    failed = read_journal(journal)
    assert failed.violations == {"a": 2, "b": 2}
    assert [one.number for one in failed.until_failure()] == [1, 2]


def test_what_a_client_repeats_is_counted() -> None:
    judge, told = Judge(), list[str]()
    judge.on_violation = lambda violation: told.append(str(violation))
    judge.begin_batch(1)
    judge.violate("lost", "a", "first")
    judge.struck.append("kill at 1.0 s (5)")
    for client in ("a", "b"):
        judge.violate("lost", client, "second")
    judge.begin_batch(2)
    judge.violate("lost", "a", "third")
    assert [one.rpartition(": ")[2] for one in told] == ["none", "kill at 1.0 s (5)", "none"]
    assert (len(judge.totals.violations), judge.totals.repeated) == (3, 1)
    assert judge.totals.whats() == {"lost": 3}


def test_faults_can_be_left_out() -> None:
    batch = Draws(3, ALL, faults=5).batch(1)
    assert pieces(list(batch.faults), 2) == [list(batch.faults[:2]), list(batch.faults[2:])]
    fewer = batch.without(batch.faults[1:])
    assert fewer.faults == batch.faults[:1]
    assert fewer.writes_s == batch.writes_s == batch.faults[-1].at_s, "writers go on for as long as before"
    assert Batch.from_json(fewer.as_json()) == fewer


def test_tables_and_shapes_are_many() -> None:
    assert len(WATCHED) >= 20
    assert len(set(map(str, WATCHED))) == len(WATCHED)
    assert Watched("items", "n = $1", ("a'b",)).shape.where == "n = 'a''b'"


def judged(judge: Judge, born: float, table: str = "items", handle: str = "h") -> str | None:
    """The rule of a refetch; None if there is none."""
    before = judge.totals.refetches.copy()
    judge.refetch(Watched(table), "a client", handle, born)
    judge.judge_refetches()
    rules = judge.totals.refetches - before
    return next(iter(rules), None)


def test_a_refetch_needs_a_reason_since_its_handle_was_born() -> None:
    judge = Judge()
    assert judged(judge, 0.0) is None
    judge.demand_tables("truncate", frozenset({"items"}))
    assert judged(judge, 0.0) == "truncate"
    assert judged(judge, 0.0, "orders") is None
    assert judged(judge, NEVER) is None
    judge.demand_statement(Statement(Kind.INDEX, "", ("public.orders",)))
    assert judged(judge, 0.0, "orders") is None
    judge.demand("the slot was dropped")
    assert judged(judge, 0.0, "orders") == "the slot was dropped"
    assert len(judge.totals.undemanded) == 4


def test_a_fault_may_end_what_was_never_complete() -> None:
    judge = Judge()
    assert judged(judge, 0.0) is None
    judge.disturb()
    assert judged(judge, 0.0) == NOT_COMPLETE
    judge.complete.add("h")
    assert judged(judge, 0.0) is None


def test_a_fault_may_end_what_was_complete_but_not_recorded() -> None:
    judge = Judge()
    judge.complete.add("h")
    born = time.monotonic()
    judge.disturb()
    assert judged(judge, born) == NOT_COMPLETE
    assert judged(judge, born - RECORDING_S) is None
    assert judged(judge, NEVER) is None
