"""Messages to topics: handed to the broker, and delivered when it brings them."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from itertools import count
from typing import TypeAlias
from uuid import uuid4

from fastkit.websockets._broker import Broker, BrokerError
from fastkit.websockets._envelope import Envelope
from fastkit.websockets._messages import Delivery, Outgoing
from fastkit.websockets._registry import Registry
from fastkit.websockets._subscriptions import Interest, Subscriptions

__all__ = ("Exchange", "OnGap")

OnGap: TypeAlias = Callable[[], Awaitable[None]]

_logger = logging.getLogger("fastkit.websockets")

# Seconds that a broker which is up may take to bring a message that it has accepted.
_PATIENCE = 5
# Of the messages that were delivered here because the broker failed, how many are still known if
# it brings them after all.
_REMEMBERED = 1_000


class _Publication:
    """A message, until it is delivered here."""

    __slots__ = ("exclude", "is_delivered", "is_taken", "outgoing", "tally", "topic", "waiter")

    def __init__(self, topic: str, outgoing: Outgoing, exclude: str | None) -> None:
        self.topic = topic
        self.outgoing = outgoing
        self.exclude = exclude
        self.tally = Delivery()
        self.is_taken = False
        """Whether it is being delivered, so that nobody else does."""
        self.is_delivered = False
        self.waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        self.waiter = asyncio.get_running_loop().create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self.waiter

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Exchange:
    """Publishes to topics, and delivers to the connections of this process.

    What a process publishes comes back to it by the broker, so that it has the same place there as
    everywhere.
    """

    def __init__(
        self, broker: Broker, registry: Registry, *, on_gap: OnGap | None, local_when_down: bool
    ) -> None:
        self._broker = broker
        self._registry = registry
        self._on_gap = on_gap
        self._local_when_down = local_when_down
        self._subscriptions = Subscriptions(
            broker, self._received, self._state_changed, registry.needs
        )
        # Made when it is first needed: a process that is forked from another has one of its own.
        self._origin: tuple[int, bytes] = 0, b""
        self._numbers = count()
        self._published: dict[int, _Publication] = {}
        self._delivered_alone: deque[int] = deque(maxlen=_REMEMBERED)
        # Known to be, which at first neither is: something may be missed meanwhile.
        self._is_down = False
        self.is_closed = False
        """Whether the app has ended: what is published then reaches nobody."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_up = False
        self.gaps = 0
        self.totals = Delivery()

    async def ensure(self, interests: Collection[Interest]) -> None:
        """Return when the broker is started, and has all of these that are still needed.

        Raises:
            BrokerError: They are not.
        """
        if self.is_closed:
            raise BrokerError("The app has ended, and with it the broker.")
        if self._is_alone:
            self._subscriptions.changed(interests)
            return
        try:
            await self._subscriptions.ensure(interests)
        except BrokerError:
            if not self._local_when_down:
                raise
            if not self.is_up:
                self._went_down()

    def give_up(self, interests: Collection[Interest]) -> None:
        """Nobody of this process needs these any more."""
        self._subscriptions.changed(interests)
        for own in self._published.values():
            if (own.topic, None) in interests:
                own.wake()

    async def publish(self, topic: str, outgoing: Outgoing, exclude: str | None) -> Delivery:
        """Send a message to a topic, in all processes.

        Raises:
            BrokerError: It was not, as far as is known.
        """
        own = _Publication(topic, outgoing, exclude)
        if self.is_closed:
            return own.tally
        number = next(self._numbers)
        self._published[number] = own
        try:
            await self._hand_over(own, number)
        finally:
            del self._published[number]
        if self._local_when_down and not own.is_taken:
            self._delivered_alone.append(number)
            await self._deliver(own)
        return own.tally

    async def _hand_over(self, own: _Publication, number: int) -> None:
        """Publish it, and return when it is delivered here or that cannot be expected."""
        envelope = Envelope(self._process(), number, own.exclude, own.outgoing)
        try:
            await self.ensure(())
            if self._is_alone:
                return
            await self._broker.publish(own.topic, envelope.pack())
            if not own.is_delivered and self.is_up and self._subscriptions.has(own.topic):
                await own.wait()
        except BrokerError:
            if not self._local_when_down:
                raise

    async def members(self, topic: str) -> frozenset[str]:
        """The users in a topic, in all processes.

        Raises:
            BrokerError: It cannot be told.
        """
        try:
            await self.ensure(())
            # Whoever has left this process is not in it any more.
            await self._subscriptions.settle()
            if not self._is_alone:
                others = await self._broker.members(topic)
                # Those of this process are known, whatever the broker has forgotten.
                return others | self._registry.users(topic)
        except BrokerError:
            if not self._local_when_down:
                raise
        return self._registry.users(topic)

    async def close(self, seconds: float) -> None:
        """End the broker, and what is at work after so many seconds."""
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        await self._subscriptions.close(seconds)
        self.is_up = self._is_down = False
        self._wake_all()

    async def _received(self, topic: str, payload: bytes) -> None:
        """What the broker calls."""
        try:
            envelope = Envelope.unpack(payload)
        except ValueError as error:
            _logger.warning("A message from the broker is not one of fastkit's: %s.", error)
            return
        own = None
        if envelope.origin == self._process():
            own = self._published.get(envelope.number)
            if own is None and envelope.number in self._delivered_alone:
                return
        await self._deliver(own or _Publication(topic, envelope.outgoing, envelope.exclude))

    async def _deliver(self, message: _Publication) -> None:
        message.is_taken = True
        try:
            await self._registry.deliver(
                message.topic, message.outgoing, message.exclude, message.tally
            )
        finally:
            message.is_delivered = True
            self.count(message.tally)
            message.wake()

    def count(self, tally: Delivery) -> None:
        """Add to the totals, in which evictions are counted where they happen."""
        self.totals.sent += tally.sent
        self.totals.queued += tally.queued
        self.totals.dropped += tally.dropped

    def _state_changed(self, is_up: bool) -> None:
        """What the broker calls."""
        self.is_up = is_up
        if not is_up:
            self._went_down()
            self._wake_all()
            return
        may_miss_some, self._is_down = self._is_down, False
        self._subscriptions.resume()
        if not may_miss_some:
            return
        self.gaps += 1
        if self._on_gap is not None:
            task = asyncio.get_running_loop().create_task(self._tell_of_gap(self._on_gap))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _process(self) -> bytes:
        """What this process is called in envelopes."""
        if self._origin[0] != (pid := os.getpid()):
            self._origin = pid, uuid4().bytes
        return self._origin[1]

    @property
    def _is_alone(self) -> bool:
        """Whether the broker is not waited for."""
        return self._is_down and self._local_when_down

    def _went_down(self) -> None:
        self._is_down = True
        if self._is_alone:
            self._subscriptions.pause()

    def _wake_all(self) -> None:
        for own in self._published.values():
            own.wake()

    async def _tell_of_gap(self, on_gap: OnGap) -> None:
        try:
            await on_gap()
        except Exception:
            _logger.exception("on_gap of a ConnectionManager failed.")
