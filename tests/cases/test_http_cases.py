"""The HTTP cases, one test each, with a real server and a real Postgres.

`http-cases.jsonl` describes the protocol as data. `NOT_PLAYED` lists the cases that are skipped, with the
reason; those that depend on another design are explained in `docs/compatibility.md`.
"""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import pytest
from tests.cases.matching import Mismatch, match
from tests.cases.player import play
from tests.support.servers.servers import Server

CASES: Final = [
    json.loads(line) for line in Path(__file__).with_name("http-cases.jsonl").read_text().splitlines()
]

STATE = "needs a server that is starting; tests/unit/http_api/test_app.py has every state"
SECRET = "needs a server with a secret; tests/unit/http_api/test_app.py has every combination"
SUBQUERY = "subqueries are refused"

NOT_PLAYED: Final = {
    "h005": STATE,
    "h007": STATE,
    "h009": "the connections of an idle server are not closed, so there is no such state",
    "h025": "needs a server that forbids deletion; tests/unit/http_api/test_delete.py has it",
    "h049": "a definition is checked against the table as it is now: 400 for a dropped column",
    "h071": "an offset beyond the end is answered with 503 or 409, never with 400",
    "h083": SUBQUERY,
    "h085": SUBQUERY,
    "h087": SUBQUERY,
    "h089": SUBQUERY,
    "h091": SUBQUERY,
    "h093": SUBQUERY,
    **{f"h{number}": SECRET for number in range(117, 134, 2)},
    "h135": "needs a server that connects as a role without rights on the table",
    "h139": "needs a server that cannot get its lock; tests/unit/http_api/test_herd.py has the answer",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case['id']} {case['name']}",
            marks=[pytest.mark.skip(NOT_PLAYED[case["id"]])] if case["id"] in NOT_PLAYED else [],
        )
        for case in CASES
    ],
)
def test_case(case: dict[str, Any], cases_server: Server, slow_cases: dict[str, Future[None]]) -> None:
    if case["id"] in slow_cases:
        slow_cases[case["id"]].result()
    else:
        play(case, cases_server.url, cases_server.database_url)


def test_every_case_that_is_not_played_exists() -> None:
    assert NOT_PLAYED.keys() <= {case["id"] for case in CASES}


@pytest.mark.parametrize(
    ("pattern", "value", "does_match"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"$exact": {"a": 1}}, {"a": 1, "b": 2}, False),
        ({"a": {"$absent": True}}, {"b": 1}, True),
        ({"a": {"$absent": True}}, {"a": 1}, False),
        ({"a": {"$any": True}}, {}, False),
        ([1], [1, 2], False),
        ("$known", "x", True),
        ({"$not": "$known"}, "x", False),
        ({"$plus": ["$number", 2]}, 7, True),
        ({"$re": "^a"}, "ba", False),
        ({"$set": ["a", "b"]}, "b, a", True),
        ({"$superset": ["a", "b"]}, "b", False),
        ({"$save": "new"}, 1, True),
    ],
)
def test_the_pattern_language(pattern: Any, value: Any, does_match: bool) -> None:
    bound = {"known": "x", "number": 5}
    if does_match:
        match(pattern, value, bound)
    else:
        with pytest.raises(Mismatch):
            match(pattern, value, bound)
