"""How long does a herd on one fresh shape take, and what does it cost the owner?

    python -m bench.herd --callers 500 --rows 10000
    python -m bench.herd --callers 2000 --rows 500
    python -m bench.herd --refusals 400     how soon are excess requests refused?
    python -m bench.herd --readiness 5000   how long are the event loop's turns when a cold start is over?

The server is the program as it is run; clients, server and Postgres share the machine. Counts come from
Postgres's log and from `/metrics`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psycopg
from tests.support.clients.herd import LOGGING_SETTINGS, Answer, Clients, Stage, stage

from pgshapes.embedded.server import EmbeddedPostgres

LIMIT_S = 120.0


@contextlib.contextmanager
def server(workers: int, **options: Any) -> Iterator[Stage]:
    """The server, and a Postgres of its own."""
    with (
        EmbeddedPostgres(settings=LOGGING_SETTINGS | {"shared_buffers": "256MB"}) as postgres,
        stage(postgres, workers, **({"module": "pgshapes.cli"} | options)) as found,
    ):
        yield found


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of all lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def show_conditions(workers: int) -> None:
    """Print the conditions of the measurement."""
    processes = f"a replicator and {workers} HTTP processes" if workers else "one process"
    load = os.getloadavg()[0]
    print(f"{processes}; {os.cpu_count()} cores shared with clients and Postgres, load {load:.1f} before;")
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}")


def show_memory(env: Stage) -> None:
    """Print the peak memory of each process of the server."""
    process = env.server.process
    assert process is not None
    pids = [process.pid, *(env.server.children() if env.workers else ())]
    peaks = []
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        peaks.append(next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024)
    print(f"  peak memory per process    {', '.join(f'{peak:.0f}' for peak in peaks)} MB")


def show_answers(answers: list[Answer], took_s: float) -> None:
    """Print the times and outcomes of the callers."""
    done = [answer.after_s for answer in answers if answer.status == 200]
    refused = sum(answer.status == 503 for answer in answers)
    sent = sum(answer.size for answer in answers)
    print(f"  all are done after         {took_s:.2f} s ({sent / 2**20:.0f} MB sent)")
    print(f"  p50 / p99                  {percentile(done, 0.5):.2f} s / {percentile(done, 0.99):.2f} s")
    print(f"  refused                    {refused}")
    print(f"  errors                     {len(answers) - len(done) - refused}")
    print(f"  handles                    {len({answer.handle for answer in answers if answer.handle})}")


def herd(env: Stage, callers: int, rows: int) -> None:
    """All request one new shape at once."""
    table = env.table(rows)
    with env.clients() as clients:
        clients.open([env.path(table)] * callers)
        begin = time.perf_counter()
        clients.send()
        answers = clients.collect(LIMIT_S)
        took_s = time.perf_counter() - begin
    print(f"{callers} callers of one fresh shape of {rows} rows")
    show_answers(answers, took_s)
    for call in ("create_or_wait_shape_handle", "resolve_shape"):
        print(f"  owner calls, {call:<28}{env.metric('mailbox_calls_total', call=call):.0f}")
    print(f"  mailbox high-water         {env.metric('mailbox_high_water'):.0f}")
    print(f"  snapshot queries           {env.snapshot_queries(table)}")
    show_memory(env)


def refusals(env: Stage, callers: int) -> None:
    """All ask for shapes of their own, whose creation has to wait; then a hundred more, at once and one by
    one.
    """
    table, room = env.table(10), 300
    with env.clients() as clients, env.clients() as late, env.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.open([env.path(table, where=f"id > {number}") for number in range(callers)])
        late.open([env.path(table, where=f"id < {number}") for number in range(100)])
        clients.send()
        env.until(lambda: env.metric("admission_refused_total") >= callers - room - env.workers, "it")
        env.until(lambda: env.metric("creations_now") >= room - env.workers, "the limit to be reached")
        late.send()
        answers = late.collect(LIMIT_S)
        singly = [request_alone(late, env.path(table, where=f"id = {number}")) for number in range(100)]
        writer.rollback()
        show_refusals(f"of {callers} at once", clients.collect(LIMIT_S))
        show_refusals("of 100 more at once, at the limit,", answers)
        show_refusals("of 100 more one by one", singly)


def request_alone(clients: Clients, path: str) -> Answer:
    """One request."""
    clients.ask([path])
    return clients.collect(LIMIT_S)[0]


def show_refusals(whom: str, answers: list[Answer]) -> None:
    """Print the times until the refusal, and the retry times."""
    refused = [answer for answer in answers if answer.status == 503]
    times = [answer.after_s * 1000 for answer in refused]
    back = sorted(answer.retry_after for answer in refused)
    print(f"{whom} {len(refused)} are refused, after (all of their process's requests being sent first)")
    print(f"  p50 / p99 / longest        {percentile(times, 0.5):.1f}", end=" / ")
    print(f"{percentile(times, 0.99):.1f} / {max(times):.1f} ms")
    print(f"  retry-after                {back[0]} … {back[-1]} s")


def readiness(env: Stage, callers: int) -> None:
    """All wait for a service that is not ready yet."""
    table = env.table(10)
    with psycopg.connect(env.server.database_url, autocommit=True) as holder, env.clients() as clients:
        holder.execute("SELECT pg_advisory_lock(hashtext(%s))", (env.server.slot,))
        env.server.launch()
        env.wait_until_up()
        clients.ask([env.path(table)] * callers)
        env.until(lambda: env.metric("readiness_parked") + env.metric("readiness_polling") == callers, "all")
        before = {kind: slow_turns(env, kind) for kind in ("late", "busy")}
        begin = time.perf_counter()
        holder.execute("SELECT pg_advisory_unlock_all()")
        answers = clients.collect(LIMIT_S)
        took_s = time.perf_counter() - begin
    print(f"{callers} requests wait for readiness")
    show_answers(answers, took_s)
    print("  times that the event loops kept a timer waiting for longer than (in brackets: busy themselves)")
    late, busy = slow_turns(env, "late"), slow_turns(env, "busy")
    for bound in late:
        counts = late[bound] - before["late"][bound], busy[bound] - before["busy"][bound]
        print(f"    {float(bound) * 1000:4.0f} ms                  {counts[0]:.0f} ({counts[1]:.0f})")


def slow_turns(env: Stage, kind: str) -> dict[str, float]:
    """How many samples of the loop were above each bound."""
    metrics, bounds = env.metrics(), ("0.025", "0.05", "0.1", "0.25")
    count = metrics.sum(f"loop_{kind}_seconds_count")
    return {bound: count - metrics.sum(f"loop_{kind}_seconds_bucket", le=bound) for bound in bounds}


@click.command()
@click.option("--callers", default=500, show_default=True)
@click.option("--rows", default=10_000, show_default=True)
@click.option("--refusals", "refused", type=int, help="Callers of shapes of their own.")
@click.option("--readiness", "waiting", type=int, help="Callers that come before the service is ready.")
@click.option("--workers", type=int, help="HTTP processes; default: 0, then cores − 1.")
def main(callers: int, rows: int, refused: int | None, waiting: int | None, workers: int | None) -> None:
    """See the module."""
    for count in (0, max(1, (os.cpu_count() or 1) - 1)) if workers is None else (workers,):
        show_conditions(count)
        if waiting is not None:
            long_wait = {
                "module": "tests.support.servers.herd_server",
                "options": {"ready_timeout_s": LIMIT_S},
            }
            with server(count, is_launched=False, **long_wait) as env:
                readiness(env, waiting)
            continue
        with server(count) as env:
            if refused is not None:
                refusals(env, refused)
            else:
                herd(env, callers, rows)


if __name__ == "__main__":
    main()
