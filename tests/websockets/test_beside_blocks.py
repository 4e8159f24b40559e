"""The manager beside the blocks that it does not know: auth, errors, timing, request ids, db."""

import asyncio
import time
from datetime import timedelta
from typing import Annotated

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient

from fastkit.errors import NotFoundError, install_exception_handlers
from fastkit.lifespan import combine
from fastkit.request_id import RequestIdMiddleware
from fastkit.timing import RequestRecord, TimingMiddleware
from fastkit.websockets import ConnectionManager
from tests.websockets.wire import Wire, settle


def test_auth_says_who_it_is_and_ends_it_when_the_token_expires() -> None:
    pytest.importorskip("fastkit.auth", reason="auth's extra is not installed")
    from tests.auth.people import User, bearer, log_in, make_app, make_auth

    auth = make_auth(access_lifetime=timedelta(seconds=2))
    manager = ConnectionManager()
    app = make_app(auth)
    ends: list[int] = []

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, user: Annotated[User, auth.websocket_user()]) -> None:
        async with manager.connect(websocket, user=user.username) as connection:
            async for text in connection.iter_text():
                await manager.send_to_user(text, user.username)
            try:
                await connection.send_text("too late")
            except WebSocketDisconnect as end:
                ends.append(end.code)
                raise

    with TestClient(app) as http:
        with http.websocket_connect("/ws", headers=bearer(log_in(http))) as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "hello"
            with pytest.raises(WebSocketDisconnect) as closed:
                websocket.receive_text()
        assert closed.value.code == 4001
        deadline = time.monotonic() + 5
        while not ends and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(WebSocketDisconnect), http.websocket_connect("/ws"):
            pass
    assert ends != []
    assert manager.active_connections == []


@pytest.mark.anyio
async def test_other_middlewares_see_it_and_do_not_hide_the_transport() -> None:
    records: list[RequestRecord] = []
    manager = ConnectionManager(max_stall=0.1)
    app = FastAPI(lifespan=combine(manager.lifespan))
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    app.add_middleware(RequestIdMiddleware)
    install_exception_handlers(app)

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as connection:
            async for text in connection.iter_text():
                if text == "fail":
                    raise NotFoundError("no such room")
                await connection.send_text(text)

    wire = Wire()
    task = wire.run(app)
    wire.write("hello")
    await settle()
    assert wire.read == ["hello"]
    wire.writable.clear()
    await manager.broadcast("stuck")
    async with asyncio.timeout(5):
        await task
    assert wire.transport.aborted
    assert (records[0].route, records[0].outcome) == ("/ws", "disconnected")

    wire = Wire()
    wire.write("fail")
    await wire.run(app)
    assert wire.close == (1008, "no such room")
    assert manager.active_connections == []
