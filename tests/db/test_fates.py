"""`after_commit` and `after_rollback`: what follows the fate of the data."""

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SessionEndedError, SyncDatabase, after_commit, after_rollback
from tests.db.models import Item, Part
from tests.db.support import (
    checked_out,
    client,
    item_names,
    request,
    sync_item_names,
    terminate,
)

pytestmark = pytest.mark.anyio


def follow(session: AsyncSession | Session, fates: list[str], name: str = "it") -> None:
    after_commit(session, lambda: fates.append(f"{name} committed"))
    after_rollback(session, lambda: fates.append(f"{name} rolled back"))


# When they are called.


async def test_they_are_called_in_order_when_the_connection_is_back_and_before_the_response(
    database: Database[AsyncSession],
) -> None:
    happened: list[object] = []
    app = FastAPI()

    @app.post("/items")
    async def create(session: Annotated[AsyncSession, database.session]) -> None:
        async def later() -> None:
            await asyncio.sleep(0.01)
            happened.append("async")

        after_commit(session, later)
        session.add(Item(name="lamp"))
        after_commit(session, lambda: happened.append("sync"))
        after_commit(session, functools.partial(later))
        after_commit(session, lambda: happened.append(checked_out(database)))
        happened.append("endpoint")

    assert await request(app, "POST", "/items") == 200
    assert happened == ["endpoint", "async", "sync", "async", 0]


async def test_those_of_a_sync_database_are_called_in_order_and_in_a_thread(
    sync_database: SyncDatabase[Session],
) -> None:
    happened: list[object] = []
    app = FastAPI()
    loop_thread = threading.get_ident()

    def look() -> None:
        happened.append((checked_out(sync_database), threading.get_ident() == loop_thread))

    @app.post("/items")
    def create(by_hand: bool, session: Annotated[Session, sync_database.session]) -> None:
        after_commit(session, lambda: happened.append("first"))
        after_commit(session, look)
        if by_hand:
            session.commit()
        happened.append("endpoint")

    for by_hand in ("no", "yes"):
        assert await request(app, "POST", f"/items?by_hand={by_hand}") == 200
        assert happened == ["endpoint", "first", (0, False)]
        happened.clear()


