"""The owner's counters as metric families. Keeps no counters itself."""

from __future__ import annotations

import time

from pgshapes.metrics.family import COUNTER, GAUGE, Family, counter, gauge, labelled
from pgshapes.owner.owner import Owner, Sources
from pgshapes.owner.replicator import Replicator
from pgshapes.owner.slot_watch import SlotWatch
from pgshapes.tables.mailbox import Mailbox, Outcome
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import TABLES


def owner_families(replicator: Replicator, mailbox: Mailbox, tables: Tables) -> list[Family]:
    """All families of the owner; those of creations and shapes once the shapes are loaded."""
    found = [
        *_mailbox(mailbox),
        *_tables(tables),
        *_sources(replicator.sources),
        *slot_families(replicator.slot_watch),
    ]
    if replicator.owner is not None:
        found += [*_creations(replicator.owner), *_snapshots(replicator.owner), *_shapes(replicator.owner)]
    return found


def _mailbox(mailbox: Mailbox) -> list[Family]:
    outcomes = {outcome.value: mailbox.outcomes[outcome] for outcome in Outcome}
    return [
        gauge("mailbox_depth", "Calls received and not yet done.", mailbox.depth),
        gauge("mailbox_high_water", "The greatest depth so far.", mailbox.high_water),
        labelled(COUNTER, "mailbox_calls", "Calls received.", "call", mailbox.calls),
        labelled(COUNTER, "mailbox_outcomes", "Calls by outcome.", "outcome", outcomes),
    ]


def _tables(tables: Tables) -> list[Family]:
    rows = {name: len(getattr(tables, name)) for name in TABLES}
    late = tables.broadcast.late_feeds
    return [
        labelled(GAUGE, "table_rows", "Rows of each table.", "table", rows),
        counter("links_late", "Times that a link did not acknowledge a removal within 100 ms.", late),
    ]


def _sources(sources: Sources) -> list[Family]:
    inspector, publication = sources.inspector, sources.publication
    return [
        counter("inspector_look_ups", "Look-ups in the system catalogs.", inspector.look_ups),
        counter("inspector_shared", "Requests that joined a look-up in flight.", inspector.shared_look_ups),
        gauge(
            "publication_waiting_tables", "Tables being added to the publication.", publication.waiting_tables
        ),
        counter(
            "publication_attempts", "Transactions that tried to alter the publication.", publication.attempts
        ),
        counter("publication_reads", "Reads of the publication's state.", publication.state_reads),
    ]


def slot_families(watch: SlotWatch) -> list[Family]:
    """What the replication slot keeps, and what holds it back."""
    holder = watch.holder
    held_s = {"nothing": 0.0} if holder is None else {holder.kind: max(time.time() - holder.since, 0.0)}
    about = "For how long the replication slot has been held back, and by what."
    found = [labelled(GAUGE, "slot_held_seconds", about, "held_by", held_s)]
    if watch.retained is not None:
        total, unconfirmed = watch.retained.total_bytes, watch.retained.unconfirmed_bytes
        found += [
            gauge("slot_retained_bytes", "WAL that the primary keeps for the slot.", total),
            gauge("slot_unconfirmed_bytes", "The part of it that is not acknowledged.", unconfirmed),
        ]
    return found


def _creations(owner: Owner) -> list[Family]:
    creations, counts = owner.creations, owner.creations.counts
    return [
        gauge("creations_now", "Creations that have begun or wait for a slot.", creations.running),
        gauge(
            "creations_in_progress",
            "Creations that hold a slot.",
            creations.slots.in_use,
        ),
        gauge("creations_queued", "Creations that wait for a slot.", creations.slots.waiting),
        counter("creation_calls", "Calls to create a shape or to wait for one.", counts.calls),
        counter("creation_calls_attached", "Calls that joined a creation in progress.", counts.attached),
        counter("creation_calls_refused", "Calls that were answered with a recent failure.", counts.refused),
        counter("creations_succeeded", "Shapes created.", counts.created),
        counter("creations_failed", "Creations that failed.", counts.failed),
        counter(
            "creations_skipped", "Creations not begun because every caller had disconnected.", counts.skipped
        ),
    ]


def _snapshots(owner: Owner) -> list[Family]:
    creator, counts = owner.creator, owner.creator.counts
    return [
        gauge("snapshots_starting", "Snapshots that wait for their first row.", creator.slots.in_use),
        gauge("snapshots_queued", "Creations that wait for a connection.", creator.slots.waiting),
        gauge("snapshots_writing", "Snapshots being written.", len(creator.writings)),
        counter("snapshots", "Snapshots taken for shapes.", counts.snapshots),
        counter(
            "snapshot_retakes",
            "Snapshots discarded because they did not see a delivered transaction.",
            counts.retakes,
        ),
        counter("table_lock_waits", "Attempts that found a table locked by old writers.", counts.lock_waits),
    ]


def _shapes(owner: Owner) -> list[Family]:
    return [gauge("routed_shapes", "Shapes that changes are routed to.", len(owner.router))]
