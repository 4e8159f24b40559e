"""A WebSocket as a server has it: the app's `receive` and `send`, in the test's hands."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocket

from fastkit.websockets import Connection, ConnectionManager

__all__ = ("Transport", "Wire", "app_of", "make_app", "opened", "settle", "until")


class Transport:
    """What a server's connection offers beside ASGI."""

    def __init__(self, wire: "Wire") -> None:
        self.wire = wire
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        self.wire.lose()

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    def get_write_buffer_size(self) -> int:
        return 0 if self.wire.writable.is_set() else 65_536


class Wire:
    """One client of an app, which reads (`writable` is set) or does not."""

    def __init__(
        self, path: str = "/ws", *, headers: Mapping[str, str] | None = None, host: str = "10.0.0.1"
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {"host": "app.example.com", **(headers or {})}.items()
            ],
            "client": (host, 1),
            "subprotocols": [],
        }
        self.transport = Transport(self)
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = False
        self.sent: list[Message] = []
        self.task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Message) -> None:
        await self.writable.wait()
        if self.lost:
            raise OSError("the client has gone")
        self.sent.append(message)
        if message["type"] == "websocket.close":
            # A client that reads it answers it.
            self.leave(message.get("code", 1000))

    def run(self, app: ASGIApp) -> "asyncio.Task[None]":
        self.task = asyncio.create_task(self._run(app))
        return self.task

    async def _run(self, app: ASGIApp) -> None:
        await app(self.scope, self.receive, self.send)

    def write(self, data: str | bytes) -> None:
        self.incoming.put_nowait(
            {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}
        )

    def leave(self, code: int = 1005) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    def lose(self) -> None:
        """Break the connection."""
        self.lost = True
        self.writable.set()
        self.leave(1006)

    @property
    def read(self) -> list[str | bytes]:
        """The payloads of what was sent."""
        sends = [message for message in self.sent if message["type"] == "websocket.send"]
        return [message["text"] if "text" in message else message["bytes"] for message in sends]

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason with which it was closed by the app."""
        for message in self.sent:
            if message["type"] == "websocket.close":
                return message.get("code", 1000), message.get("reason") or ""
        return None


def app_of(endpoint: Callable[[WebSocket], Awaitable[None]]) -> Starlette:
    """An app on bare Starlette that has only this."""
    return Starlette(routes=[WebSocketRoute("/ws", endpoint)])


def make_app(manager: ConnectionManager, **options: Any) -> Starlette:
    """An app whose endpoint passes on what it is sent."""

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket, **options) as connection:
            async for text in connection.iter_text():
                await manager.broadcast(text)

    return app_of(endpoint)


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait for it, by looking."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # there is nothing that tells
            await asyncio.sleep(0.01)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(
    manager: ConnectionManager, *, rooms: list[str] | None = None, **options: Any
) -> AsyncGenerator[tuple[Wire, Connection]]:
    """A connection whose endpoint waits until the client has gone or the block ends."""
    wire = Wire(host=options.pop("host", "10.0.0.1"))
    ready: list[Connection] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket, rooms=rooms or [], **options) as connection:
            ready.append(connection)
            async for _ in connection.iter_text():
                pass

    task = wire.run(app_of(endpoint))
    await until(lambda: ready or task.done())
    try:
        yield wire, ready[0]
    finally:
        wire.lose()
        await task
