"""The functions of the change path, and those that the scene of `raise_everywhere` does not call."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import Final

from tests.architecture.source import ROOT
from tests.support.seams.instrumented_source import functions_of

_EXCEPTIONS: Final = {
    "makes an object before the stream begins": """
        owner.change_path.ChangePath.__init__ owner.change_path.LogPublisher.__init__
        routing.announcements.Announcements.__init__
        routing.assembler.TransactionAssembler.__init__ routing.delivered.DeliveredTransactions.__init__
        routing.delivery.Delivery.__init__ routing.flush_boundary.FlushBoundary.__init__
        routing.metering.Meter.__init__ routing.outdated.OutdatedChanges.__init__
        routing.relation_shapes.RelationShapes.__init__ routing.router.Router.__init__
        routing.routed_tables.RoutedTables.__init__
        routing.type_history.TypeHistory.__init__""",
    "part of a creation or of a restart, which end for their own shape": """
        owner.change_path.LogPublisher.publish owner.change_path.LogPublisher.publish_tail
        routing.delivered.DeliveredTransactions.missing_from routing.delivery.release
        routing.outdated.OutdatedChanges.add routing.outdated.OutdatedChanges.release
        routing.relation_shapes.RelationShapes.add routing.relation_shapes.RelationShapes.bind_previous
        routing.routed_shape.RoutedShape.__post_init__ routing.routed_shape.RoutedShape.take_buffer
        routing.router.Router._add routing.router.Router.has_dropped routing.router.Router.is_complete
        routing.router.Router.register routing.router.Router.release routing.router.Router.restore
        routing.router.Router.skip_until
        routing.type_history.TypeHistory.since routing.type_history.has_alterable_type
        routing.wire_relation.is_published routing.wire_relation.published_relation""",
    "begins a stream, when no message is processed": """
        owner.change_path.ChangePath.connected routing.announcements.Announcements.keep
        routing.router.Router.stream_began""",
    "forgets dropped relations, in a task of its own or at a look at the system catalogs": """
        owner.change_path.ChangePath.forget routing.announcements.Announcements.forget
        routing.announcements.Announcements.without routing.assembler.TransactionAssembler.forget
        routing.relation_shapes.RelationShapes.forget_leaf routing.router.Router.forget_announcements
        routing.router.Router.unused_announcements""",
    "read by health, metrics, acknowledgements and calls, in tasks of their own": """
        owner.change_path.ChangePath.heard_at owner.change_path.ChangePath.obstacle
        owner.change_path.LogPublisher.unwritten routing.delivered.DeliveredTransactions.__len__
        routing.delivered.DeliveredTransactions.prune routing.delivered.DeliveredTransactions.unseen
        routing.flush_boundary.FlushBoundary.acknowledgeable routing.flush_boundary.FlushBoundary.processed
        routing.routed_tables.RoutedTables.__contains__ routing.routed_tables.RoutedTables.__len__
        routing.routed_tables.RoutedTables.relation routing.routed_tables.RoutedTables.table_oids
        routing.shape_index.ShapeIndex.__len__""",
    "the clock of a meter without limits, which tests have": "routing.metering._no_clock",
    "with Postgres 14 only": """
        routing.relation_shapes.RelationShapes.has_moved_parts
        routing.routed_tables.RoutedTables.has_moved_parts""",
    "for a row of 25 MB, which takes too long to look up": """
        routing.lookups.Bucket.shapes routing.lookups.Lookup.shapes""",
    "makes the error that ends the stream": "routing.assembler.TransactionAssembler._out_of_place",
}
"""By reason."""
EXCEPTIONS: Final = frozenset(chain.from_iterable(names.split() for names in _EXCEPTIONS.values()))


def defined() -> set[str]:
    """The functions of `routing` and of the change path. Lambdas are left out: they have no names."""
    source = ROOT / "src" / "pgshapes"
    return {
        name
        for path in (*(source / "routing").glob("*.py"), source / "owner" / "change_path.py")
        for name in functions_of(path.read_text(), ".".join(path.relative_to(source).with_suffix("").parts))
        if "<lambda" not in name
    }


def differences(visited: Collection[str]) -> list[str]:
    """What is wrong with the exceptions, given the functions that were called."""
    found, called = defined(), set(visited)
    return [
        *(f"not called and no exception: {name}" for name in sorted(found - called - EXCEPTIONS)),
        *(f"called, but an exception: {name}" for name in sorted(EXCEPTIONS & called)),
        *(f"an exception that does not exist: {name}" for name in sorted(EXCEPTIONS - found)),
    ]
