"""`RedisBroker`: what is broadcast in one process reaches the others over Redis."""

import asyncio
from collections.abc import Awaitable, Collection
from contextlib import suppress

from fastkit._extras import requires
from fastkit.websockets._broker import BrokerError, Member, OnMessage, OnState

with requires("redis", by="fastkit.websockets.redis", module="redis", install="redis"):
    from fastkit.websockets._redis_link import Connect, Pipeline, connector, no_longer_than
    from fastkit.websockets._redis_presence import Presence
    from fastkit.websockets._redis_subscriber import Subscriber

__all__ = ("RedisBroker",)


class RedisBroker:
    """Carries what is broadcast over the channels of one Redis, with two connections per process.

    When Redis or the network fails it connects again, by the URL, and subscribes to what it had
    subscribed to. What was published in between is lost to this process, which the manager is
    told. After a failover the URL has to lead to the new master: a name or a proxy does, Sentinel
    itself is not asked. A Redis Cluster carries messages, but cannot tell who is in a room.

    Channels are the same in all databases of a Redis, whatever number is in the URL: two apps on
    one Redis need a prefix each.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with the options of redis-py's connections.
        prefix: Begins every channel and key.
        timeout: Seconds anything may take before it is a `BrokerError`. A connection that is
            silent for so long is given up.

    Raises:
        ValueError: The URL is none, or the timeout is not positive.
    """

    def __init__(self, url: str, /, *, prefix: str = "fastkit:ws:", timeout: float = 5.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout={timeout!r} leaves no time: pass a number above 0.")
        self._connect = connector(url, timeout)
        self._prefix = prefix
        self._timeout = timeout
        self._on_message: OnMessage | None = None
        self._session: _Session | None = None

    async def start(self, on_message: OnMessage, on_state: OnState, /) -> None:
        """As `Broker` says.

        Raises:
            RuntimeError: It belongs to another manager.
        """
        if self._on_message not in (None, on_message):
            raise RuntimeError("A broker belongs to one manager: make another for this one.")
        self._on_message = on_message
        loop = asyncio.get_running_loop()
        # One that was not closed has ended with its event loop.
        if self._session is None or not (
            self._session.loop is loop or self._session.loop.is_running()
        ):
            self._session = _Session(
                self._connect, self._prefix, self._timeout, on_message, on_state
            )
        await self._when_up(self._session.subscriber.connected())

    async def publish(self, topic: str, payload: bytes, /) -> None:
        """As `Broker` says. It is tried once, and is not known to have happened if it fails."""
        session = self._started()
        channel = session.subscriber.channel(topic)
        await no_longer_than(self._timeout, session.pipeline.call((b"PUBLISH", channel, payload)))

    async def subscribe(self, topics: Collection[str], /) -> None:
        """As `Broker` says. It waits for Redis to be back."""
        await self._when_up(self._started().subscriber.subscribe(topics))

    async def unsubscribe(self, topics: Collection[str], /) -> None:
        """As `Broker` says."""
        if self._session is not None:
            self._session.subscriber.unsubscribe(topics)

    async def add_members(self, members: Collection[Member], /) -> None:
        """As `Broker` says."""
        await no_longer_than(self._timeout, self._started().presence.add(members))

    async def remove_members(self, members: Collection[Member], /) -> None:
        """As `Broker` says."""
        if self._session is not None:
            with suppress(BrokerError):
                await no_longer_than(self._timeout, self._session.presence.remove(members))

    async def members(self, topic: str, /) -> frozenset[str]:
        """As `Broker` says. Those of a process that was killed are in it for 30 seconds more."""
        return await no_longer_than(self._timeout, self._started().presence.members(topic))

    async def close(self) -> None:
        """As `Broker` says. It may be started again, in another event loop, too."""
        session, self._session, self._on_message = self._session, None, None
        if session is not None:
            await session.close()

    async def _when_up(self, work: Awaitable[object]) -> None:
        session = self._started()
        try:
            await no_longer_than(self._timeout, work)
        except BrokerError as error:
            # That it took too long says less than why it is down.
            raise BrokerError(session.subscriber.reason or str(error)) from None

    def _started(self) -> "_Session":
        if self._session is None:
            raise BrokerError("The broker is not started, or closed.")
        return self._session


class _Session:
    """What there is between start and close, in one event loop."""

    def __init__(
        self,
        connect: Connect,
        prefix: str,
        timeout: float,
        on_message: OnMessage,
        on_state: OnState,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.pipeline = Pipeline(connect, timeout=timeout)
        self.presence = Presence(self.pipeline, prefix=prefix)
        self.subscriber = Subscriber(
            connect,
            timeout=timeout,
            prefix=prefix,
            on_message=on_message,
            on_state=on_state,
            restore=self.presence.restore,
        )

    async def close(self) -> None:
        try:
            await self.subscriber.close()
        finally:
            await self.pipeline.close(*self.presence.stop())
            await asyncio.wait([self.presence.task])
