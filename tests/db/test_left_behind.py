"""A path operation that has ended while a task or a thread of it still uses the session."""

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SessionEndedError, SyncDatabase, after_commit, after_rollback
from tests.db.models import Item
from tests.db.support import (
    checked_out,
    client,
    item_names,
    request,
    sync_item_names,
)

pytestmark = pytest.mark.anyio

SLOW = {
    "sqlite": "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
    "WHERE n < 500000) SELECT count(*) FROM numbers",
    "postgresql": "SELECT pg_sleep(0.3)",
}


@pytest.mark.usefixtures("complaints")
async def test_a_task_of_two_that_share_the_session_is_left_behind(
    database: Database[AsyncSession],
) -> None:
    """The second is refused while the first connects, and nobody waits for the first."""
    app = FastAPI()

    @app.get("/")
    async def endpoint(session: Annotated[AsyncSession, database.session]) -> None:
        await asyncio.gather(session.execute(select(Item)), session.execute(select(Item)))

    await database.engine.dispose()
    async with client(app) as http:
        assert (await http.get("/")).status_code == 500
    assert checked_out(database) == 0
    assert await item_names(database) == []


async def test_a_task_that_connects_is_waited_for(database: Database[AsyncSession]) -> None:
    tasks: list[asyncio.Task[object]] = []
    app = FastAPI()

    @app.get("/")
    async def endpoint(session: Annotated[AsyncSession, database.session]) -> None:
        tasks.append(asyncio.create_task(session.execute(insert(Item), [{"name": "lamp"}])))
        await asyncio.sleep(0)
        raise LookupError

    await database.engine.dispose()
    with pytest.raises(LookupError):
        await request(app, "GET", "/")
    await asyncio.wait(tasks)
    tasks[0].exception()
    assert checked_out(database) == 0
    assert await item_names(database) == []


# A native cancellation does not reach the thread of a path operation without `async`.


class Abandoned:
    """A request of which the path operation goes on in its thread after it was cancelled."""

    def __init__(self, database: SyncDatabase[Session], work: Callable[[Session], None]) -> None:
        self.fates: list[str] = []
        self.raised: list[BaseException] = []
        self.started = threading.Event()
        self.ended = threading.Event()
        self.app = FastAPI()

        @self.app.get("/")
        def endpoint(session: Annotated[Session, database.session]) -> None:
            after_commit(session, lambda: self.fates.append("committed"))
            after_rollback(session, lambda: self.fates.append("rolled back"))
            try:
                work(session)
            except BaseException as exc:
                self.raised.append(exc)
            finally:
                self.ended.set()

    async def cancel_when_started(self) -> asyncio.Task[int]:
        task = asyncio.create_task(request(self.app, "GET", "/"))
        await asyncio.to_thread(self.started.wait, 10)
        await asyncio.sleep(0.05)  # into what it does then
        task.cancel()
        return task

    async def wait(self, task: asyncio.Task[int]) -> None:
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
        assert await asyncio.to_thread(self.ended.wait, 10)


async def test_a_thread_that_executes_a_statement_is_waited_for(
    sync_database: SyncDatabase[Session],
) -> None:
    def work(session: Session) -> None:
        session.add(Item(name="lamp"))
        session.flush()
        abandoned.started.set()
        session.execute(text(SLOW[sync_database.engine.dialect.name]))
        session.add(Item(name="chair"))
        session.commit()

    abandoned = Abandoned(sync_database, work)
    await abandoned.wait(await abandoned.cancel_when_started())
    assert len(abandoned.raised) == 1
    assert abandoned.fates == ["rolled back"]
    assert checked_out(sync_database) == 0
    assert sync_item_names(sync_database) == []


async def test_a_thread_that_waits_for_a_connection_is_waited_for(
    sync_database: SyncDatabase[Session],
) -> None:
    def work(session: Session) -> None:
        abandoned.started.set()
        session.execute(insert(Item), [{"name": "lamp"}])
        abandoned.ended.wait(0.2)
        session.commit()

    abandoned = Abandoned(sync_database, work)
    with sync_database.engine.connect():  # the only one
        task = await abandoned.cancel_when_started()
        await asyncio.sleep(0.05)
        assert not task.done()
    await abandoned.wait(task)
    assert len(abandoned.raised) == 1
    assert abandoned.fates == ["rolled back"]
    assert checked_out(sync_database) == 0
    assert sync_item_names(sync_database) == []


async def test_a_thread_that_does_something_else_finds_the_session_ended(
    sync_database: SyncDatabase[Session],
) -> None:
    go_on = threading.Event()

    def work(session: Session) -> None:
        session.add(Item(name="lamp"))
        session.flush()
        abandoned.started.set()
        go_on.wait(10)
        session.add(Item(name="chair"))

    abandoned = Abandoned(sync_database, work)
    task = await abandoned.cancel_when_started()
    await asyncio.wait([task], timeout=10)
    assert abandoned.fates == ["rolled back"]
    assert checked_out(sync_database) == 0
    assert await asyncio.to_thread(sync_item_names, sync_database) == []
    go_on.set()
    await abandoned.wait(task)
    assert [type(exc) for exc in abandoned.raised] == [SessionEndedError]
    assert sync_item_names(sync_database) == []
