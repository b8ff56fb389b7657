"""Draws statements other than DML, from all forms."""

from __future__ import annotations

from tests.oracle.ddl import forms_columns, forms_others, forms_partitions, forms_tables, forms_types
from tests.oracle.ddl.forms import FORMS, Draw
from tests.oracle.ddl.statements import Statement

MODULES = (forms_columns, forms_others, forms_partitions, forms_tables, forms_types)
"""Their forms are registered when they are imported."""


def draw_ddl(draw: Draw) -> Statement:
    """A random statement that is not DML."""
    usable = [one for one in FORMS if draw.version >= one.since]
    while True:
        chosen = draw.pick.choices(usable, [one.weight for one in usable])[0]
        made = chosen.make(draw)
        if made is not None and made.kind not in draw.without:
            return made
