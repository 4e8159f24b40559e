"""WebSockets served by a process of its own, and what it says about itself."""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, WebSocket, WebSocketDisconnect

from fastkit.websockets import Broker, BrokerError, ConnectionManager

__all__ = ("app", "manager")


def make_broker() -> Broker | None:
    """That of the Redis that the environment names, if it does."""
    if (url := os.environ.get("REDIS_URL")) is None:
        return None
    from fastkit.websockets.redis import RedisBroker

    return RedisBroker(url, timeout=2)


async def tell_of_gap() -> None:
    for websocket in manager.active_connections:
        await manager.send_personal_message("gap", websocket)


manager = ConnectionManager(
    broker=make_broker(),
    on_gap=tell_of_gap,
    max_stall=float(os.environ.get("MAX_STALL", "10")),
    max_message_size=1_000,
    max_messages_per_second=50,
)
app = FastAPI(lifespan=manager.lifespan)


# As FastAPI's documentation has it.
@app.websocket("/tutorial/{client_id}")
async def websocket_endpoint(websocket: WebSocket, client_id: int) -> None:
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await manager.send_personal_message(f"You wrote: {data}", websocket)
            await manager.broadcast(f"Client #{client_id} says: {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"Client #{client_id} left the chat")


@app.websocket("/ws/{name}")
async def room(
    websocket: WebSocket, name: str, seconds: Annotated[float | None, Query()] = None
) -> None:
    """One that passes on what it is sent."""
    expires_at = None if seconds is None else time.time() + seconds
    async with manager.connect(
        websocket, user=name, rooms=["lobby"], expires_at=expires_at, expiry_warning="renew"
    ) as connection:
        async for text in connection.iter_text():
            if text.startswith("renew for "):
                connection.renew(time.time() + float(text[10:]))
            else:
                try:
                    await manager.broadcast(f"{name}: {text}", room="lobby")
                except BrokerError:
                    await connection.send_text("not sent")


@app.websocket("/busy")
async def busy(websocket: WebSocket) -> None:
    """One that is at something else and never receives."""
    async with manager.connect(websocket, user="busy", rooms=["lobby"]):
        await asyncio.sleep(3)


@app.websocket("/fails")
async def fails(websocket: WebSocket) -> None:
    await manager.connect(websocket, user="fails")
    await websocket.receive_text()
    raise LookupError("the endpoint's own")


@app.post("/flood")
async def flood(size: int, per_second: float, seconds: float) -> int:
    """Broadcast so much, in the background."""

    async def send() -> None:
        for number in range(int(per_second * seconds)):
            await manager.broadcast(f"{number} " + "x" * size, room="lobby")
            await asyncio.sleep(1 / per_second)

    task = asyncio.create_task(send())
    app.state.flood = task
    return int(per_second * seconds)


@app.post("/publish")
async def publish(name: str, count: int) -> None:
    """Broadcast so many, ten at a time."""
    for first in range(0, count, 10):
        await asyncio.gather(
            *(manager.broadcast(f"{name} {first + i}", room="lobby") for i in range(10))
        )


@app.get("/presence")
async def presence() -> list[str]:
    return sorted(await manager.presence("lobby"))


def resident_memory() -> int:
    """In bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@app.get("/state")
async def state() -> dict[str, Any]:
    numbers = manager.statistics
    return {
        "connections": numbers.connections,
        "users": numbers.users,
        "pending": numbers.pending_bytes,
        "evicted": numbers.messages.evicted,
        "memory": resident_memory(),
        "is_up": numbers.broker_is_up,
        "gaps": numbers.gaps,
    }
