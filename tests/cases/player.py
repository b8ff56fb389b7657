"""Runs an HTTP case: executes its statements, sends its requests, and checks the expectations.

`{{name}}` is replaced by a name that no other case uses. Objects that a case creates under such a name are
dropped at its end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import psycopg
from tests.cases.matching import MISSING, Bound, Mismatch, fill, match, matches, require

REQUEST_TIMEOUT_S: Final = 40
HEAD_START_S: Final = 0.4
"""The time for a request to reach its wait before the statements of `during` are executed. A slower request
finds the same changes; in a few cases they would then be in another response than expected."""
STREAM_TIMEOUT_S: Final = 10

_NAME = re.compile(r"\{\{(\w+)\}\}")
_numbers = itertools.count(1)


@dataclass
class Answer:
    """A response; `events` has the messages of a stream."""

    status: int
    headers: dict[str, str]
    text: str
    events: list[Any] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def play(case: dict[str, Any], url: str, database_url: str) -> None:
    """Run one case. Raises Mismatch when an expectation is not met."""
    suffix = f"c{next(_numbers)}"
    names: set[str] = set()
    case = _rename(case, suffix, names)
    with psycopg.connect(database_url, autocommit=True) as database, _dropping(database, names):
        for statement in case["setup"]:
            database.execute(statement)
        bound: Bound = {}
        for number, step in enumerate(case.get("steps", [case]), start=1):
            try:
                _play_step(step, bound, url, database)
            except Mismatch as mismatch:
                raise Mismatch(f"step {number}: {mismatch}") from None


def _rename(part: Any, suffix: str, names: set[str]) -> Any:
    def own(found: re.Match[str]) -> str:
        names.add(f"{found[1]}_{suffix}")
        return f"{found[1]}_{suffix}"

    if isinstance(part, str):
        return _NAME.sub(own, part)
    if isinstance(part, list):
        return [_rename(item, suffix, names) for item in part]
    if isinstance(part, dict):
        return {_rename(k, suffix, names): _rename(v, suffix, names) for k, v in part.items()}
    return part


@contextlib.contextmanager
def _dropping(database: psycopg.Connection, names: set[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for name, kind in itertools.product(sorted(names), ("table", "domain", "type")):
            with contextlib.suppress(psycopg.errors.WrongObjectType):
                database.execute(f"DROP {kind} IF EXISTS {name} CASCADE".encode())


def _play_step(step: dict[str, Any], bound: Bound, url: str, database: psycopg.Connection) -> None:
    for statement in step.get("sql", []):
        database.execute(fill(statement, bound))
    with ThreadPoolExecutor(1) as pool, _held_transaction(step, database):
        request = pool.submit(_send, fill(step["request"], bound), url)
        if "during" in step:
            time.sleep(HEAD_START_S)
            for statement in step["during"]:
                _meanwhile(statement, request, database)
        answer = request.result()
    _check(step["expect"], answer, bound)
    for name, source in step.get("save", {}).items():
        header = source.removeprefix("header:")
        if header in answer.headers:
            bound[name] = answer.headers[header]


def _meanwhile(statement: str, request: Future[Answer], database: psycopg.Connection) -> None:
    if not statement.startswith("@still-waiting"):
        database.execute(statement.encode())
        return
    time.sleep(int(statement.split()[1]) / 1000)
    require(not request.done(), "request", "was answered although nothing in the shape changed")


@contextlib.contextmanager
def _held_transaction(step: dict[str, Any], database: psycopg.Connection) -> Iterator[None]:
    if "held_transaction" not in step:
        yield
        return
    with psycopg.connect(database.info.dsn, password=database.info.password) as other:
        for statement in step["held_transaction"]:
            other.execute(statement)
        yield
        other.commit()


# --- requests


def _send(request: dict[str, Any], url: str) -> Answer:
    body = json.dumps(request["body"]) if "body" in request else request.get("body_text")
    arguments: dict[str, Any] = {
        "method": request["method"],
        "url": url + request["path"],
        "params": request.get("query") or None,
        "headers": request.get("headers", {}) | ({"content-type": "application/json"} if body else {}),
        "content": body,
    }
    with httpx.Client(timeout=REQUEST_TIMEOUT_S) as client:
        if request.get("sse"):
            with client.stream(**arguments) as response:
                return _read_stream(response)
        response = client.request(**arguments)
        return Answer(response.status_code, dict(response.headers), response.text)


def _read_stream(response: httpx.Response) -> Answer:
    answer = Answer(response.status_code, dict(response.headers), "")
    ends = time.monotonic() + STREAM_TIMEOUT_S
    for line in response.iter_lines():
        if line.startswith("data:"):
            answer.events.append(json.loads(line.removeprefix("data:")))
            if len(answer.events) > 1 and _is_up_to_date(answer.events[-1]):
                break
        if time.monotonic() > ends:
            break
    return answer


def _is_up_to_date(message: dict[str, Any]) -> bool:
    return bool(message.get("headers", {}).get("control") == "up-to-date")


# --- expectations


def _check(expect: dict[str, Any], answer: Answer, bound: Bound) -> None:
    status = expect["status"]
    require(answer.status == status, "status", f"is {answer.status}, should be {status}: {answer.text}")
    for name, pattern in expect.get("headers", {}).items():
        wanted = {"$absent": True} if pattern is None else pattern
        match(wanted, answer.headers.get(name, MISSING), bound, f"header {name}")
    for name, pattern in expect.get("json_headers", {}).items():
        match(pattern, json.loads(answer.headers.get(name, "null")), bound, f"header {name}")
    for kind, check in _CHECKS.items():
        if expect.get(kind) is not None:
            check(expect[kind], answer, bound)


def _body_text(text: str, answer: Answer, bound: Bound) -> None:
    require(answer.text == text, "body", f"is {answer.text!r}, should be {text!r}")


def _body_contains(parts: list[str], answer: Answer, bound: Bound) -> None:
    for part in parts:
        require(part in answer.text, "body", f"lacks {part!r}: {answer.text}")


def _body(pattern: Any, answer: Answer, bound: Bound) -> None:
    match({"$exact": pattern}, answer.json, bound, "body")


def _body_like(pattern: Any, answer: Answer, bound: Bound) -> None:
    match(pattern, answer.json, bound, "body")


def _events_like(pattern: Any, answer: Answer, bound: Bound) -> None:
    match(pattern, answer.events, bound, "events")


def _includes(patterns: list[Any], answer: Answer, bound: Bound) -> None:
    for pattern in patterns:
        found = any(matches(pattern, message, bound) for message in answer.json)
        require(found, "messages", f"none is like {pattern}: {answer.text}")


def _excludes(patterns: list[Any], answer: Answer, bound: Bound) -> None:
    for pattern in patterns:
        found = any(matches(pattern, message, bound) for message in answer.json)
        require(not found, "messages", f"one is like {pattern}: {answer.text}")


_CHECKS: Final[dict[str, Callable[[Any, Answer, Bound], None]]] = {
    "body_text": _body_text,
    "body_contains": _body_contains,
    "body": _body,
    "body_subset": _body_like,
    "messages": _body_like,
    "sse_messages": _events_like,
    "messages_include": _includes,
    "messages_exclude": _excludes,
}