async def test_a_unit_of_work_that_did_nothing_is_committed_too(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    fates: list[str] = []
    async with sqlite.begin() as session:
        follow(session, fates)
    with sync_sqlite.begin() as sync_session:
        follow(sync_session, fates, "sync")
    assert fates == ["it committed", "sync committed"]


@pytest.mark.parametrize("commits", [True, False])
async def test_one_of_the_two_is_called(database: Database[AsyncSession], commits: bool) -> None:
    fates: list[str] = []
    app = FastAPI()

    @app.post("/items")
    async def create(session: Annotated[AsyncSession, database.session]) -> None:
        session.add(Item(name="lamp"))
        follow(session, fates)
        await session.flush()
        if not commits:
            raise HTTPException(418)

    async with client(app) as http:
        assert (await http.post("/items")).status_code == (200 if commits else 418)
    assert fates == ["it committed" if commits else "it rolled back"]
    assert await item_names(database) == (["lamp"] if commits else [])


async def test_a_failed_commit_is_a_rollback(
    database: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    fates: list[str] = []
    with pytest.raises(IntegrityError):
        async with database.begin() as session:
            follow(session, fates)
            session.add(Part(item_id=999))
    with pytest.raises(IntegrityError), sync_sqlite.begin() as sync_session:
        follow(sync_session, fates, "sync")
        sync_session.add(Part(item_id=999))
    assert fates == ["it rolled back", "sync rolled back"]


async def test_what_is_committed_by_hand_is_committed_whatever_follows(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    with pytest.raises(LookupError):
        async with database.begin() as session:
            session.add(Item(name="lamp"))
            follow(session, fates, "lamp")
            await session.commit()
            assert fates == []  # the unit of work has not ended
            session.add(Item(name="chair"))
            follow(session, fates, "chair")
            raise LookupError
    assert fates == ["lamp committed", "chair rolled back"]
    assert await item_names(database) == ["lamp"]


@pytest.mark.parametrize(
    "end", [AsyncSession.rollback, AsyncSession.close, AsyncSession.invalidate]
)
async def test_what_is_undone_by_hand_is_rolled_back_whatever_follows(
    database: Database[AsyncSession], end: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    fates: list[str] = []
    async with database.begin() as session:
        session.add(Item(name="lamp"))
        await session.flush()
        follow(session, fates, "lamp")
        await end(session)
        session.add(Item(name="chair"))
        follow(session, fates, "chair")
    assert fates == ["lamp rolled back", "chair committed"]
    assert await item_names(database) == ["chair"]


async def test_a_commit_by_hand_that_fails_and_is_caught_is_a_rollback(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    async with database.begin() as session:
        follow(session, fates, "part")
        session.add(Part(item_id=999))
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
        session.add(Item(name="lamp"))
        follow(session, fates, "lamp")
    assert fates == ["part rolled back", "lamp committed"]
    assert await item_names(database) == ["lamp"]
    assert checked_out(database) == 0


# Savepoints.


async def test_a_savepoint_that_is_rolled_back_takes_its_own_with_it(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    async with database.begin() as session:
        follow(session, fates, "before")
        with pytest.raises(LookupError):
            async with session.begin_nested():
                session.add(Item(name="inner"))
                follow(session, fates, "inner")
                raise LookupError
        session.add(Item(name="outer"))
        follow(session, fates, "after")
    assert fates == ["before committed", "inner rolled back", "after committed"]
    assert await item_names(database) == ["outer"]


async def test_a_savepoint_that_is_released_waits_for_all_that_surround_it(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    async with database.begin() as session:
        one = await session.begin_nested()
        two = await session.begin_nested()
        three = await session.begin_nested()
        follow(session, fates, "three")
        session.add(Item(name="three"))
        await three.commit()
        follow(session, fates, "two")
        await two.commit()
        follow(session, fates, "one")
        await one.rollback()
        follow(session, fates, "none")
        session.add(Item(name="none"))
    assert fates == ["three rolled back", "two rolled back", "one rolled back", "none committed"]
    assert await item_names(database) == ["none"]


async def test_a_savepoint_that_is_released_is_committed_with_the_unit_of_work(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    async with database.begin() as session, session.begin_nested(), session.begin_nested():
        session.add(Item(name="lamp"))
        follow(session, fates)
    assert fates == ["it committed"]
    assert await item_names(database) == ["lamp"]


async def test_a_savepoint_left_open_ends_with_the_one_around_it(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    async with database.begin() as session:
        outer = await session.begin_nested()
        await session.begin_nested()
        session.add(Item(name="lamp"))
        follow(session, fates)
        await outer.rollback()
        session.add(Item(name="chair"))
    assert fates == ["it rolled back"]
    assert await item_names(database) == ["chair"]


async def test_a_savepoint_of_a_flush_waits_for_the_unit_of_work(
    sqlite: Database[AsyncSession],
) -> None:
    fates: list[str] = []

    def on_flush(session: Session, _: object) -> None:
        with session.begin_nested():
            follow(session, fates)

    async with sqlite.begin() as session:
        event.listen(session.sync_session, "after_flush", on_flush, once=True)
        session.add(Item(name="lamp"))
        await session.flush()
    assert fates == ["it committed"]


async def test_a_flush_that_fails_in_a_savepoint_is_rolled_back_with_it(
    database: Database[AsyncSession],
) -> None:
    fates: list[str] = []
    async with database.begin() as session:
        session.add(Item(name="lamp"))
        follow(session, fates, "lamp")
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                follow(session, fates, "twice")
                session.add(Item(name="lamp"))
    assert fates == ["lamp committed", "twice rolled back"]
    assert await item_names(database) == ["lamp"]


# What they may do.


async def test_what_they_raise_is_logged_and_changes_nothing(
    sqlite: Database[AsyncSession], caplog: pytest.LogCaptureFixture
) -> None:
    fates: list[str] = []
    app = FastAPI()

    def broken() -> None:
        raise LookupError("no mail today")

    async def cancelled() -> None:
        never = asyncio.get_running_loop().create_future()
        never.cancel()
        await never

    @app.post("/items")
    async def create(session: Annotated[AsyncSession, sqlite.session]) -> str:
        for function in (broken, cancelled, lambda: fates.append("committed")):
            after_commit(session, function)
        return "saved"

    async with client(app) as http:
        response = await http.post("/items")
    assert (response.status_code, response.json()) == (200, "saved")
    assert fates == ["committed"]
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("fastkit.db", logging.ERROR)
    ] * 2
    assert "broken" in caplog.text
    assert "no mail today" in caplog.text
    assert "cancelled" in caplog.text


async def test_what_they_raise_in_a_sync_database_is_logged_and_changes_nothing(
    sync_sqlite: SyncDatabase[Session], caplog: pytest.LogCaptureFixture
) -> None:
    fates: list[str] = []

    def broken() -> None:
        raise LookupError("no mail today")

    with pytest.raises(KeyError), sync_sqlite.begin() as session:
        after_rollback(session, broken)
        follow(session, fates)
        raise KeyError
    assert fates == ["it rolled back"]
    assert [record.name for record in caplog.records] == ["fastkit.db"]
    assert "no mail today" in caplog.text


async def test_they_may_open_a_unit_of_work_on_the_only_connection(
    database: Database[AsyncSession], sync_database: SyncDatabase[Session]
) -> None:
    async def note() -> None:
        async with database.begin() as session:
            session.add(Item(name="note"))

    def sync_note() -> None:
        with sync_database.begin() as session:
            session.add(Item(name="sync note"))

    app = FastAPI()

    @app.post("/items")
    async def create(session: Annotated[AsyncSession, database.session]) -> None:
        session.add(Item(name="lamp"))
        await session.flush()
        after_commit(session, note)

    @app.post("/sync-items")
    def sync_create(session: Annotated[Session, sync_database.session]) -> None:
        session.add(Item(name="sync lamp"))
        session.flush()
        after_commit(session, sync_note)

    assert await request(app, "POST", "/items") == 200
    assert await request(app, "POST", "/sync-items") == 200
    assert {"lamp", "note"} <= set(await item_names(database))
    assert {"sync lamp", "sync note"} <= set(sync_item_names(sync_database))


async def test_they_cannot_use_the_session_that_has_ended(
    sqlite: Database[AsyncSession],
    sync_sqlite: SyncDatabase[Session],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sqlite.begin() as session:
        after_commit(session, lambda: session.add(Item(name="late")))
        after_commit(session, lambda: after_commit(session, list))
        after_commit(session, lambda: session.scalars(select(Item)))
    with sync_sqlite.begin() as sync_session:
        after_commit(sync_session, lambda: sync_session.add(Item(name="late")))
    errors = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert errors == [SessionEndedError] * 4
    assert await item_names(sqlite) == []
    assert sync_item_names(sync_sqlite) == []


async def test_they_see_the_contextvars_of_the_request(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[str] = []
    app = FastAPI()

    async def authenticate(name: str) -> None:
        user.set(name)

    dependencies = [Depends(authenticate)]

    @app.get("/async", dependencies=dependencies)
    async def endpoint(session: Annotated[AsyncSession, sqlite.session]) -> None:
        after_commit(session, lambda: seen.append(user.get()))

    @app.get("/sync", dependencies=dependencies)
    def sync_endpoint(session: Annotated[Session, sync_sqlite.session]) -> None:
        after_commit(session, lambda: seen.append(user.get()))

    await asyncio.gather(
        *(
            request(app, "GET", f"/{kind}?name={kind}{n}")
            for kind in ("async", "sync")
            for n in "12"
        )
    )
    assert sorted(seen) == ["async1", "async2", "sync1", "sync2"]


# What is refused.


async def test_nothing_waits_for_a_unit_of_work_that_has_ended(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    async with sqlite.begin() as session:
        pass
    with sync_sqlite.begin() as sync_session:
        pass
    for ended in (session, sync_session):
        for register in (after_commit, after_rollback):
            with pytest.raises(SessionEndedError, match="has ended"):
                register(ended, list)


async def test_a_session_that_is_not_fastkits_is_refused(
    sqlite: Database[AsyncSession],
) -> None:
    async with AsyncSession(sqlite.engine) as session:
        for foreign in (session, session.sync_session, Session()):
            for register in (after_commit, after_rollback):
                with pytest.raises(TypeError, match="is no session that fastkit commits: use one"):
                    register(foreign, list)


async def test_an_async_function_is_refused_by_a_sync_session(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    async def mail() -> None: ...

    with sync_sqlite.begin() as session:
        for function in (mail, functools.partial(mail)):
            with pytest.raises(TypeError, match="has no event loop to await it: pass a plain"):
                after_commit(session, function)


def test_a_coroutine_that_a_sync_session_cannot_await_is_logged(
    sync_sqlite: SyncDatabase[Session], caplog: pytest.LogCaptureFixture
) -> None:
    fates: list[str] = []

    async def mail() -> None: ...

    with sync_sqlite.begin() as session:
        after_commit(session, lambda: mail())
        follow(session, fates)
    assert fates == ["it committed"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "has no event loop to await it: pass a plain function, or use Database" in caplog.text


def test_a_cancellation_that_a_sync_function_raises_is_logged(
    sync_sqlite: SyncDatabase[Session], caplog: pytest.LogCaptureFixture
) -> None:
    fates: list[str] = []

    def result_of_a_cancelled_future() -> None:
        raise asyncio.CancelledError

    with sync_sqlite.begin() as session:
        after_commit(session, result_of_a_cancelled_future)
        follow(session, fates)
    assert fates == ["it committed"]
    assert "result_of_a_cancelled_future" in caplog.text


# A connection that breaks.


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
@pytest.mark.parametrize("commits", [True, False])
async def test_a_broken_connection_is_a_rollback_and_is_not_used_again(
    database: Database[AsyncSession], commits: bool
) -> None:
    fates: list[str] = []
    app = FastAPI()

    @app.post("/items")
    async def create(session: Annotated[AsyncSession, database.session]) -> None:
        session.add(Item(name="lamp"))
        await session.flush()
        follow(session, fates)
        backend = (await session.scalars(text("SELECT pg_backend_pid()"))).one()
        await asyncio.to_thread(terminate, database.engine.url, backend)
        if not commits:
            raise HTTPException(418)

    async with client(app) as http:
        assert (await http.post("/items")).status_code == (500 if commits else 418)
    assert fates == ["it rolled back"]
    assert checked_out(database) == 0
    for _ in range(3):
        assert await item_names(database) == []


@pytest.mark.parametrize("failure", [KeyError, asyncio.CancelledError])
async def test_a_rollback_that_fails_is_logged_and_changes_nothing(
    database: Database[AsyncSession],
    failure: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fates: list[str] = []
    engine = database.engine.sync_engine

    def fail(_: object) -> None:
        raise failure("no rollback today")

    with pytest.raises(LookupError, match="mine"):
        async with database.begin() as session:
            follow(session, fates)
            session.add(Item(name="lamp"))
            await session.flush()
            event.listen(engine, "rollback", fail)
            raise LookupError("mine")
    event.remove(engine, "rollback", fail)
    assert fates == ["it rolled back"]
    assert "no rollback today" in caplog.text
    assert checked_out(database) == 0
    assert await item_names(database) == []
