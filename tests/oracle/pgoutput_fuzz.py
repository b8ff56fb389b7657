"""Mutated messages of the replication stream, through the decoder and all of the owner, to logs in files.

`python -m tests.oracle.pgoutput_fuzz --messages 1000000` is a long run. What a real Postgres sends is
recorded, parts of it are mutated, and the owner follows them. A message is processed, or ends the shapes of
the relation that it names, or ends the stream with a `WireError` that says which message. There is no other
exception, no wait without an end and no half transaction in a log; nothing is acknowledged that was not sent
or is not durable; shapes on a table that no mutation names lose, double and reorder nothing; memory does not
grow. The seed reproduces the messages, apart from what Postgres chooses, such as positions and oids.
"""

from __future__ import annotations

import asyncio
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

import click
import structlog
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.wire.follower import SHAPES, Ended, Follower
from tests.support.wire.judge import Judge, read_log
from tests.support.wire.mutation import Mutation, Sent
from tests.support.wire.recording import Recording, Transaction, record

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import PgShapesError, WireError

CPU_S: Final = 20
"""Of one session, which takes milliseconds."""
GROWTH_MB: Final = 30.0
AGAIN: Final = 3
"""Transactions that are sent again without mutations."""
WARM_UP: Final = 20_000
"""Messages until caches are full."""
_MEMORY: Final = "/dev/shm"
_SAYS_WHERE: Final = re.compile(r"b'.+'|[A-Z]{4,}|change|XLogData|replication message")


class TooLong(BaseException):
    """A session did not end."""


class Fuzz:
    """Instances that follow mutated streams, one after another."""

    def __init__(self, recording: Recording, seed: int, folder: Path) -> None:
        self._recording = recording
        self._chance = random.Random(seed)
        self._mutation = Mutation(recording, self._chance)
        self._folder = folder
        self.messages = 0
        self.mutated = 0
        self.sessions = 0
        self.outcomes: Counter[str] = Counter()
        self.shape_errors: Counter[str] = Counter()
        self.violations: list[str] = []

    async def life(self, number: int) -> None:
        """One instance, which follows consecutive parts of the recording."""
        everything, folder = self._recording.transactions, self._folder / str(number)
        first = self._chance.randrange(len(everything) - 4)
        start_lsn = everything[first].final_lsn
        follower, judge = Follower(folder, self._recording, start_lsn), Judge(self._recording, start_lsn)
        try:
            while first < len(everything) and not self.violations:
                count = self._chance.choice((2, 4, 8, 20, 30))
                name = f"life {number}, {first}"
                first += await self._part(follower, judge, everything[first : first + count], name)
        finally:
            await follower.close()
            shutil.rmtree(folder, ignore_errors=True)

    async def _part(
        self, follower: Follower, judge: Judge, transactions: tuple[Transaction, ...], name: str
    ) -> int:
        """A session with mutations, and one without that sends some of what is missing; after an error by a
        new process. Returns how many of the transactions are done.
        """
        served = self._recording.served(follower.durability.recorded_lsn, transactions)
        sent = self._mutation.mutated(list(served), self._chance.choice((0.05, 0.5, 1.0, 2.0)))
        judge.connected()
        ended = await self._follow(follower, judge, sent)
        self._check_end(ended, judge, name)
        await self._check_logs(follower, judge, name)
        self.outcomes["shapes ended"] += follower.renew()
        if ended.error is not None or self._chance.random() < 0.2:
            await follower.restart()
        judge.connected()
        missing = [one for one in transactions if one.final_lsn >= follower.durability.recorded_lsn]
        rest = self._recording.served(0, missing[:AGAIN])
        ended = await self._follow(follower, judge, [Sent(one) for one in rest])
        if ended.error is not None:
            self._violate(f"{name}, again: a stream without mutations ended with {ended.error!r}")
        self._check_session(ended, judge, name)
        await self._check_logs(follower, judge, f"{name}, again")
        self.outcomes["shapes ended"] += follower.renew()
        return len(transactions) - len(missing[AGAIN:])

    async def _follow(self, follower: Follower, judge: Judge, sent: list[Sent]) -> Ended:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
        try:
            with structlog.testing.capture_logs() as logged:
                ended = await follower.follow(sent)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.sessions += 1
        read = ended.wire.read
        self.messages += len(read)
        self.mutated += sum(bool(one.mutation) for one in read)
        for one in read:
            judge.rule = judge.rule or judge.take(one.envelope)
        for event in logged:
            self._note(event.get("event", ""), event.get("exc_info"))
        return ended

    def _note(self, event: str, error: object) -> None:
        """Take up what was logged as an error."""
        if event.startswith("shapes ended") and isinstance(error, Exception):
            self.shape_errors[type(error).__name__] += 1
            if not isinstance(error, PgShapesError) and not _is_of_clause(error):
                self._violate(f"a shape has ended by {error!r}")
        elif error is not None or event in ("background task failed",):
            self._violate(f"{event}: {error!r}")

    def _check_end(self, ended: Ended, judge: Judge, name: str) -> None:
        last = ended.wire.current
        broken, error = judge.rule, ended.error
        if broken:
            self._violate(f"{name}: went on after: {broken}")
        if error is None:
            self.outcomes["processed to the end"] += 1
        elif not isinstance(error, WireError):
            self._violate(f"{name}: ended with {error!r}")
        else:
            assert last is not None
            self.messages += 1
            self.mutated += bool(last.mutation)
            self.outcomes[_without_numbers(error.message)] += 1
            if not _SAYS_WHERE.search(error.message):
                self._violate(f"{name}: does not say which message: {error.message}")
            if not judge.take(last.envelope) and not last.mutation:
                self._violate(f"{name}: {error.message}, at a message that breaks no rule: {last}")
        self._check_session(ended, judge, name)

    def _check_session(self, ended: Ended, judge: Judge, name: str) -> None:
        if ended.is_stuck:
            self._violate(f"{name}: does not go on")
        if ended.reconnects:
            self._violate(f"{name}: reconnects: {ended.reconnects}")
        if ended.wire.acknowledged > judge.claimed:
            self._violate(f"{name}: {ended.wire.acknowledged} acknowledged, {judge.claimed} sent")

    async def _check_logs(self, follower: Follower, judge: Judge, name: str) -> None:
        for number, (table, _, _) in enumerate(SHAPES):
            text = await follower.read(number)
            if text is None:
                if table == "bystander":
                    self._violate(f"{name}: a shape on the bystander ended")
                continue
            entries, problem = read_log(text, judge.committed)
            if problem:
                self._violate(f"{name}: log of {SHAPES[number]}: {problem}")
            if table == "bystander" and entries != judge.expected:
                self._violate(f"{name}: {SHAPES[number]} has {entries}, not {judge.expected}")

    def _violate(self, text: str) -> None:
        self.violations.append(text)


