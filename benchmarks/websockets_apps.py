"""The same broadcast by each library: what a client sends, everybody is sent.

uvicorn makes them by their names, with `--factory`. Redis is found by the environment. SIGUSR1
collects garbage, so that none is taken for what a connection needs.
"""

import gc
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from anyio import create_task_group
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from fastkit.websockets import Broker, ConnectionManager


def collect(signal_number: int, frame: object) -> None:
    gc.collect()


signal.signal(signal.SIGUSR1, collect)

REDIS = "BENCHMARKS_REDIS"
CHANNEL = "BENCHMARKS_CHANNEL"


def _channel() -> str:
    """What the app's processes have in common."""
    return os.environ.get(CHANNEL, "benchmarks")


class TutorialManager:
    """As FastAPI's documentation has it, in the page "WebSockets"."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        for connection in self.active_connections:
            await connection.send_text(message)


def tutorial_app() -> FastAPI:
    app = FastAPI()
    manager = TutorialManager()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        try:
            while True:
                await manager.broadcast(await websocket.receive_text())
        except WebSocketDisconnect:
            manager.disconnect(websocket)

    return app


def fastkit_app(broker: Broker | None = None) -> FastAPI:
    # All clients have one address here, and the one that sends does nothing else.
    manager = ConnectionManager(
        broker=broker, max_connections_per_address=10_000, max_messages_per_second=1_000_000
    )
    app = FastAPI(lifespan=manager.lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as connection:
            async for text in connection.iter_text():
                await manager.broadcast(text)

    return app


def fastkit_redis_app() -> FastAPI:
    from fastkit.websockets.redis import RedisBroker

    return fastkit_app(RedisBroker(os.environ[REDIS], prefix=f"{_channel()}:"))


def broadcaster_app(url: str = "memory://") -> FastAPI:
    from broadcaster import Broadcast

    broadcast = Broadcast(url)
    channel = _channel()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with broadcast:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async with create_task_group() as tasks:

            async def receive() -> None:
                async for text in websocket.iter_text():
                    await broadcast.publish(channel=channel, message=text)
                tasks.cancel_scope.cancel()

            tasks.start_soon(receive)
            # Its types say that it is no iterator, which it is.
            subscriber: Any
            async with broadcast.subscribe(channel=channel) as subscriber:
                async for event in subscriber:
                    await websocket.send_text(event.message)

    return app


def broadcaster_redis_app() -> FastAPI:
    return broadcaster_app(os.environ[REDIS])


def socketio_app(url: str | None = None) -> Any:
    socketio: Any = import_module("socketio")  # it has no types
    server: Any = socketio.AsyncServer(
        async_mode="asgi",
        client_manager=socketio.AsyncRedisManager(url, channel=_channel()) if url else None,
        # Like uvicorn's pings, these are not measured.
        ping_interval=3_600,
    )

    async def broadcast(sid: str, data: str) -> None:
        await server.emit("message", data)

    server.on("message", broadcast)
    return socketio.ASGIApp(server)


def socketio_redis_app() -> Any:
    return socketio_app(os.environ[REDIS])
