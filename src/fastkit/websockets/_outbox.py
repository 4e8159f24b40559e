"""What waits to be sent to one client: in order, in bounded memory, for a bounded time."""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from starlette.types import Message, Send
from starlette.websockets import WebSocketDisconnect

from fastkit._handshake import GONE
from fastkit.websockets._messages import Delivery, Outgoing

__all__ = ("EAGER", "Flow", "Outbox", "WhenSlow", "fan_out")

WhenSlow: TypeAlias = Literal["close", "drop_oldest", "drop_new"]

_logger = logging.getLogger("fastkit.websockets")

# A task that runs at once until its first real wait, which sending to a client that reads has none
# of. Without it a writer has to be scheduled, and whoever offers many messages has to let it run.
EAGER: bool = sys.version_info >= (3, 12)
_EAGERLY: dict[str, Any] = {"eager_start": True}

# What a message costs beside its payload, which is shared: empty ones fill memory too.
_ENTRY_BYTES = 128


@dataclass(frozen=True, slots=True)
class Flow:
    """What may wait for one client."""

    max_bytes: int
    max_seconds: float
    when_slow: WhenSlow


@dataclass(slots=True)
class _Entry:
    message: Message | None
    """None to wait for all before it."""
    size: int
    # Of what somebody waits for: it is not dropped, and not counted, for the sender is the bound.
    taken: "asyncio.Future[None] | None" = None


_NOTHING = _Entry(None, 0)