def _without_numbers(text: str) -> str:
    return re.sub(r"b'(.).*?'|[0-9A-F]+/[0-9A-F]+|0x[0-9a-f]+|\d+", lambda found: found[1] or "#", text)


def _is_of_clause(error: Exception) -> bool:
    """Whether a clause could not read a value, which is not a text of its type."""
    frames = traceback.extract_tb(error.__traceback__)
    is_evaluation = any(frame.filename == "<clause>" for frame in frames)
    return isinstance(error, (ValueError, ArithmeticError)) and is_evaluation


def _too_long(_: int, __: FrameType | None) -> None:
    raise TooLong(f"a session took more than {CPU_S} s of CPU")


def rss_mb() -> float:
    """The memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def fuzz(recording: Recording, seed: int, messages: int, report_every: int = 50_000) -> Fuzz:
    """Feed mutated messages until that many were processed; stops at the first violations."""
    before = signal.signal(signal.SIGVTALRM, _too_long)
    try:
        return await _fuzz(recording, seed, messages, report_every)
    finally:
        signal.signal(signal.SIGVTALRM, before)


async def _fuzz(recording: Recording, seed: int, messages: int, report_every: int) -> Fuzz:
    began, warm_mb, reported, number = time.monotonic(), 0.0, 0, 0
    with tempfile.TemporaryDirectory(
        prefix="pgoutput-fuzz-", dir=_MEMORY if Path(_MEMORY).is_dir() else None
    ) as folder:
        made = Fuzz(recording, seed, Path(folder))
        while made.mutated < messages and not made.violations:
            await made.life(number)
            number += 1
            if not warm_mb and made.mutated >= min(WARM_UP, messages // 2):
                warm_mb = rss_mb()
                print(f"memory {warm_mb:.0f} MB after {made.mutated:,} mutated messages", flush=True)
            if made.mutated - reported >= report_every:
                reported, took_s = made.mutated, time.monotonic() - began
                print(
                    f"{made.mutated:,} mutated of {made.messages:,} messages in {made.sessions:,} sessions,"
                    f" {made.mutated / took_s:.0f}/s, {rss_mb():.0f} MB",
                    flush=True,
                )
    end_mb = rss_mb()
    if warm_mb and end_mb - warm_mb > GROWTH_MB:
        made.violations.append(f"memory grew from {warm_mb:.0f} to {end_mb:.0f} MB")
    print(f"memory {warm_mb:.0f} MB when warm, {end_mb:.0f} MB at the end", flush=True)
    return made


def summary(made: Fuzz) -> str:
    """What became of the messages."""
    lines = [f"{made.mutated:,} mutated of {made.messages:,} messages, {made.sessions:,} sessions"]
    lines += [f"{count:9,}  {what}" for what, count in made.outcomes.most_common()]
    lines += [f"{count:9,}  errors of shapes: {what}" for what, count in made.shape_errors.most_common()]
    return "\n".join([*lines, *(f"VIOLATION {one[:2000]}" for one in made.violations)])


@click.command()
@click.option("--messages", default=1_000_000, help="How many mutated messages.")
@click.option("--seed", default=1)
def main(messages: int, seed: int) -> None:
    """Feed mutated messages of the replication stream to the owner."""
    with EmbeddedPostgres(settings=SERVER_SETTINGS) as postgres, fresh_database(postgres) as url:
        recording = asyncio.run(record(url))
    made = asyncio.run(fuzz(recording, seed, messages))
    print(summary(made))
    sys.exit(1 if made.violations else 0)


if __name__ == "__main__":
    main()
