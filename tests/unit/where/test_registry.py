"""Operations are declared by signatures, which `pg_catalog.tsv` has to have."""

from __future__ import annotations

import pytest

from pgshapes.where.pg_catalog import FUNCTIONS, OPERATORS, TYPES_BY_NAME
from pgshapes.where.types.operation import inline
from pgshapes.where.types.registry import OPERATIONS, collect, operation_of, type_io

PLAIN = inline("{0} + {1}")


@pytest.mark.parametrize(
    "signature", ["text ^@@ text", "text ^@ int4", "^@ text", "text^@text", "lower(int4)", "uuid::int4"]
)
def test_a_signature_that_postgres_has_not_is_named(signature: str) -> None:
    with pytest.raises(LookupError, match="pg_catalog has no") as caught:
        collect({signature: PLAIN})
    assert signature in str(caught.value)


def test_a_signature_is_declared_once() -> None:
    with pytest.raises(LookupError, match="declared twice"):
        collect({"text || text": PLAIN}, {"text || text": PLAIN})


def test_what_is_declared_is_found_by_the_overload_that_was_chosen() -> None:
    """Operators and functions carry the signatures; casts are named by their types."""
    overloads = {one.signature for named in (OPERATORS, FUNCTIONS) for ones in named.values() for one in ones}
    casts = {signature for signature in OPERATIONS if "::" in signature}
    assert OPERATIONS.keys() - overloads == casts
    for signature in casts:
        assert all(type_io(TYPES_BY_NAME[name]) is not None for name in signature.split("::"))


@pytest.mark.parametrize(("version", "is_older"), [(0, False), (160_010, True), (170_000, False)])
def test_what_older_servers_do_differently(version: int, is_older: bool) -> None:
    """`server_version_num`; 0 is the newest."""
    newest = OPERATIONS["timestamp - timestamp"]
    assert newest.older is not None
    assert operation_of("timestamp - timestamp", version) == (newest.older[1] if is_older else newest)
