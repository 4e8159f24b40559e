"""WebSockets that fail before they are accepted, after, and when nobody is there any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, HTTPException, WebSocket, WebSocketException
from starlette.websockets import WebSocketDisconnect

from fastkit.errors import ConflictError, Problem, UnauthorizedError, install_exception_handlers
from tests.errors.support import SENTINEL

__all__ = ("FAILURES", "MappedError", "app")


class MappedError(Exception):
    pass


FAILURES: dict[str, Callable[[], Exception]] = {
    "http": lambda: HTTPException(403, "not yours", {"X-Why": "theirs"}),
    "no-body": lambda: HTTPException(304),
    "no-status": lambda: HTTPException(42, SENTINEL),
    "dict": lambda: HTTPException(409, {"detail": "taken", "by": 7}),
    "problem": lambda: UnauthorizedError("who are you?"),
    "long": lambda: ConflictError("é" * 200),
    "surrogates": lambda: ConflictError("\ud800 alone"),
    "mapped": lambda: MappedError(SENTINEL),
    "mapped-500": lambda: HTTPException(503, "busy"),
    "bad-factory": lambda: KeyError(SENTINEL),
    "crash": lambda: RuntimeError(SENTINEL),
    "group": lambda: ExceptionGroup("one", [HTTPException(403, "not yours")]),
    "groups": lambda: ExceptionGroup("two", [ValueError(SENTINEL), HTTPException(403)]),
    "policy": lambda: WebSocketException(1008, "policy"),
    "policy-group": lambda: ExceptionGroup("one", [WebSocketException(1008, "policy")]),
    "policy-long": lambda: WebSocketException(4000, "é" * 200),
    "policy-surrogates": lambda: WebSocketException(4000, "\ud800 alone"),
}


def bad_factory(exc: KeyError) -> Problem:
    raise ZeroDivisionError(SENTINEL)


app = FastAPI()
install_exception_handlers(app, {MappedError: 409, KeyError: bad_factory})


@app.websocket("/before/{name}")
async def before(websocket: WebSocket, name: str) -> None:
    raise FAILURES[name]()


@app.websocket("/after/{name}")
async def after(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    raise FAILURES[name]()


@app.websocket("/closed/{name}")
async def closed(websocket: WebSocket, name: str) -> None:
    """The app has said goodbye already."""
    await websocket.accept()
    await websocket.close(4001, "bye")
    raise FAILURES[name]()


@app.websocket("/denied/{name}")
async def denied(websocket: WebSocket, name: str) -> None:
    """The app has refused already."""
    await websocket.close()
    raise FAILURES[name]()


@app.websocket("/gone/{name}")
async def gone(websocket: WebSocket, name: str) -> None:
    """The client has left, and the app knows."""
    await websocket.accept()
    try:
        await websocket.receive_text()
    except WebSocketDisconnect:
        raise FAILURES[name]() from None


@app.websocket("/lost/{name}")
async def lost(websocket: WebSocket, name: str) -> None:
    """The client has left, and the app does not know yet."""
    await websocket.accept()
    await asyncio.sleep(0.3)
    raise FAILURES[name]()


@app.websocket("/listening")
async def listening(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.receive_text()


@app.websocket("/talking")
async def talking(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text("tick")
        await asyncio.sleep(0.01)


@app.websocket("/both")
async def both(websocket: WebSocket) -> None:
    """Listens and talks at once, as a chat does: each of the two finds that the client left."""

    async def forever(step: Callable[[], Awaitable[Any]]) -> None:
        while True:
            await step()

    await websocket.accept()
    async with asyncio.TaskGroup() as group:
        group.create_task(forever(websocket.receive_text))
        group.create_task(forever(lambda: asyncio.sleep(0.01)))


@app.websocket("/number/{n:int}")
async def number(websocket: WebSocket, n: int, limit: int = 0) -> None:
    await websocket.accept()
    await websocket.close()


@app.get("/http")
async def http() -> None:
    raise WebSocketException(1008, "in the wrong place")
