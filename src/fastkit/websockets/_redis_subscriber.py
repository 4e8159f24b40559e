"""What a process hears of Redis, over one connection after the other."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Container, Iterable
from contextlib import suppress

from fastkit.websockets._broker import BrokerError, OnMessage, OnState
from fastkit.websockets._redis_link import Connect, Link, LostError, batches, no_longer_than

__all__ = ("Subscriber",)

_logger = logging.getLogger("fastkit.websockets")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries to connect
_STABLE = 5.0  # seconds that a connection lasts before the pauses begin anew
_CHANNELS_AT_ONCE = 1000


class Subscriber:
    """A table of channels, and a task that keeps a connection subscribed to them."""

    def __init__(
        self,
        connect: Connect,
        *,
        timeout: float,
        prefix: str,
        on_message: OnMessage,
        on_state: OnState,
        restore: Callable[[], Awaitable[None]],
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._prefix = prefix
        self._on_message = on_message
        self._on_state = on_state
        # What else has to be there again before it is up.
        self._restore_others = restore
        # Why it is down, or was.
        self.reason = ""
        # Of each channel its topic, and the call that asked for it last.
        self._table: dict[bytes, tuple[str, object]] = {}
        # Those of them that Redis has acknowledged, now or before the connection was lost.
        self._acknowledged: set[bytes] = set()
        self._up = asyncio.Event()
        self._is_closed = False
        self._reported_down = False
        self._link = self._new_link()
        self._task = asyncio.get_running_loop().create_task(self._supervise())

    async def connected(self) -> Link:
        """Wait until it is up.

        Raises:
            BrokerError: It is closed.
        """
        if not self._is_closed:
            await self._up.wait()
        if self._is_closed:
            raise BrokerError("The broker is closed.")
        return self._link

    async def subscribe(self, topics: Collection[str]) -> None:
        """Wait until it is acknowledged, by the connection that there is then."""
        call = object()
        channels = {self.channel(topic): topic for topic in topics}
        for channel, topic in channels.items():
            self._table[channel] = topic, call
        try:
            await self._acknowledge(list(channels))
        except BaseException:
            self._remove(channel for channel in channels if self._owner(channel) is call)
            raise

    def unsubscribe(self, topics: Collection[str]) -> None:
        """From now on nothing of these is handed on."""
        self._remove([channel for channel in map(self.channel, topics) if channel in self._table])

    def channel(self, topic: str) -> bytes:
        """The channel's name in Redis."""
        return (self._prefix + topic).encode("utf-8", "surrogatepass")

    async def close(self) -> None:
        """End, which fails whoever waits."""
        self._is_closed = True
        self._up.set()
        self._task.cancel()
        await asyncio.wait([self._task])

    def _owner(self, channel: bytes) -> object:
        return self._table.get(channel, (None, None))[1]

    async def _acknowledge(self, channels: list[bytes]) -> None:
        while True:
            link = await self.connected()
            with suppress(LostError):
                await _subscribe(link, channels, self._table)
                link.check()
                self._acknowledged.update(self._table.keys() & channels)
                return
            # That it is lost may be known here before it is known there.
            await asyncio.sleep(_FIRST_PAUSE)

    def _remove(self, channels: Iterable[bytes]) -> None:
        removed = list(channels)
        for channel in removed:
            del self._table[channel]
            self._acknowledged.discard(channel)
        # After what was sent before, which may not be answered yet.
        for batch in batches(removed, _CHANNELS_AT_ONCE):
            self._link.post((b"UNSUBSCRIBE", *batch), answers_per_command=len(batch))

    def _new_link(self) -> Link:
        return Link(
            self._connect(), timeout=self._timeout, on_push=self._pushed, on_lost=self._went_down
        )

    async def _supervise(self) -> None:
        tries = 0
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._restore(self._link)
                await asyncio.wait([self._link.task])
            except Exception as error:  # whatever it is, it must not end this
                self._went_down(str(error) or repr(error))
            finally:
                await self._link.close()
            tries = 0 if clock() - began > _STABLE else tries + 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(tries, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            self._link = self._new_link()

    async def _restore(self, link: Link) -> None:
        await link.call((b"PING",))
        await _subscribe(link, list(self._acknowledged), self._acknowledged)
        with suppress(BrokerError):
            await no_longer_than(self._timeout, self._restore_others())
        link.check()
        self._came_up()

    async def _pushed(self, channel: bytes, payload: bytes) -> None:
        if (entry := self._table.get(channel)) is None:
            return
        try:
            await self._on_message(entry[0], payload)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise
            _logger.exception("A message from Redis could not be handled.")

    def _came_up(self) -> None:
        self._up.set()
        self.reason = ""
        if self._reported_down:
            self._reported_down = False
            _logger.info("Redis is back: WebSocket messages of other processes arrive again.")
        self._notify(is_up=True)

    def _went_down(self, reason: str) -> None:
        self.reason = reason
        if not self._reported_down:
            self._reported_down = True
            _logger.warning("WebSocket messages of other processes do not arrive: %s", reason)
        if self._up.is_set():
            self._up.clear()
            self._notify(is_up=False)

    def _notify(self, *, is_up: bool) -> None:
        try:
            self._on_state(is_up)
        except Exception:
            _logger.exception("The state of the broker could not be told.")


async def _subscribe(link: Link, channels: list[bytes], wanted: Container[bytes]) -> None:
    for batch in batches(channels, _CHANNELS_AT_ONCE):
        # Some may have been unsubscribed from since, by calls that came later.
        if left := [channel for channel in batch if channel in wanted]:
            await link.call((b"SUBSCRIBE", *left), answers_per_command=len(left))
