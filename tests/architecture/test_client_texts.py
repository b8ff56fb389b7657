"""Texts for clients are ours: nothing of what Postgres or the operating system said is put into them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import pgshapes
from pgshapes import errors
from pgshapes.errors import PgShapesError

SOURCE: Final = Path(pgshapes.__file__).parent
ANSWERING: Final = ("owner", "postgres", "shape_cache", "http_api", "gates", "routing", "shape_log", "tables")
MADE_FOR_CLIENTS: Final = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PgShapesError) and kind.is_for_clients
} | {"field", "known_refusal", "Obstacle"}
"""Classes and functions whose arguments clients read."""
FOREIGN: Final = {"message", "message_primary", "message_detail", "strerror", "diag", "args"}
FOREIGN_CALLS: Final = {"str", "repr", "_said"}
NUMERIC_FORMATS: Final = {ast.unparse(ast.parse(f'f"{spec}"')) for spec in (",", ".0f", ".1f", ".0%")}
NAMES_OF_ERRORS: Final = {"error", "failure", "cause", "refused", "refusal"}

ALLOWED: Final = {
    ("http_api/params.py", "_raw_shape"): "the client's own name of a table",
    ("http_api/reads.py", "carry_out"): "the message of a decision of ours",
    ("owner/creations.py", "as_failure"): "the message of a NotNow, which is for clients",
    ("owner/creations.py", "fail_again"): "the message of a NotNow, which is for clients",
    ("postgres/inspector.py", "_clause_error"): "the client's own clause, parsed and not executed",
    ("postgres/refusals.py", "refuse_clause"): "the client's own clause, parsed and not executed",
}


def foreign_texts(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Function and line of each text for clients that has a text of somebody else."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and _name(call.func) in MADE_FOR_CLIENTS:
                arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
                if any(_is_foreign(node) for one in arguments for node in ast.walk(one)):
                    yield function.name, call.lineno


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_foreign(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in FOREIGN
    if isinstance(node, ast.Call):
        return _name(node.func) in FOREIGN_CALLS
    return isinstance(node, ast.FormattedValue) and _name(node.value) in NAMES_OF_ERRORS


def test_no_text_of_somebody_else_is_sent_to_clients() -> None:
    found = {
        (str(path.relative_to(SOURCE)), function): line
        for part in ANSWERING
        for path in (SOURCE / part).rglob("*.py")
        for function, line in foreign_texts(ast.parse(path.read_text()))
    }
    assert {place: line for place, line in found.items() if place not in ALLOWED} == {}
    assert found.keys() == ALLOWED.keys()


def places_of_too_expensive() -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and _name(call.func) == "TooExpensive":
                yield f"{path.relative_to(SOURCE)}:{call.lineno}", call


def has_only_numbers(call: ast.Call) -> bool:
    """Whether the text is literal but for values in a format that only numbers have."""
    [text] = call.args
    if isinstance(text, ast.Constant):
        return True
    values = [part for part in getattr(text, "values", [None]) if not isinstance(part, ast.Constant)]
    formats = {ast.unparse(one.format_spec) for one in values if getattr(one, "format_spec", None)}
    return all(getattr(one, "format_spec", None) for one in values) and formats <= NUMERIC_FORMATS


def test_the_reason_of_a_clause_that_is_too_expensive_has_no_values_of_rows() -> None:
    places = list(places_of_too_expensive())
    assert len(places) > 1
    assert [place for place, call in places if not has_only_numbers(call)] == []


@pytest.mark.parametrize(
    ("raised", "is_ours"),
    [
        ('TooExpensive("long")', True),
        ('TooExpensive(f"{size:,} characters")', True),
        ('TooExpensive(f"{row} is long")', False),
        ('TooExpensive(f"{row:20} is long")', False),
        ("TooExpensive(str(row))", False),
    ],
)
def test_only_numbers_are_taken_for_numbers(raised: str, is_ours: bool) -> None:
    call = ast.parse(raised, mode="eval").body
    assert isinstance(call, ast.Call)
    assert has_only_numbers(call) is is_ours


@pytest.mark.parametrize(
    "raised",
    [
        'NotNow(f"failed: {error}")',
        'CreationFailed("failed: " + error.message)',
        'RequestError.field("where", str(error))',
        'RequestError(errors={"where": [error.diag.message_primary]})',
        "errors.NotReady(error.strerror)",
    ],
)
def test_the_check_finds_what_it_looks_for(raised: str) -> None:
    assert list(foreign_texts(ast.parse(f"def f(error):\n    raise {raised}"))) == [("f", 2)]


def test_a_text_of_the_database_or_the_disk_has_no_way_into_an_answer() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, PgShapesError) and not kind.is_for_clients:
            assert kind("secret path").client_text == kind.shown, name
