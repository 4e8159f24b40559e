"""A request is one unit of work: what commits it, what rolls it back, and who shares it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Security
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.types import Message, Receive, Scope, Send

from fastkit.db import Database, SyncDatabase
from tests.db.models import Item, Part
from tests.db.support import (
    checked_out,
    client,
    item_names,
    open_database,
    open_sync_database,
    sync_item_names,
)

pytestmark = pytest.mark.anyio


class Answer(BaseModel):
    id: int


def async_app(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()

    async def written(
        session: Annotated[AsyncSession, database.session], name: str = "lamp"
    ) -> None:
        session.add(Item(name=name))
        await session.flush()

    async def fails_after(
        session: Annotated[AsyncSession, database.session],
    ) -> AsyncIterator[None]:
        yield
        await session.flush()
        raise LookupError

    async def adds_after(session: Annotated[AsyncSession, database.session]) -> AsyncIterator[None]:
        yield
        session.add(Item(name="audit"))

    dependencies = [Depends(written)]

    @app.post("/ok", dependencies=dependencies, status_code=201)
    async def ok() -> Answer:
        return Answer(id=1)

    @app.post("/http-exception", dependencies=dependencies)
    async def http_exception() -> None:
        raise HTTPException(418)

    @app.post("/unhandled", dependencies=dependencies)
    async def unhandled() -> None:
        raise LookupError

    @app.post("/invalid", dependencies=dependencies)
    async def invalid(number: int) -> None: ...

    @app.post("/wrong-model", dependencies=dependencies)
    async def wrong_model() -> Answer:
        return cast("Answer", {"id": "x"})

    @app.post("/orphan", dependencies=dependencies)
    async def orphan(session: Annotated[AsyncSession, database.session]) -> None:
        session.add(Part(item_id=999))

    @app.post("/fails-after", dependencies=[*dependencies, Depends(fails_after, scope="function")])
    async def fails() -> None: ...

    @app.post("/adds-after", dependencies=[*dependencies, Depends(adds_after, scope="function")])
    async def adds() -> None: ...

    @app.post("/returned", dependencies=dependencies)
    async def returned() -> JSONResponse:
        return JSONResponse({}, 409)

    @app.post("/returned-after-rollback", dependencies=dependencies)
    async def returned_after_rollback(
        session: Annotated[AsyncSession, database.session],
    ) -> JSONResponse:
        await session.rollback()
        return JSONResponse({}, 409)

    @app.post("/committed-by-hand", dependencies=dependencies)
    async def committed_by_hand(session: Annotated[AsyncSession, database.session]) -> None:
        await session.commit()
        session.add(Item(name="lost"))
        await session.flush()
        raise HTTPException(418)

    return app


def sync_app(database: SyncDatabase[Session]) -> FastAPI:
    app = FastAPI()

    def written(session: Annotated[Session, database.session], name: str = "lamp") -> None:
        session.add(Item(name=name))
        session.flush()

    def fails_after(session: Annotated[Session, database.session]) -> Iterator[None]:
        yield
        session.flush()
        raise LookupError

    def adds_after(session: Annotated[Session, database.session]) -> Iterator[None]:
        yield
        session.add(Item(name="audit"))

    dependencies = [Depends(written)]

    @app.post("/ok", dependencies=dependencies, status_code=201)
    def ok() -> Answer:
        return Answer(id=1)

    @app.post("/http-exception", dependencies=dependencies)
    def http_exception() -> None:
        raise HTTPException(418)

    @app.post("/unhandled", dependencies=dependencies)
    def unhandled() -> None:
        raise LookupError

    @app.post("/invalid", dependencies=dependencies)
    def invalid(number: int) -> None: ...

    @app.post("/wrong-model", dependencies=dependencies)
    def wrong_model() -> Answer:
        return cast("Answer", {"id": "x"})

    @app.post("/orphan", dependencies=dependencies)
    def orphan(session: Annotated[Session, database.session]) -> None:
        session.add(Part(item_id=999))

    @app.post("/fails-after", dependencies=[*dependencies, Depends(fails_after, scope="function")])
    def fails() -> None: ...

    @app.post("/adds-after", dependencies=[*dependencies, Depends(adds_after, scope="function")])
    def adds() -> None: ...

    @app.post("/returned", dependencies=dependencies)
    def returned() -> JSONResponse:
        return JSONResponse({}, 409)

    @app.post("/returned-after-rollback", dependencies=dependencies)
    def returned_after_rollback(session: Annotated[Session, database.session]) -> JSONResponse:
        session.rollback()
        return JSONResponse({}, 409)

    @app.post("/committed-by-hand", dependencies=dependencies)
    def committed_by_hand(session: Annotated[Session, database.session]) -> None:
        session.commit()
        session.add(Item(name="lost"))
        session.flush()
        raise HTTPException(418)

    return app


@dataclass
class Shop:
    """An app on a database, asynchronous or not, and what is in it."""

    app: FastAPI
    database: Database[AsyncSession] | SyncDatabase[Session]

    async def names(self) -> list[str]:
        if isinstance(self.database, Database):
            return await item_names(self.database)
        return await asyncio.to_thread(sync_item_names, self.database)


KINDS = ["sqlite+aiosqlite", "asyncpg", "psycopg", "sync sqlite+pysqlite", "sync psycopg"]


@pytest.fixture(params=KINDS)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    sync, _, driver = request.param.rpartition(" ")
    if "sqlite" in driver:
        url = f"{driver}:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue("emptied_postgres").url(driver)
    if sync:
        with open_sync_database(url) as sync_database:
            yield Shop(sync_app(sync_database), sync_database)
    else:
        async with open_database(url) as database:
            yield Shop(async_app(database), database)


@pytest.mark.parametrize(
    ("path", "status", "stored"),
    [
        ("/ok", 201, ["lamp"]),
        ("/http-exception", 418, []),
        ("/unhandled", 500, []),
        ("/invalid?number=x", 422, []),
        ("/wrong-model", 500, []),
        ("/orphan", 500, []),  # a commit that fails, without fastkit's handlers
        ("/fails-after", 500, []),
        ("/adds-after", 200, ["audit", "lamp"]),
        ("/returned", 409, ["lamp"]),
        ("/returned-after-rollback", 409, []),
        ("/committed-by-hand", 418, ["lamp"]),
    ],
)
async def test_what_a_request_stores(shop: Shop, path: str, status: int, stored: list[str]) -> None:
    async with client(shop.app) as http:
        assert (await http.post(path)).status_code == status
        assert checked_out(shop.database) == 0
        assert await shop.names() == stored
        # Nothing of it is left in the only connection.
        for _ in range(3):
            assert (await http.post("/http-exception?name=later")).status_code == 418
    assert checked_out(shop.database) == 0
    assert await shop.names() == stored


async def test_the_commit_comes_before_the_response_starts(shop: Shop) -> None:
    seen: list[tuple[str, list[str], int]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def looking_send(message: Message) -> None:
            seen.append((message["type"], await shop.names(), checked_out(shop.database)))
            await send(message)

        await shop.app(scope, receive, looking_send)

    async with client(cast("FastAPI", app)) as http:
        assert (await http.post("/ok")).status_code == 201
    assert seen == [
        ("http.response.start", ["lamp"], 0),
        ("http.response.body", ["lamp"], 0),
    ]


# Who shares the session.


async def test_all_of_a_requests_dependencies_share_its_session(
    sqlite: Database[AsyncSession],
) -> None:
    seen: list[AsyncSession] = []

    async def plain(session: Annotated[AsyncSession, sqlite.session]) -> None:
        seen.append(session)

    def in_a_thread(session: Annotated[AsyncSession, sqlite.session]) -> None:
        seen.append(session)

    async def on_top(
        session: Annotated[AsyncSession, sqlite.session], _: Annotated[None, Depends(plain)]
    ) -> AsyncIterator[None]:
        seen.append(session)
        yield

    async def user(scopes: SecurityScopes, session: Annotated[AsyncSession, sqlite.session]) -> str:
        seen.append(session)
        return scopes.scope_str

    app = FastAPI(dependencies=[sqlite.session])

    @app.get(
        "/",
        dependencies=[
            Depends(in_a_thread),
            Depends(on_top, scope="function"),
            Security(user, scopes=["write"]),
        ],
    )
    async def endpoint(
        session: Annotated[AsyncSession, sqlite.session],
        reader: Annotated[str, Security(user, scopes=["read"])],
        other: Annotated[str, Security(user, scopes=["read", "more"])],
    ) -> list[str]:
        seen.append(session)
        return [reader, other]

    async with client(app) as http:
        assert (await http.get("/")).json() == ["read", "read more"]
        first = list(seen)
        assert len(first) == 7
        assert len(set(map(id, first))) == 1
        assert (await http.get("/")).status_code == 200
    assert first[0] is not seen[-1]


class LoudRoute(APIRoute):
    """An app's own route class."""

    def get_route_handler(self) -> Callable[..., Any]:
        handler = super().get_route_handler()

        async def loud(request: Any) -> Any:
            response = await handler(request)
            response.headers["x-loud"] = "yes"
            return response

        return loud


