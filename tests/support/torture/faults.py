"""The kinds of faults, by name. Each module of faults adds its own with `@fault`.

A fault strikes a world and heals it again: when it returns, nothing of it is left but its consequences.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from tests.support.torture.world import World

Strike = Callable[[World, Random], Awaitable[None]]


@dataclass(frozen=True)
class Form:
    """A kind of fault."""

    name: str
    group: str
    weight: float
    strike: Strike


FORMS: dict[str, Form] = {}


def fault(group: str, weight: float = 1.0) -> Callable[[Strike], Strike]:
    """Add a function as a kind of fault, under its own name."""

    def add(strike: Strike) -> Strike:
        name = strike.__name__
        FORMS[name] = Form(name, group, weight, strike)
        return strike

    return add


def weights(only: frozenset[str], without: frozenset[str]) -> dict[str, float]:
    """The kinds to draw from; `only` and `without` name kinds or groups."""
    return {
        form.name: form.weight
        for form in FORMS.values()
        if (not only or not only.isdisjoint({form.name, form.group}))
        and without.isdisjoint({form.name, form.group})
    }
