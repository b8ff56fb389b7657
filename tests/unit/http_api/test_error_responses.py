"""The response to every error class, and the one to all other exceptions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgshapes import errors
from pgshapes.errors import PgShapesError, RequestError
from pgshapes.http_api.error_responses import ANSWERS, FULL, SHORTAGE, error_response
from pgshapes.http_api.parameters import UnreadableBody

KNOWN = {"electric-internal-known-error": "true"}
NO_STORE = {"cache-control": "no-store", "surrogate-control": "no-store"}
JSON = {"content-type": "application/json; charset=utf-8"}
UNCACHED = {"cache-control": "max-age=0, private, must-revalidate"}
INTERNAL = {"error": "Internal server error"}
REFETCH = [{"headers": {"control": "must-refetch"}}]


def _all_classes(root: type[PgShapesError] = PgShapesError) -> set[type[PgShapesError]]:
    return {root}.union(*(_all_classes(child) for child in root.__subclasses__()))


def test_every_error_has_a_row_in_the_table() -> None:
    ours = {kind for kind in _all_classes() if kind.__module__ == errors.__name__}
    assert len(ours) > 10
    assert ours - ANSWERS.keys() == set()


@pytest.mark.parametrize(
    ("error", "status", "body", "own"),
    [
        (
            RequestError.field("offset", "can't be blank"),
            400,
            {"message": "Invalid request", "errors": {"offset": ["can't be blank"]}},
            JSON | NO_STORE,
        ),
        (RequestError("No", status=404), 404, {"message": "No"}, JSON | NO_STORE),
        (UnreadableBody("Bad", status=413), 413, {"error": "Bad"}, JSON | UNCACHED),
        (
            errors.Overloaded("Full", retry_after_s=7),
            503,
            {"code": "concurrent_request_limit_exceeded", "message": "Full"},
            JSON | NO_STORE | {"retry-after": "7", "electric-internal-known-error": "true"},
        ),
        (
            errors.NotReady("Lock", retry_after_s=5),
            503,
            {"message": "Lock"},
            JSON | NO_STORE | {"retry-after": "5"},
        ),
        (errors.NotNow("Wait"), 503, {"message": "Wait"}, JSON | NO_STORE | {"retry-after": "1"}),
        (
            errors.CreationFailed("Locked", retry_after_s=10, known=True),
            503,
            {"message": "Locked"},
            JSON | NO_STORE | {"retry-after": "10", "electric-internal-known-error": "true"},
        ),
        (
            errors.SchemaChanged("moved"),
            409,
            REFETCH,
            JSON | {"cache-control": "public, max-age=1, must-revalidate"},
        ),
        (
            errors.SourceError("gone"),
            503,
            {"code": "database_unreachable", "error": "Database is unreachable"},
            NO_STORE | {"retry-after": "10"},
        ),
        (errors.OwnerUnavailable("away"), 503, {"message": "away"}, JSON | NO_STORE | {"retry-after": "1"}),
        (errors.OwnerTimeout("slow"), 503, {"message": "slow"}, JSON | NO_STORE | {"retry-after": "1"}),
        (
            errors.ReplicaIdentityNotFull("s", 't"', relation_oid=1),
            503,
            {
                "message": '"s"."t""" is published without its old rows: run ALTER TABLE "s"."t""" REPLICA'
                " IDENTITY FULL"
            },
            JSON | NO_STORE | {"retry-after": "10", "electric-internal-known-error": "true"},
        ),
        (
            errors.StorageError("torn"),
            500,
            {"message": "Unable to retrieve shape log: The files of the shape cannot be used"},
            JSON | NO_STORE,
        ),
        (
            errors.CatalogueError("malformed: /a/path"),
            500,
            {"message": "The server cannot record shapes: its catalogue cannot be written"},
            JSON | NO_STORE,
        ),
        (
            errors.DiskFull("full: /a/path"),
            503,
            {"message": FULL},
            JSON | NO_STORE | KNOWN | {"retry-after": "10"},
        ),
        (
            errors.StorageShortage("files"),
            503,
            {"message": SHORTAGE},
            JSON | NO_STORE | KNOWN | {"retry-after": "2"},
        ),
        (
            errors.StorageFailing("EIO"),
            503,
            {"message": SHORTAGE},
            JSON | NO_STORE | KNOWN | {"retry-after": "2"},
        ),
        (errors.WireError("?"), 500, INTERNAL, UNCACHED),
        (errors.ConfigError("?"), 500, INTERNAL, UNCACHED),
        (PgShapesError("?"), 500, INTERNAL, UNCACHED),
        (ZeroDivisionError("secret"), 500, INTERNAL, UNCACHED),
    ],
)
def test_answers(error: Exception, status: int, body: Any, own: dict[str, str]) -> None:
    response = error_response(error, is_cacheable=True)
    assert isinstance(response.body, bytes)
    assert (response.status, json.loads(response.body)) == (status, body)
    assert {name.decode(): value.decode() for name, value in response.headers} == own


def test_error_responses_to_other_methods_are_not_cached() -> None:
    for error in (RequestError("x"), errors.NotNow("x"), errors.SchemaChanged("x")):
        kept = dict(error_response(error, is_cacheable=False).headers)
        assert kept[b"cache-control"] == b"no-cache"
        assert b"surrogate-control" not in kept


def test_an_unknown_subclass_is_answered_like_its_parent() -> None:
    class Novel(errors.NotNow):
        pass

    assert error_response(Novel("x"), is_cacheable=True).status == 503
