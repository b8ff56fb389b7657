"""The tables that have shapes, and what the owner asks about them. Pure; `Router` adds and removes shapes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from pgshapes.model.relation import Part, Relation
from pgshapes.routing.relation_shapes import RelationShapes
from pgshapes.routing.routed_shape import RoutedShape


class RoutedTables:
    """Registered shapes by handle, and by the table that they are on."""

    def __init__(self) -> None:
        self._shapes: dict[str, RoutedShape] = {}
        self._relations: dict[int, RelationShapes] = {}
        """By oid of the table."""
        self._named: dict[tuple[str, str], set[int]] = {}
        """The oids of tables by the name that they had when they were last compared."""

    def __contains__(self, handle: str) -> bool:
        return handle in self._shapes

    def __len__(self) -> int:
        return len(self._shapes)

    def has_partitioned(self) -> bool:
        """Whether any shape is on a partitioned table, of which any relation may be a leaf."""
        return any(members.relation.kind == "p" for members in self._relations.values())

    def relation(self, relation_oid: int) -> Relation | None:
        """A root relation with the columns of its latest announcement."""
        members = self._relations.get(relation_oid)
        return members.relation if members else None

    def handles_of(self, relation_oid: int) -> tuple[str, ...]:
        """The shapes on a root relation."""
        relation = self._relations.get(relation_oid)
        return tuple(relation.members) if relation else ()

    def table_oids(self) -> set[int]:
        """The tables with shapes."""
        return set(self._relations)

    def newest_number(self, relation_oid: int) -> int:
        """The largest number of a shape on a table; 0 without shapes."""
        members = self._relations.get(relation_oid)
        return members.newest_number if members else 0

    def known_generation(self, handle: str) -> int | None:
        """The generation of the table with which a shape was last compared; None for an unknown shape."""
        shape = self._shapes.get(handle)
        return None if shape is None else shape.known.generation

    def handles_up_to(self, relation_oid: int, number: int) -> set[str]:
        """The shapes on a table with this number or a smaller one."""
        members = self._relations.get(relation_oid)
        if members is None:
            return set()
        return {handle for handle, shape in members.members.items() if shape.number <= number}

    def find_changed(
        self,
        current: Relation,
        handles: AbstractSet[str],
        is_empty: Callable[[Part], bool],
        *,
        is_listed: bool = True,
    ) -> dict[str, str]:
        """Those of these shapes that end on the table as it is now, each with the reason. `is_listed` is
        whether the publication names the table.
        """
        members = self._relations.get(current.oid)
        return members.find_changed(current, handles, is_empty, is_listed=is_listed) if members else {}

    def known_stamps(self, relation_oid: int) -> set[str]:
        """The stamps of a table with which its shapes were last compared."""
        return {known.stamp for known in self.known_relations(relation_oid)}

    def known_relations(self, relation_oid: int) -> list[Relation]:
        """A table as it was when its shapes were last compared with it, in each of its versions once."""
        members = self._relations.get(relation_oid)
        return members.known_relations() if members else []

    def has_moved_parts(self, current: Relation) -> bool:
        """Whether a part was attached or detached since a shape was created; not if it was only created."""
        members = self._relations.get(current.oid)
        return members is not None and members.has_moved_parts(current)

    def attached_parts(self, current: Relation) -> list[Part]:
        """The parts that were attached to a table since a shape was created on it, and may have had rows."""
        members = self._relations.get(current.oid)
        return members.attached_parts(current) if members else []

    def tables_named(self, schema: str, name: str) -> list[int]:
        """The oids of tables with shapes that had this name when they were last compared."""
        return list(self._named.get((schema, name), ()))
