"""Another database in tests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database
from tests.db.models import Item
from tests.db.support import (
    client,
    item_names,
    open_database,
    open_sync_database,
    sync_item_names,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[list[Database[AsyncSession]]]:
    """The real one, and two for tests."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_database(f"sqlite+aiosqlite:///{tmp_path / name}.db")
            )
            for name in ("real", "first", "second")
        ]


def greeting() -> str:
    return "hello"


def make_app(database: Database[AsyncSession]) -> FastAPI:
    app = FastAPI()

    @app.post("/items")
    async def create(name: str, session: Annotated[AsyncSession, database.session]) -> None:
        session.add(Item(name=name))

    @app.post("/own")
    async def create_in_a_unit_of_its_own(name: str) -> None:
        async with database.begin() as session:
            session.add(Item(name=name))

    @app.post("/read")
    async def create_while_reading(
        name: str, session: Annotated[AsyncSession, database.read_session]
    ) -> None:
        session.add(Item(name=name))

    @app.get("/greeting")
    async def greet(text: Annotated[str, Depends(greeting)]) -> str:
        return text

    return app


async def create(http: httpx.AsyncClient, name: str, path: str = "/items") -> None:
    assert (await http.post(path, params={"name": name})).status_code == 200


async def stored(databases: list[Database[AsyncSession]]) -> list[list[str]]:
    return [await item_names(database) for database in databases]


async def test_requests_and_begin_use_the_other_database(
    databases: list[Database[AsyncSession]],
) -> None:
    real, other, _ = databases
    async with client(app := make_app(real)) as http:
        with real.override(app, other):
            await create(http, "request")
            await create(http, "begin", "/own")
            async with real.begin() as session:
                session.add(Item(name="outside"))
            assert real.engine is other.engine
            await real.ping()
        await create(http, "afterwards")
        await create(http, "begin afterwards", "/own")
    assert await stored(databases) == [
        ["afterwards", "begin afterwards"],
        ["begin", "outside", "request"],
        [],
    ]
    assert real.engine is not other.engine


async def test_the_other_database_is_read_only_for_read_session(
    databases: list[Database[AsyncSession]],
) -> None:
    real, other, _ = databases
    app = make_app(real)
    async with client(app) as http:
        with real.override(app, other):
            assert (await http.post("/read?name=lamp")).status_code == 500
    assert await stored(databases) == [[], [], []]


async def test_an_override_ends_when_its_block_raises(
    databases: list[Database[AsyncSession]],
) -> None:
    real, other, _ = databases
    app = make_app(real)
    with pytest.raises(LookupError), real.override(app, other):
        raise LookupError
    async with client(app) as http:
        await create(http, "lamp")
        await create(http, "chair", "/own")
    assert await stored(databases) == [["chair", "lamp"], [], []]
    assert app.dependency_overrides == {}


async def test_overrides_nest(databases: list[Database[AsyncSession]]) -> None:
    real, first, second = databases
    app = make_app(real)
    async with client(app) as http:
        with real.override(app, first):
            with real.override(app, second):
                await create(http, "inner")
                await create(http, "inner begin", "/own")
            await create(http, "outer")
            await create(http, "outer begin", "/own")
    assert await stored(databases) == [
        [],
        ["outer", "outer begin"],
        ["inner", "inner begin"],
    ]


async def test_other_overrides_are_kept_whenever_they_were_made(
    databases: list[Database[AsyncSession]],
) -> None:
    real, other, _ = databases
    app = make_app(real)
    async with client(app) as http:
        app.dependency_overrides[greeting] = lambda: "before"
        with real.override(app, other):
            assert (await http.get("/greeting")).json() == "before"
            app.dependency_overrides[greeting] = lambda: "within"
            assert (await http.get("/greeting")).json() == "within"
        assert (await http.get("/greeting")).json() == "within"
        with real.override(app, other):
            app.dependency_overrides.clear()
        assert (await http.get("/greeting")).json() == "hello"
        await create(http, "lamp")
    assert await stored(databases) == [["lamp"], [], []]


async def test_two_apps_on_one_database_are_overridden_apart(
    databases: list[Database[AsyncSession]],
) -> None:
    real, first, second = databases
    apps = [make_app(real), make_app(real)]
    async with client(apps[0]) as one, client(apps[1]) as two:
        with real.override(apps[0], first), real.override(apps[1], second):
            await create(one, "lamp")
            await create(two, "chair")
    assert await stored(databases) == [[], ["lamp"], ["chair"]]


async def test_a_mounted_app_uses_the_other_database_too(
    databases: list[Database[AsyncSession]],
) -> None:
    real, other, _ = databases
    app = FastAPI()
    app.mount("/sub", make_app(real))
    async with client(app) as http:
        with real.override(app, other):
            await create(http, "lamp", "/sub/items")
    assert await stored(databases) == [[], ["lamp"], []]


async def test_a_sync_database_is_overridden_as_well(tmp_path: Path) -> None:
    with (
        open_sync_database(f"sqlite:///{tmp_path}/real.db") as real,
        open_sync_database(f"sqlite:///{tmp_path}/other.db") as other,
    ):
        app = FastAPI()

        @app.post("/items")
        def create(name: str, session: Annotated[Session, real.session]) -> None:
            session.add(Item(name=name))
            with real.begin() as own:
                assert own.connection().engine.url == real.engine.url

        @app.post("/read")
        def create_while_reading(session: Annotated[Session, real.read_session]) -> None:
            session.add(Item(name="lamp"))

        async with client(app) as http:
            with real.override(app, other):
                assert real.engine is other.engine
                assert (await http.post("/items?name=lamp")).status_code == 200
                assert (await http.post("/read")).status_code == 500
            assert (await http.post("/items?name=chair")).status_code == 200
        assert (sync_item_names(real), sync_item_names(other)) == (["chair"], ["lamp"])
