"""One client, as the manager sees it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from starlette.status import (
    WS_1000_NORMAL_CLOSURE,
    WS_1005_NO_STATUS_RCVD,
    WS_1006_ABNORMAL_CLOSURE,
    WS_1008_POLICY_VIOLATION,
    WS_1009_MESSAGE_TOO_BIG,
    WS_1012_SERVICE_RESTART,
    WS_1013_TRY_AGAIN_LATER,
)
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastkit.websockets._messages import close_message
from fastkit.websockets._outbox import Flow, Outbox
from fastkit.websockets._transport import Abortable, cut, find_transport

__all__ = ("Intake", "Peer")

_EXPIRED = 4001  # of those left to applications (RFC 6455, section 7.4.2)

# How long a client that is closed for being slow may take to read the close frame.
_EVICTION_SECONDS = 1.0
# What uvicorn gives a client to answer a close frame.
_CLOSING_SECONDS = 10.0
# How long before the end a client is told of it.
_RENEWAL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Intake:
    """What one client may send."""

    max_size: int
    per_second: float


class Peer:
    """A connection's state. `forget` takes it out of the manager's books; it is called often."""

    def __init__(
        self,
        websocket: WebSocket,
        *,
        user: str | None,
        address: str | None,
        flow: Flow,
        intake: Intake,
        forget: Callable[["Peer"], None],
        evicted: Callable[[], None],
    ) -> None:
        self.id: str = uuid4().hex
        self.websocket = websocket
        self.user = user
        self.address = address
        self.topics: set[str] = set()
        self.closed: tuple[int, str] | None = None
        """Code and reason of the end, once it began: nothing is received or offered then."""
        self.gone: asyncio.Event = asyncio.Event()
        self._flow = flow
        self._intake = intake
        self._forget = forget
        self._evicted = evicted
        self._loop = asyncio.get_running_loop()
        self._allowance = max(1.0, intake.per_second)
        self._received_at = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._warning: Message | None = None
        # A connection of HTTP/2 has other streams, which are not to be cut off with it.
        shares_transport = not websocket.scope.get("http_version", "1.1").startswith("1")
        self._transport: Abortable | None = (
            None if shares_transport else find_transport(websocket.send)
        )
        self._receive = websocket.receive
        self._send = websocket.send
        self.outbox: Outbox = Outbox(
            self._send, flow, evict=self.evict, fail=self._failed, closed=self._told
        )
        # An endpoint that uses the websocket itself has the same order, limits and end.
        websocket.send = self.send  # type: ignore[method-assign]
        websocket.receive = self.receive  # type: ignore[method-assign]

    async def send(self, message: Message) -> None:
        """Send it until the server has it, however long that takes a client that reads.

        Raises:
            WebSocketDisconnect: The client has gone, before or meanwhile.
        """
        closing = message["type"] == "websocket.close"
        if not closing and message["type"] != "websocket.send":
            return await self._send(message)  # which is an error, and not the client's
        if self.closed is not None:
            if closing:
                return
            raise self.disconnection()
        if closing:
            await self.close(message.get("code", 1000), message.get("reason") or "")
            return
        try:
            await self.outbox.put(message)
        except WebSocketDisconnect:
            raise self.disconnection() from None

    async def receive(self) -> Message:
        """The next message, or a disconnect once the client has gone or was sent away."""
        if (goodbye := self._goodbye()) is not None:
            return goodbye
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.end(message.get("code", WS_1005_NO_STATUS_RCVD), message.get("reason") or "")
        elif (violation := self._violation(message)) is not None:
            self.outbox.discard()
            await self.close(*violation)
        return self._goodbye() or message

    def _goodbye(self) -> Message | None:
        if self.closed is None:
            return None
        code, reason = self.closed
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def disconnection(self) -> WebSocketDisconnect:
        """What sending raises and receiving ends with after the end."""
        return WebSocketDisconnect(*(self.closed or (WS_1006_ABNORMAL_CLOSURE, "")))

    def _violation(self, message: Message) -> tuple[int, str] | None:
        text = message.get("text")
        size = len(message.get("bytes") or b"") if text is None else len(text)
        # A character is up to four bytes: only what could be too long is encoded to be measured.
        if text is not None and size <= self._intake.max_size < size * 4:
            size = len(text.encode(errors="replace"))
        if size > self._intake.max_size:
            reason = f"A message has at most {self._intake.max_size} bytes."
            return WS_1009_MESSAGE_TOO_BIG, reason
        now = self._loop.time()
        rate = self._intake.per_second
        self._allowance = min(max(1.0, rate), self._allowance + (now - self._received_at) * rate)
        self._received_at = now
        if self._allowance < 1:
            reason = f"At most {rate:g} messages are taken in a second."
            return WS_1008_POLICY_VIOLATION, reason
        self._allowance -= 1
        return None

    # The end

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye after all that waits, and return when the server has it or gives up."""
        if self._begin_end(code, reason):
            self._linger(self._flow.max_seconds)
            await self._hand_over(close_message(code, reason), self._flow.max_seconds)

    async def finish(self) -> None:
        """The endpoint has ended, and with it sending."""
        if self.closed is None:
            await self.close(WS_1000_NORMAL_CLOSURE, "")
        else:
            # The server would close without the goodbye that may still wait.
            await self._hand_over(None, _EVICTION_SECONDS)

    async def _hand_over(self, message: Message | None, seconds: float) -> None:
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(seconds):
                await self.outbox.put(message)

    def dismiss(self, code: int, reason: str, *, seconds: float = _CLOSING_SECONDS) -> None:
        """Say goodbye instead of all that waits, which may take so many seconds."""
        if self._begin_end(code, reason):
            self._linger(seconds)
            self.outbox.discard()
            self.outbox.push(close_message(code, reason))

    def evict(self) -> None:
        """End a connection that is too slow: what it does not read in a moment is not sent."""
        if self.closed is None:
            self._evicted()
            self.dismiss(WS_1013_TRY_AGAIN_LATER, "Too slow.", seconds=_EVICTION_SECONDS)

    def end(self, code: int, reason: str = "") -> None:
        """The client has gone, or the server goes, or the endpoint. May be called twice."""
        if self._begin_end(code, reason):
            # uvicorn closes with that one when it ends, and then waits for what it has buffered.
            restarts = code == WS_1012_SERVICE_RESTART
            self._linger(_EVICTION_SECONDS if restarts else self._flow.max_seconds)
        self.outbox.stop()
        self.gone.set()

    def release(self) -> None:
        """The endpoint has ended. Whoever handles its error may still close what it left open."""
        if self.closed is None:
            self.websocket.send = self._send  # type: ignore[method-assign]
        self.end(WS_1006_ABNORMAL_CLOSURE)

    def abort(self) -> None:
        """Cut the connection, if the server lets."""
        self.end(WS_1006_ABNORMAL_CLOSURE)
        if self._transport is not None:
            cut(self._transport)

    def _begin_end(self, code: int, reason: str) -> bool:
        if self.closed is not None:
            return False
        self.closed = (code, reason)
        self.unschedule()
        self._forget(self)
        return True

    def _told(self) -> None:
        """A close was sent. Whoever receives is told so by `receive`, as if the client had closed;
        Starlette would have it that receiving is an error."""
        self.websocket.application_state = WebSocketState.CONNECTED

    def _failed(self) -> None:
        """Sending raised: most often the client has gone."""
        self._told()
        if self.closed is None:
            self._evicted()
        self.end(WS_1006_ABNORMAL_CLOSURE)

    def _linger(self, seconds: float) -> None:
        """Leave the server so much time to send what it has buffered, for it may wait for ever.

        This outlives the endpoint, and is not cancelled.
        """
        if self._transport is not None:
            self._loop.call_later(seconds, _abort_unsent, self._transport)

    # The time

    def expire_at(self, when: float, warning: Message | None = None) -> None:
        """End at this time, in seconds since 1970, unless it is put off; and warn before."""
        if self.closed is not None:
            return
        self.unschedule()
        self._warning = warning or self._warning
        left = max(when - time.time(), 0)
        self._timers.append(self._loop.call_later(left, self.dismiss, _EXPIRED, "expired"))
        if self._warning is not None:
            before = max(left - _RENEWAL_SECONDS, left / 2)
            self._timers.append(self._loop.call_later(before, self.outbox.push, self._warning))

    def unschedule(self) -> None:
        """Let it not expire."""
        while self._timers:
            self._timers.pop().cancel()


def _abort_unsent(transport: Abortable) -> None:
    # Without anything to send the server closes by itself. An HTTP/2 connection has other streams.
    if transport.get_write_buffer_size():
        cut(transport)
