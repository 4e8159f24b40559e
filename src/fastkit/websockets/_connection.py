"""One client, as an endpoint sees it, and `manager.connect(...)`, which is awaited or entered."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from pydantic import TypeAdapter, ValidationError
from starlette.status import (
    WS_1000_NORMAL_CLOSURE,
    WS_1003_UNSUPPORTED_DATA,
    WS_1007_INVALID_FRAME_PAYLOAD_DATA,
)
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastkit.websockets._messages import JsonValue, Sendable, encode, encode_json
from fastkit.websockets._peer import Peer
from fastkit.websockets._registry import ROOM

__all__ = ("Connecting", "Connection")

_T = TypeVar("_T")


class Connection:
    """An open WebSocket in a `ConnectionManager`.

    What its own endpoint sends waits until the server has taken it, so that an endpoint is as fast
    as its client reads. It raises `WebSocketDisconnect` when the client has gone, which ends the
    block of `async with manager.connect(...)` quietly.
    """

    def __init__(
        self,
        peer: Peer,
        *,
        join: Callable[[Peer, Collection[str]], Awaitable[None]],
        leave: Callable[[Peer, Collection[str]], None],
    ) -> None:
        self._peer = peer
        self._join = join
        self._leave = leave

    def __repr__(self) -> str:
        return f"<Connection {self.id}>"

    @property
    def id(self) -> str:
        """32 hexadecimal digits, different for each connection."""
        return self._peer.id

    @property
    def user(self) -> str | None:
        """The user it was connected for, as a str."""
        return self._peer.user

    @property
    def websocket(self) -> WebSocket:
        """The WebSocket itself."""
        return self._peer.websocket

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in."""
        topics = self._peer.topics
        return frozenset(topic[len(ROOM) :] for topic in topics if topic.startswith(ROOM))

    async def join(self, room: str) -> None:
        """Receive what is broadcast to this room, from when this returns.

        Raises:
            WebSocketDisconnect: The connection is over.
        """
        await self._join(self._peer, [ROOM + room])

    async def leave(self, room: str) -> None:
        """Receive it no more. It is no error not to be in it."""
        self._leave(self._peer, [ROOM + room])

    async def send_text(self, text: str) -> None:
        """Send a text message."""
        await self._peer.send(encode(text).message)

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self._peer.send(encode(data).message)

    async def send_json(self, value: JsonValue) -> None:
        """Send a value as JSON, in a text message."""
        await self._peer.send(encode_json(value).message)

    async def iter_text(self) -> AsyncGenerator[str]:
        """Yield text messages until the client has gone. A binary one closes with 1003."""
        async for message in self._messages():
            if (text := message.get("text")) is None:
                await self.close(WS_1003_UNSUPPORTED_DATA, "Text is expected.")
                return
            yield text

    async def iter_bytes(self) -> AsyncGenerator[bytes]:
        """Yield binary messages until the client has gone. A text closes with 1003."""
        async for message in self._messages():
            if (data := message.get("bytes")) is None:
                await self.close(WS_1003_UNSUPPORTED_DATA, "Bytes are expected.")
                return
            yield data

    @overload
    def iter_json(
        self, *, on_invalid: Callable[[ValidationError], Sendable] | None = None
    ) -> AsyncGenerator[Any]: ...

    @overload
    def iter_json(
        self,
        model: type[_T] | TypeAdapter[_T],
        *,
        on_invalid: Callable[[ValidationError], Sendable] | None = None,
    ) -> AsyncGenerator[_T]: ...

    async def iter_json(
        self,
        model: Any = Any,
        *,
        on_invalid: Callable[[ValidationError], Sendable] | None = None,
    ) -> AsyncGenerator[Any]:
        """Yield messages, text or binary, read as JSON and validated, until the client has gone.

        One that is invalid is answered with what `on_invalid` returns, or else closes with 1007.
        A Pydantic error holds what the client sent: leave that out of logs.
        """
        adapter: TypeAdapter[Any] = model if _is_adapter(model) else TypeAdapter(model)
        async for message in self._messages():
            text = message.get("text")
            try:
                value = adapter.validate_json(message["bytes"] if text is None else text)
            except ValidationError as error:
                if on_invalid is None:
                    await self.close(
                        WS_1007_INVALID_FRAME_PAYLOAD_DATA, "The message is not valid."
                    )
                    return
                await self._peer.send(encode(on_invalid(error)).message)
            else:
                yield value

    def renew(self, expires_at: float) -> None:
        """Let the connection last until then, in seconds since 1970, as the `exp` of a token."""
        self._peer.expire_at(expires_at)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close after all that waits was sent. A connection that is over stays so."""
        await self._peer.close(code, reason)

    async def _messages(self) -> AsyncGenerator[Message]:
        while (message := await self._peer.receive())["type"] != "websocket.disconnect":
            yield message


class Connecting:
    """A connection to come. Awaited, it lasts until the task that awaits it ends."""

    def __init__(self, open_: Callable[[], Awaitable[tuple[Peer, Connection]]]) -> None:
        self._open = open_
        self._peer: Peer  # once it is entered

    def __await__(self) -> Generator[object, None, Connection]:
        return self._opened_for_task().__await__()

    async def _opened_for_task(self) -> Connection:
        peer, connection = await self._open()
        # A server runs an endpoint in a task: its end is the connection's, whatever it raised.
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        task.add_done_callback(lambda _: peer.end(WS_1000_NORMAL_CLOSURE))
        return connection

    async def __aenter__(self) -> Connection:
        self._peer, connection = await self._open()
        return connection

    async def __aexit__(
        self,
        type_: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            if error is None or self._peer.closed is not None:
                await self._peer.finish()
        finally:
            self._peer.release()
        # Servers log one that leaves an endpoint as an error.
        return isinstance(error, WebSocketDisconnect)


def _is_adapter(model: Any) -> bool:
    return isinstance(model, TypeAdapter)
