"""Since which position in the WAL the values of types have the texts that they have now. Pure; owned by the
replicator's loop.

Invariant: a type was read in the noted state at the noted position or before. Its state does not return after
a change, because labels and attributes are read with the versions of their rows; so whoever reads it again in
this state knows that it was the same from that position on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Column, Relation, TypeDetail
from pgshapes.routing.relation_change import is_same_text

KEPT_TYPES: Final = 4096
"""Bounds the memory. A type that is forgotten counts as changed when it is read next."""


class _State(NamedTuple):
    details: tuple[TypeDetail, ...]
    since: Lsn


class TypeHistory:
    """The last known state of each type of a column, by oid."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def lacks(self, relation: Relation) -> bool:
        """Whether the types of the table's columns are not known in the state in which it was read."""
        return any(not self._has(column) for column in _alterable(relation))

    def note(self, relation: Relation, lsn: Lsn) -> None:
        """Note the types of a table; `lsn` is the insert position of the WAL at or after its reading."""
        for column in _alterable(relation):
            if not self._has(column):
                self._states.pop(column.type_oid, None)
                self._states[column.type_oid] = _State(column.type_details, lsn)
        while len(self._states) > KEPT_TYPES:
            del self._states[next(iter(self._states))]

    def since(self, relation: Relation, names: Collection[str], lsn: Lsn) -> Lsn:
        """The position from which on changes have the texts that these columns have in a reading of the
        table; `lsn` as in `note`. 0 if their texts cannot change.
        """
        self.note(relation, lsn)
        used = (column for column in _alterable(relation) if column.name in names)
        return max((self._states[column.type_oid].since for column in used), default=0)

    def _has(self, column: Column) -> bool:
        state = self._states.get(column.type_oid)
        return state is not None and _is_one_state(state.details, column.type_details)


def has_alterable_type(relation: Relation, names: Collection[str]) -> bool:
    """Whether the text of any of these columns may change without a change of the table."""
    return any(column.name in names for column in _alterable(relation))


def _alterable(relation: Relation) -> list[Column]:
    return [column for column in relation.columns if column.type_details]


def _is_one_state(one: tuple[TypeDetail, ...], other: tuple[TypeDetail, ...]) -> bool:
    """Whether the values that both states have are equal in text: an enum may have more labels in one."""
    return is_same_text(one, other) or is_same_text(other, one)