class Outbox:
    """Writes to one client, one message at a time, by `send`, which may wait as long as it likes.

    `evict` is called, synchronously, when the client is too slow, `fail` when sending raises, and
    `closed` when a close was sent.
    """

    __slots__ = (
        "_bytes",
        "_closed",
        "_entries",
        "_evict",
        "_fail",
        "_flow",
        "_loop",
        "_sender",
        "_since",
        "_timer",
        "_wake",
        "_writer",
        "busy",
        "send",
        "stopped",
    )

    def __init__(
        self,
        send: Send,
        flow: Flow,
        *,
        evict: Callable[[], None],
        fail: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        self.send: Send = send
        self._sender: asyncio.Task[None] | None = None
        self._flow = flow
        self._evict = evict
        self._fail = fail
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._since = 0.0
        self.stopped: bool = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.busy: bool = False

    @property
    def pending_bytes(self) -> int:
        """What waits and may be dropped."""
        return self._bytes

    def offer(self, outgoing: Outgoing, tally: Delivery) -> None:
        """Send it now, or let it wait if it may, or else do what the policy says. Never raises."""
        size = len(outgoing.data) + _ENTRY_BYTES
        if self._bytes and self._bytes + size > self._flow.max_bytes:
            if self._flow.when_slow == "close":
                tally.evicted += 1
                self._evict()
                return
            if self._flow.when_slow == "drop_new":
                tally.dropped += 1
                return
            self._drop(size, tally)
        self._bytes += size
        self._put(_Entry(outgoing.message, size))
        if self.stopped:
            tally.evicted += 1
        elif self.busy or self._entries:
            tally.queued += 1
        else:
            tally.sent += 1

    async def put(self, message: Message | None) -> None:
        """Send a message that is not dropped, after all that waits, until the server has it.

        None sends nothing.

        Raises:
            WebSocketDisconnect: The client has gone, before or meanwhile.
        """
        if self.stopped:
            raise WebSocketDisconnect(1006)
        taken = self._loop.create_future()
        self._put(_Entry(message, 0, taken))
        await taken

    def push(self, message: Message) -> None:
        """Send a message that is not dropped, after all that waits, and do not wait for it."""
        self._put(_Entry(message, 0))

    def discard(self) -> None:
        """Send nothing of what waits."""
        while self._entries:
            _refuse(self._entries.popleft())
        self._bytes = 0

    def stop(self) -> None:
        """Send nothing any more. May be called twice."""
        if self.stopped:
            return
        self.stopped = True
        self.discard()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in (self._writer, self._sender):
            if task is not None and task is not asyncio.current_task(self._loop):
                task.cancel()

    def _put(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if self.busy:
            return
        self.busy = True
        if EAGER:
            task = asyncio.Task(self._drain(), loop=self._loop, **_EAGERLY)
            if task.done():
                return
            self._writer = task
        elif self._writer is None:
            self._writer = self._loop.create_task(self._write())
        self._wake.set()
        self._watch()

    async def _write(self) -> None:
        while not self.stopped:
            await self._wake.wait()
            self._wake.clear()
            await self._drain()

    def hold(self, task: "asyncio.Task[None]") -> None:
        """This task is sending, and has to wait."""
        self.busy = True
        self._sender = task
        self._since = self._loop.time()
        self._watch()

    async def resume(self) -> None:
        """Send what came meanwhile."""
        await self._drain()

    def fail(self, error: Exception) -> None:
        """Sending raised this."""
        if not isinstance(error, GONE):
            _logger.error(
                "A message could not be sent to a WebSocket, which is ended.", exc_info=error
            )
        self.stop()
        self._fail()

    async def _drain(self) -> None:
        entries = self._entries
        self.busy = True
        entry = _NOTHING
        try:
            while entries:
                entry = entries.popleft()
                self._bytes -= entry.size
                self._since = self._loop.time()
                if entry.message is not None:
                    await self.send(entry.message)
                    if entry.message["type"] == "websocket.close":
                        self._closed()
                if entry.taken is not None and not entry.taken.done():
                    entry.taken.set_result(None)
        except Exception as error:
            self.fail(error)
        finally:
            self.busy = False
            _refuse(entry)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._flow.max_seconds, self._check)

    def _check(self) -> None:
        """Whether the server has been at one message for too long."""
        self._timer = None
        if not self.busy:
            return
        left = self._since + self._flow.max_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._evict()

    def _drop(self, size: int, tally: Delivery) -> None:
        """Drop the oldest that may be dropped, until there is room for so many bytes."""
        kept: deque[_Entry] = deque()
        while self._entries and self._bytes + size > self._flow.max_bytes:
            entry = self._entries.popleft()
            if entry.size:
                self._bytes -= entry.size
                tally.dropped += 1
            else:
                kept.append(entry)
        self._entries.extendleft(reversed(kept))


def _refuse(entry: _Entry) -> None:
    if entry.taken is not None and not entry.taken.done():
        entry.taken.set_exception(WebSocketDisconnect(1006))
        # Whoever waited may have been cancelled.
        entry.taken.exception()


class _Turn:
    """Which of many a message is being sent to, until that has to wait."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at: Outbox | None = None


async def fan_out(outboxes: list[Outbox], outgoing: Outgoing, tally: Delivery) -> None:
    """Offer a message to all of these, and wait for none.

    One task sends to one after the other. When one has to wait, the task stays with it, and
    another goes on: so there is a task for each that waits, and not for each that is sent to.
    """
    rest = iter(outboxes)
    while True:
        turn = _Turn()
        coroutine = _send_in_turn(rest, outgoing, tally, turn)
        if EAGER:
            loop = asyncio.get_running_loop()
            task = asyncio.Task(coroutine, loop=loop, **_EAGERLY)
        else:
            task = asyncio.create_task(coroutine)
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if turn.at is not None:
                    turn.at.hold(task)
                    # It stays with this one; the others do not get the message.
                    turn.at = None
                raise
        if turn.at is None:
            return
        turn.at.hold(task)
        turn.at = None
        tally.queued += 1


async def _send_in_turn(
    rest: Iterator[Outbox], outgoing: Outgoing, tally: Delivery, turn: _Turn
) -> None:
    message = outgoing.message
    for outbox in rest:
        if outbox.busy:
            outbox.offer(outgoing, tally)
            continue
        # It is marked as busy when it has to wait: until `fan_out` does that, nothing else runs.
        turn.at = outbox
        try:
            await outbox.send(message)
        except Exception as error:
            outbox.fail(error)
        if turn.at is not outbox:
            await outbox.resume()
            return
        if outbox.stopped:
            tally.evicted += 1
        else:
            tally.sent += 1
    turn.at = None
