"""Checks of what streaming needs: a slot, a walsender, and no old transaction. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgshapes.doctor.facts import Facts, Needs, OpenTransaction, ServerFacts, SlotFacts
from pgshapes.doctor.finding import Finding, fails, warns, works
from pgshapes.doctor.printable import shown_size, shown_time
from pgshapes.model.quoting import quote_literal

LONG_S: Final = 5.0
"""From this age on an open transaction is reported: ordinary ones have ended by then."""
MUCH_WAL: Final = 2**30
_SHOWN: Final = 5


def check_replication(facts: Facts, needs: Needs) -> Iterator[Finding]:
    """Slots, walsenders, and the transactions that a new slot waits for."""
    ours = next((slot for slot in facts.slots if slot.name == needs.slot), None)
    yield _slots_left(facts, has_slot=ours is not None)
    yield _senders_left(facts.server, is_streaming=ours is not None and ours.active_pid is not None)
    yield _our_slot(ours, needs) if ours is not None else works("slot", f"{needs.slot} will be created")
    yield from _other_slots(facts.slots, needs)
    yield from _transactions(facts, has_slot=ours is not None)


def _slots_left(facts: Facts, *, has_slot: bool) -> Finding:
    server = facts.server
    free = server.max_slots - server.used_slots
    text = f"{free} of {server.max_slots} replication slots are free"
    if free > 0 or has_slot:
        return works("slots", text)
    idle = [slot.name for slot in facts.slots if slot.active_pid is None]
    unused = f", or drop one that nobody needs (not in use now: {_listed(idle)})" if idle else ""
    return fails(
        "slots",
        f"{text}: run this and restart Postgres{unused}",
        f"ALTER SYSTEM SET max_replication_slots = {server.max_slots + 5};",
    )


def _senders_left(server: ServerFacts, *, is_streaming: bool) -> Finding:
    free = server.max_senders - server.used_senders
    text = f"{free} of {server.max_senders} walsenders are free"
    if free > 0 or is_streaming:
        return works("walsenders", text)
    return fails(
        "walsenders",
        f"{text}: run this and restart Postgres",
        f"ALTER SYSTEM SET max_wal_senders = {server.max_senders + 5};",
    )


def _our_slot(slot: SlotFacts, needs: Needs) -> Finding:
    if not slot.is_in_this_database or slot.plugin != "pgoutput":
        place = "this database" if slot.is_in_this_database else f"database {slot.database}"
        return fails(
            "slot",
            f"{slot.name} is of {slot.plugin or 'physical replication'} in {place}:"
            " set another replication_stream_id",
        )
    drop = f"SELECT pg_drop_replication_slot({quote_literal(slot.name)});"
    if slot.wal_status == "lost":
        text = "has lost its WAL: it is dropped and created again at the next start, with all shapes"
        return warns("slot", f"{slot.name} {text}", drop)
    if slot.is_two_phase:
        text = "was created with two_phase: it is created again at the next start, with all shapes"
        return warns("slot", f"{slot.name} {text}", drop)
    state = "not in use" if slot.active_pid is None else f"in use by walsender {slot.active_pid}"
    text = f"{slot.name} is {state}, retains {shown_size(slot.retained)} of WAL"
    if slot.wal_status == "unreserved":
        return warns("slot", f"{text}, and is lost at the next checkpoint: start the server")
    if slot.retained >= MUCH_WAL:
        return warns("slot", f"{text}: start the server, or see why it is behind")
    return works("slot", text)


def _other_slots(slots: tuple[SlotFacts, ...], needs: Needs) -> Iterator[Finding]:
    for slot in slots:
        if slot.name != needs.slot and slot.active_pid is None and slot.retained >= MUCH_WAL:
            text = f"{slot.name} is not in use and retains {shown_size(slot.retained)} of WAL:"
            drop = f"SELECT pg_drop_replication_slot({quote_literal(slot.name)});"
            yield warns("slot", f"{text} drop it if nobody needs it", drop)


def _transactions(facts: Facts, *, has_slot: bool) -> Iterator[Finding]:
    old = [each for each in facts.transactions if each.gid is not None or (each.age_s or 0.0) >= LONG_S]
    for each in old[:_SHOWN]:
        yield _blocking(each, has_slot=has_slot)
    if len(old) > _SHOWN:
        yield warns("transactions", f"{len(old) - _SHOWN} more have been open for {shown_time(LONG_S)}")
    if not old:
        hidden = sum(each.age_s is None for each in facts.transactions)
        unseen = f", as far as this role may know (pg_read_all_stats shows {hidden} more)" if hidden else ""
        yield works("transactions", f"none has been open for {shown_time(LONG_S)}{unseen}")


def _blocking(open_: OpenTransaction, *, has_slot: bool) -> Finding:
    waiting = "the first shape on a table that it wrote to waits for its end"
    if not has_slot:
        waiting = "the creation of the slot waits for its end"
    age = f" for {shown_time(open_.age_s)}" if open_.age_s is not None else ""
    whose = f"of {open_.owner} in database {open_.database}"
    if open_.gid is None:
        text = f"process {open_.pid} {whose} has had a transaction open{age}: {waiting}"
        return warns("transactions", text, f"SELECT pg_terminate_backend({open_.pid});")
    report = warns if has_slot else fails
    text = f"transaction {open_.gid} {whose} has been prepared{age}: {waiting}"
    gid = quote_literal(open_.gid)
    return report("transactions", text, f"COMMIT PREPARED {gid}; -- or ROLLBACK PREPARED {gid};")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
