"""WebSockets for whoever has a token, served by a process of its own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

from fastapi import WebSocket, WebSocketDisconnect

from tests.auth.people import User, make_app, make_auth

__all__ = ("app", "auth", "log")

log: list[str] = []
"""How each endpoint ended."""

# Long enough to open a few, and short enough to wait for.
LIFETIME = 5
auth = make_auth(
    User("alice", scopes=("read", "write")), access_lifetime=timedelta(seconds=LIFETIME)
)
app = make_app(auth)

Alice = Annotated[User, auth.websocket_user()]
Sender = Annotated[User, auth.websocket_user(first_message=True)]
Linked = Annotated[User, auth.websocket_user(query_parameter="token")]
Listed = Annotated[User, auth.websocket_user(origins=["https://app.example.com"])]
Writer = Annotated[User, auth.websocket_user("write")]
FirstWriter = Annotated[User, auth.websocket_user("write", first_message=True)]


@asynccontextmanager
async def ended(name: str) -> AsyncGenerator[None]:
    """Note how an endpoint ends, as one that keeps a list of its clients does."""
    try:
        yield
    except WebSocketDisconnect as gone:
        log.append(f"{name}: gone {gone.code}")
        if gone.code == 4001:
            raise  # a server would log this, and does not hear of it
    except BaseException as error:
        log.append(f"{name}: {type(error).__name__}")
        raise
    else:
        log.append(f"{name}: done")


async def echo(websocket: WebSocket, name: str) -> None:
    async with ended(name):
        while True:
            await websocket.send_text(f"{name} {await websocket.receive_text()}")


@app.websocket("/echo")
async def plain(websocket: WebSocket, user: Alice) -> None:
    await websocket.accept()
    await echo(websocket, user.username)


@app.websocket("/first")
async def first(websocket: WebSocket, user: Sender) -> None:
    await echo(websocket, user.username)


@app.websocket("/linked")
async def linked(websocket: WebSocket, user: Linked) -> None:
    await websocket.accept()
    await echo(websocket, user.username)


@app.websocket("/listed")
async def listed(websocket: WebSocket, user: Listed) -> None:
    await websocket.accept()
    await echo(websocket, user.username)


@app.websocket("/writes")
async def writes(websocket: WebSocket, user: Writer) -> None:
    await websocket.accept()
    await echo(websocket, user.username)


@app.websocket("/writes-first")
async def writes_first(websocket: WebSocket, user: FirstWriter) -> None:
    await echo(websocket, user.username)


@app.websocket("/sends")
async def sends(websocket: WebSocket, user: Alice) -> None:
    """One that never receives."""
    await websocket.accept()
    async with ended("sends"):
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.05)


@app.websocket("/works")
async def works(websocket: WebSocket, user: Alice) -> None:
    """One that is at something else when the token expires, and receives after."""
    await websocket.accept()
    async with ended("works"):
        await asyncio.sleep(LIFETIME + 2)
        await websocket.receive_text()


@app.websocket("/late")
async def late(websocket: WebSocket, user: Alice) -> None:
    """One that has not accepted by then."""
    async with ended("late"):
        await asyncio.sleep(LIFETIME + 2)
        await websocket.accept()


@app.websocket("/closes")
async def closes(websocket: WebSocket, user: Alice) -> None:
    """One that says goodbye itself, before and after."""
    await websocket.accept()
    async with ended("closes"):
        await asyncio.sleep(LIFETIME + 2)
        await websocket.close(1000)


@app.websocket("/brief")
async def brief(websocket: WebSocket, user: Alice) -> None:
    await websocket.accept()
    async with ended("brief"):
        await websocket.close(4321)


@app.websocket("/fails")
async def fails(websocket: WebSocket, user: Alice) -> None:
    await websocket.accept()
    raise LookupError("the endpoint's own")


@app.get("/log")
async def endings() -> dict[str, Any]:
    waiting = [task for task in asyncio.all_tasks() if "_closed_after" in repr(task)]
    return {"ended": log, "tasks": len(waiting)}
