"""Where a request's session is refused, and what works there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.exceptions import DependencyScopeError
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SessionScopeError, SyncDatabase
from tests.db.models import Item
from tests.db.support import client, connections_taken, item_names

pytestmark = pytest.mark.anyio


async def test_a_websocket_route_refuses_the_sessions(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    taken = [connections_taken(sqlite), connections_taken(sync_sqlite)]
    for dependency in (
        sqlite.session,
        sqlite.read_session,
        sync_sqlite.session,
        sync_sqlite.read_session,
    ):
        app = FastAPI()
        router = APIRouter(dependencies=[dependency])

        @router.websocket("/ws")
        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()

        app.include_router(router)
        with (
            pytest.raises(SessionScopeError, match=r"in a WebSocket.*async with db\.begin\(\)"),
            TestClient(app).websocket_connect("/ws"),
        ):
            pass
    assert taken == [[], []]


async def test_a_websocket_opens_a_unit_of_work_for_each_message(
    sqlite: Database[AsyncSession],
) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        async for name in websocket.iter_text():
            try:
                async with sqlite.begin() as session:
                    session.add(Item(name=name))
            except Exception:
                await websocket.send_text("failed")
            else:
                await websocket.send_text(" ".join(await item_names(sqlite)))

    with TestClient(app).websocket_connect("/ws") as websocket:
        for name, answer in [("lamp", "lamp"), ("lamp", "failed"), ("chair", "chair lamp")]:
            websocket.send_text(name)
            assert websocket.receive_text() == answer


@pytest.mark.skipif(not hasattr(FastAPI, "frontend"), reason="FastAPI has no frontends yet")
async def test_the_routes_of_a_frontend_refuse_the_session(
    sqlite: Database[AsyncSession], tmp_path: Path
) -> None:
    """FastAPI sends a frontend's files before it ends dependencies of function scope."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("hello")
    app = FastAPI(dependencies=[sqlite.session])

    @app.get("/items")
    async def items() -> list[str]:
        return ["lamp"]

    app.frontend("/", directory=tmp_path / "dist")
    taken = connections_taken(sqlite)
    async with client(app) as http:
        assert (await http.get("/items")).json() == ["lamp"]
        response = await http.get("/index.html")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
    with pytest.raises(SessionScopeError, match=r"no path operation, .* db\.begin\(\)"):
        TestClient(app).get("/index.html")
    assert taken == []


async def test_a_session_in_depends_is_refused_when_the_route_is_declared(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    app = FastAPI()
    for dependency in (
        sqlite.session,
        sqlite.read_session,
        sync_sqlite.session,
        sync_sqlite.read_session,
    ):
        with pytest.raises(TypeError, match=r"used as Annotated\[.*\] and not in Depends\(\)"):

            @app.get("/")
            async def endpoint(
                session: Annotated[AsyncSession, Depends(dependency)],  # pyright: ignore[reportArgumentType] -- the mistake
            ) -> None: ...


async def test_a_dependency_with_yield_of_request_scope_is_refused_when_the_route_is_declared(
    sqlite: Database[AsyncSession],
) -> None:
    async def on_top(session: Annotated[AsyncSession, sqlite.session]) -> AsyncIterator[None]:
        yield

    app = FastAPI()
    with pytest.raises(DependencyScopeError):

        @app.get("/")
        async def endpoint(_: Annotated[None, Depends(on_top)]) -> None: ...

    @app.get("/")
    async def other(_: Annotated[None, Depends(on_top, scope="function")]) -> None: ...
