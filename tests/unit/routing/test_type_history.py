"""Since when types have their present state: readings in any order, additional labels, bounded memory."""

from __future__ import annotations

import pytest
from tests.support.seams.routing_samples import ITEMS

from pgshapes.model.relation import Relation, TypeDetail
from pgshapes.routing import type_history
from pgshapes.routing.type_history import TypeHistory, has_alterable_type

SAD, OK, FINE, NEW = (1, "sad 700"), (2, "ok 700"), (2, "fine 701"), (3, "new 702")


def items(*labels: tuple[int, str], type_oid: int = 90) -> Relation:
    """The table with an enum in the place of the column `title`."""
    details = (TypeDetail(type_oid, "e", labels),)
    columns = tuple(
        one._replace(type_oid=type_oid, type_details=details) if one.name == "title" else one
        for one in ITEMS.columns
    )
    return Relation(*ITEMS._replace(columns=columns))


def test_a_type_is_as_old_as_its_first_reading_in_this_state() -> None:
    history = TypeHistory()
    assert history.since(items(SAD, OK), {"title"}, 100) == 100
    assert history.since(items(SAD, OK), {"title"}, 200) == 100
    assert history.since(items(SAD, FINE), {"title"}, 300) == 300
    assert history.since(items(SAD, FINE), {"title"}, 400) == 300


def test_a_reading_that_is_noted_late_is_as_old_as_it_says() -> None:
    """A position is never too small for the state that was read; it may be too large."""
    history = TypeHistory()
    history.note(items(SAD, FINE), 300)
    assert history.since(items(SAD, OK), {"title"}, 250) == 250
    assert history.since(items(SAD, FINE), {"title"}, 400) == 400


def test_more_labels_are_the_same_state() -> None:
    history = TypeHistory()
    history.note(items(SAD, OK), 100)
    assert not history.lacks(items(SAD, OK, NEW))
    assert history.since(items(SAD, OK, NEW), {"title"}, 200) == 100
    assert history.since(items(SAD, OK), {"title"}, 300) == 100
    assert history.lacks(items(SAD, FINE, NEW))


def test_columns_that_are_not_used_do_not_count() -> None:
    history = TypeHistory()
    assert history.since(items(SAD), {"id", "grade"}, 100) == 0
    assert history.since(ITEMS, {"id", "title"}, 100) == 0
    assert not history.lacks(ITEMS)
    assert has_alterable_type(items(SAD), {"title"})
    assert not has_alterable_type(items(SAD), {"id"})


def test_a_forgotten_type_counts_as_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_history, "KEPT_TYPES", 2)
    history = TypeHistory()
    for number in (1, 2, 3):
        history.note(items(SAD, type_oid=number), number)
    assert [history.lacks(items(SAD, type_oid=number)) for number in (1, 2, 3)] == [True, False, False]
    assert history.since(items(SAD, type_oid=1), {"title"}, 100) == 100
