"""What a process has asked of its broker: what its connections need, whatever comes between."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from fastkit.websockets._broker import Broker, BrokerError, Member, OnMessage, OnState

__all__ = ("Interest", "Subscriptions")

_logger = logging.getLogger("fastkit.websockets")

# Seconds until what the broker refused is tried again, if nothing else changes before.
_RETRY_AFTER = 1.0

Interest: TypeAlias = tuple[str, str | None]
"""A topic that is subscribed to (with None), or a user who is in it."""


class Subscriptions:
    """Brings a broker to what is wanted, in a task of its own.

    Joining waits for it, leaving does not; a cancelled join leaves it at work. It ends when nothing
    is left to do.
    """

    def __init__(
        self,
        broker: Broker,
        on_message: OnMessage,
        on_state: OnState,
        is_wanted: Callable[[Interest], bool],
    ) -> None:
        self._broker = broker
        self._on_message = on_message
        self._on_state = on_state
        self._is_wanted = is_wanted
        self._changed: set[Interest] = set()
        self._actual: set[Interest] = set()
        self._started = self._paused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None

    async def ensure(self, interests: Collection[Interest]) -> None:
        """Return when the broker has started, and has all of these that are still wanted.

        Raises:
            BrokerError: What the broker raised.
        """
        self._enter_loop()
        while (missing := self._missing(interests)) or not self._started:
            self._changed.update(missing)
            work = self._work()
            try:
                # Others wait for it too: it is not cancelled with one of them.
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if work.cancelled() and not _is_cancelled():
                    raise BrokerError("The broker is closed.") from None
                raise

    def _enter_loop(self) -> None:
        """Forget what was begun in an event loop that has ended, as one of a test before."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop and (self._loop is None or not self._loop.is_running()):
            self._loop = loop
            self._started = self._paused = False
            self._actual.clear()
            self._task = None

    async def settle(self) -> None:
        """Return when the broker has been told of what changed, if it can be."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    def changed(self, interests: Collection[Interest]) -> None:
        """Look whether these are still wanted, soon."""
        self._changed.update(interests)
        if self._started and self._changed and not self._paused:
            self._work()

    def pause(self) -> None:
        """The broker is down: keep for later what changes."""
        self._paused = True

    def resume(self) -> None:
        """The broker is up: do what could not be done."""
        self._paused = False
        if self._changed or not self._started:
            self._work()

    def has(self, topic: str) -> bool:
        """Whether what is published to it arrives."""
        return (topic, None) in self._actual

    async def close(self, seconds: float) -> None:
        """End the broker, and what is at work after so many seconds."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._started = self._paused = False
        self._actual.clear()
        self._changed.clear()
        await self._broker.close()

    def _missing(self, interests: Iterable[Interest]) -> list[Interest]:
        return [each for each in interests if each not in self._actual and self._is_wanted(each)]

    def _work(self) -> "asyncio.Task[None]":
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reconcile())
            self._task.add_done_callback(self._ended)
        return self._task

    async def _reconcile(self) -> None:
        if not self._started:
            await self._broker.start(self._on_message, self._on_state)
            self._started = True
        while self._changed:
            changed, self._changed = self._changed, set()
            try:
                await self._add({each for each in changed - self._actual if self._is_wanted(each)})
                # Looked at anew, for somebody may have joined while that took its time.
                await self._remove(
                    {each for each in changed & self._actual if not self._is_wanted(each)}
                )
            except BaseException:
                # Some of it is done again, which does no harm.
                self._changed |= changed
                raise

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, BrokerError):
            _logger.warning("The broker of WebSocket messages is not there: %s", error)
        else:
            _logger.error("The broker of WebSocket messages failed.", exc_info=error)
        self._retry = task.get_loop().call_later(_RETRY_AFTER, self.changed, ())

    async def _add(self, new: set[Interest]) -> None:
        topics, members = _parted(new)
        if topics:
            await self._broker.subscribe(topics)
            self._actual.update((topic, None) for topic in topics)
        if members:
            await self._broker.add_members(members)
            self._actual.update(members)

    async def _remove(self, old: set[Interest]) -> None:
        topics, members = _parted(old)
        self._actual -= old
        if members:
            await self._broker.remove_members(members)
        if topics:
            await self._broker.unsubscribe(topics)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _parted(interests: set[Interest]) -> tuple[list[str], list[Member]]:
    """The subscriptions, and the members."""
    return (
        [topic for topic, user in interests if user is None],
        [(topic, user) for topic, user in interests if user is not None],
    )