async def save(name: str, session: AsyncSession) -> None:
    session.add(Item(name=name) if name != "orphan" else Part(item_id=999))


Place = Callable[[Database[AsyncSession]], FastAPI]


def annotated(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()

    @app.post("/items")
    async def create(name: str, session: Annotated[AsyncSession, database.session]) -> None:
        await save(name, session)

    return app


def as_default_value(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()
    default: Any = database.session

    @app.post("/items")
    async def create(name: str, session: AsyncSession = default) -> None:
        await save(name, session)

    return app


def in_a_dependency_alone(database: Database[AsyncSession]) -> FastAPI:
    async def create(name: str, session: Annotated[AsyncSession, database.session]) -> None:
        await save(name, session)

    app = FastAPI()

    @app.post("/items", dependencies=[Depends(create)])
    async def nothing() -> None: ...

    return app


def router_with(database: Database[AsyncSession], route_class: type[APIRoute]) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=route_class, dependencies=[database.session])

    @router.post("/items")
    async def create(name: str, session: Annotated[AsyncSession, database.session]) -> None:
        await save(name, session)

    return router


def in_an_included_router(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()
    app.include_router(router_with(database, APIRoute))
    return app


def in_a_router_included_twice(database: Database[AsyncSession]) -> FastAPI:
    outer = APIRouter(prefix="/api")
    outer.include_router(router_with(database, APIRoute))
    app = FastAPI()
    app.include_router(outer)
    return app


def in_a_route_class_of_the_apps_own(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()
    app.include_router(router_with(database, LoudRoute))
    return app


def in_a_mounted_app(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()
    app.mount("/sub", annotated(database))
    return app


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (annotated, "/items"),
        (as_default_value, "/items"),
        (in_a_dependency_alone, "/items"),
        (in_an_included_router, "/v1/items"),
        (in_a_router_included_twice, "/api/v1/items"),
        (in_a_route_class_of_the_apps_own, "/v1/items"),
        (in_a_mounted_app, "/sub/items"),
    ],
)
async def test_no_2xx_without_a_commit_wherever_the_session_is_used(
    sqlite: Database[AsyncSession], place: Place, path: str
) -> None:
    async with client(place(sqlite)) as http:
        assert (await http.post(f"{path}?name=lamp")).status_code == 200
        assert (await http.post(f"{path}?name=orphan")).status_code == 500
        assert (await http.post(f"{path}?name=chair")).status_code == 200
    assert await item_names(sqlite) == ["chair", "lamp"]


# Several databases.


STORED: list[tuple[bool, bool, tuple[list[str], list[str]]]] = [
    (False, False, (["lamp"], ["lamp"])),
    (False, True, ([], [])),  # the last opened is committed first
    (True, False, ([], ["lamp"])),  # and its commit stays
]


@pytest.mark.parametrize(("first_fails", "second_fails", "stored"), STORED)
async def test_several_databases_have_a_transaction_each(
    tmp_path: Path, first_fails: bool, second_fails: bool, stored: tuple[list[str], list[str]]
) -> None:
    async with (
        open_database(f"sqlite+aiosqlite:///{tmp_path / 'one.db'}") as one,
        open_database(f"sqlite+aiosqlite:///{tmp_path / 'two.db'}") as two,
    ):
        app = FastAPI()

        @app.post("/items")
        async def create(
            first: Annotated[AsyncSession, one.session],
            second: Annotated[AsyncSession, two.session],
        ) -> None:
            for session, fails in ((first, first_fails), (second, second_fails)):
                session.add_all([Item(name="lamp"), *([Part(item_id=999)] if fails else [])])

        async with client(app) as http:
            fails = first_fails or second_fails
            assert (await http.post("/items")).status_code == (500 if fails else 200)
        assert (await item_names(one), await item_names(two)) == stored
        assert (checked_out(one), checked_out(two)) == (0, 0)
