"""A follower on the Python client of this package."""

from __future__ import annotations

import asyncio

from tests.oracle.ddl.follower import Births, Standing
from tests.support.torture.checked_copy import Message
from tests.support.torture.definitions import Watched
from tests.support.torture.follower import PAUSE_S, Follower
from tests.support.torture.http_followers import REFUSED_PAUSE_S, http_client
from tests.support.torture.judge import Judge

from pgshapes.client import Backoff, ChangeMessage, ControlMessage, ShapeStream, StreamOptions
from pgshapes.client.messages import MUST_REFETCH
from pgshapes.client.messages import Message as ClientMessage
from pgshapes.errors import RequestError, WireError

LONGEST_PAUSE_S = 2.0


class ClientFollower(Follower):
    """`ShapeStream`, with its own retries."""

    kind = "client"

    def __init__(self, url: str, watched: Watched, judge: Judge, births: Births) -> None:
        super().__init__(url, watched, judge, births)
        self._http = http_client()

    async def close(self) -> None:
        await self._http.aclose()

    async def _follow(self) -> None:
        stream = self._open()
        while True:
            try:
                batch = await stream.next_batch()
            except RequestError as error:
                self.refuse(error.message)
                await asyncio.sleep(REFUSED_PAUSE_S)
                return
            except WireError as error:
                self._judge.violate("the client has ended", self.name, error.message)
                self.begin()
                await asyncio.sleep(PAUSE_S)
                return
            if any(isinstance(one, ControlMessage) and one.control == MUST_REFETCH for one in batch.messages):
                self.refetch()
            else:
                assert batch.position.handle is not None
                self.take(
                    batch.position.handle, batch.position.offset, [_plain(one) for one in batch.messages]
                )

    def _open(self) -> ShapeStream:
        self.begin()
        options = StreamOptions(
            parses_values=False,
            backoff=Backoff(initial_s=0.2, cap_s=LONGEST_PAUSE_S),
            on_retry=lambda reason, _: self.stand(Standing.UNAVAILABLE, reason),
            sleep=_sleep,
        )
        return ShapeStream(self._url, self.watched.query, options=options, http=self._http)


async def _sleep(delay_s: float) -> None:
    await asyncio.sleep(min(delay_s, LONGEST_PAUSE_S))


def _plain(message: ClientMessage) -> Message:
    if isinstance(message, ChangeMessage):
        return {"key": message.key, "value": message.value, "headers": message.headers}
    return {"headers": message.headers}
