"""A session that is used after its unit of work has ended."""

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from typing import Annotated, Any, cast

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SessionEndedError, SyncDatabase
from tests.db.models import Item
from tests.db.support import (
    checked_out,
    client,
    connections_taken,
    item_names,
    request,
    sync_item_names,
)
from tests.db.test_commit import create_tables
from tests.support import Postgres, Serve

pytestmark = pytest.mark.anyio

NAMES_BEGIN = r"ended with its unit of work.*async with db\.begin\(\) as session"

USES: dict[str, Callable[[Any, Item], Any]] = {
    "execute": lambda session, _: session.execute(select(Item)),
    "scalars": lambda session, _: session.scalars(select(Item)),
    "get": lambda session, item: session.get(Item, item.id),
    "add": lambda session, _: session.add(Item(name="late")),
    "add_all": lambda session, _: session.add_all([Item(name="late")]),
    "delete": lambda session, item: session.delete(item),
    "merge": lambda session, _: session.merge(Item(name="late")),
    "commit": lambda session, _: session.commit(),
    "connection": lambda session, _: session.connection(),
    "connection with a bind": lambda session, _: session.connection(
        bind_arguments={"bind": session.bind}
    ),
}
by_hand = pytest.mark.parametrize("by_hand", [False, True], ids=["", "after a commit by hand"])
every_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


@by_hand
@every_use
async def test_a_session_that_has_ended_says_what_to_do_instead(
    sqlite: Database[AsyncSession], use: Callable[[Any, Item], Any], by_hand: bool
) -> None:
    async with sqlite.begin() as session:
        session.add(item := Item(name="lamp"))
        if by_hand:
            await session.commit()
    taken = connections_taken(sqlite)
    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        if inspect.isawaitable(result := use(session, item)):
            await result
    await session.close()
    assert taken == []
    assert await item_names(sqlite) == ["lamp"]


@by_hand
@every_use
def test_a_sync_session_that_has_ended_says_what_to_do_instead(
    sync_sqlite: SyncDatabase[Session], use: Callable[[Any, Item], Any], by_hand: bool
) -> None:
    with sync_sqlite.begin() as session:
        session.add(item := Item(name="lamp"))
        if by_hand:
            session.commit()
    taken = connections_taken(sync_sqlite)
    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        use(session, item)
    session.close()
    assert taken == []
    assert sync_item_names(sync_sqlite) == ["lamp"]


async def test_a_session_that_did_nothing_has_ended_as_well(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    async with sqlite.begin() as session:
        pass
    with sync_sqlite.begin() as sync_session:
        pass
    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        session.add(Item(name="late"))
    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        sync_session.add(Item(name="late"))


def test_the_error_is_caught_as_sqlalchemys_misuse() -> None:
    assert issubclass(SessionEndedError, InvalidRequestError)


# Streams and background tasks.


async def test_a_stream_does_not_reopen_the_session_of_its_request(
    database: Database[AsyncSession],
) -> None:
    app = FastAPI()

    @app.get("/")
    async def export(session: Annotated[AsyncSession, database.session]) -> StreamingResponse:
        await session.execute(select(Item))

        async def lines() -> AsyncIterator[str]:
            yield "first\n"
            for name in await session.scalars(select(Item.name)):
                yield name

        return StreamingResponse(lines())

    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        await request(app, "GET", "/")
    assert checked_out(database) == 0


async def test_a_stream_of_a_sync_database_does_not_reopen_the_session_of_its_request(
    sync_database: SyncDatabase[Session],
) -> None:
    app = FastAPI()

    @app.get("/")
    def export(session: Annotated[Session, sync_database.session]) -> StreamingResponse:
        session.execute(select(Item))

        def lines() -> Iterator[str]:
            yield "first\n"
            yield from session.scalars(select(Item.name))

        return StreamingResponse(lines())

    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        await request(app, "GET", "/")
    assert checked_out(sync_database) == 0


@pytest.mark.parametrize("late", ["add", "execute"])
async def test_a_background_task_does_not_reopen_the_session_of_its_request(
    database: Database[AsyncSession], late: str
) -> None:
    app = FastAPI()

    @app.post("/")
    async def create(
        session: Annotated[AsyncSession, database.session], tasks: BackgroundTasks
    ) -> None:
        session.add(item := Item(name="lamp"))

        async def task() -> None:
            if inspect.isawaitable(result := USES[late](session, item)):
                await result

        tasks.add_task(task)

    with pytest.raises(SessionEndedError, match=NAMES_BEGIN):
        await request(app, "POST", "/")
    assert checked_out(database) == 0
    assert await item_names(database) == ["lamp"]


@pytest.mark.skipif(
    find_spec("fastapi.sse") is None, reason="FastAPI has no generator endpoints yet"
)
@pytest.mark.parametrize("server_sent_events", [True, False], ids=["SSE", "JSON lines"])
async def test_a_generator_endpoint_comes_too_late_for_the_session_of_its_request(
    database: Database[AsyncSession], server_sent_events: bool
) -> None:
    app = FastAPI()
    options: dict[str, Any] = {}
    if server_sent_events:
        from fastapi.sse import EventSourceResponse

        options["response_class"] = EventSourceResponse

    @app.get("/", **options)
    async def events(session: Annotated[AsyncSession, database.session]) -> AsyncIterator[str]:
        for name in await session.scalars(select(Item.name)):
            yield name

    with pytest.raises((SessionEndedError, ExceptionGroup)) as caught:
        await request(app, "GET", "/")
    assert isinstance(leaf(caught.value), SessionEndedError)
    assert checked_out(database) == 0


def leaf(exc: BaseException) -> BaseException:
    if isinstance(exc, BaseExceptionGroup):
        return leaf(cast("BaseExceptionGroup[BaseException]", exc).exceptions[0])
    return exc


async def test_a_unit_of_work_of_its_own_is_what_a_stream_uses(
    database: Database[AsyncSession],
) -> None:
    async with database.begin() as session:
        session.add_all([Item(name="chair"), Item(name="lamp")])
    app = FastAPI()

    @app.get("/")
    async def export() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async with database.begin() as session:
                async for name in await session.stream_scalars(select(Item.name)):
                    yield f"{name}\n"

        return StreamingResponse(lines())

    async with client(app) as http:
        assert sorted((await http.get("/")).text.split()) == ["chair", "lamp"]
    assert checked_out(database) == 0


async def test_a_stream_whose_client_goes_gives_its_connection_back(
    serve: Serve, postgres: Postgres
) -> None:
    url = postgres.url("asyncpg")
    create_tables(url)
    server = serve("tests.db.served_async:app", env={"DATABASE_URL": url, "POOL_SIZE": "1"})
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as http:
        for _ in range(3):  # on the only connection
            async with http.stream("GET", "/endless") as response:
                async for _ in response.aiter_lines():
                    break
            assert (await http.post("/items", params={"name": str(time.time())})).status_code == 201
        assert (await http.get("/state")).json()["checked_out"] == 0
    assert "Traceback" not in server.log
