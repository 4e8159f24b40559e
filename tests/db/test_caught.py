"""A path operation that catches what a statement raised, and returns.

PostgreSQL aborts the transaction then, and answers COMMIT with a ROLLBACK that is no error.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated

import pytest
from fastapi import FastAPI
from sqlalchemy import Integer, insert, literal, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SyncDatabase, after_commit, after_rollback
from tests.db.models import Item
from tests.db.support import checked_out, client, item_names, sync_item_names

pytestmark = pytest.mark.anyio

Work = Callable[[AsyncSession], Awaitable[object]]


async def twice(session: AsyncSession) -> None:
    await session.execute(insert(Item), [{"name": "lamp"}])


async def nonsense(session: AsyncSession) -> None:
    await session.execute(text("SELECT nonsense"))


async def division(session: AsyncSession) -> None:
    await session.execute(text("SELECT 1 / 0"))


async def wrong_type(session: AsyncSession) -> None:
    """asyncpg refuses this itself, with a code as if the server had: that is not told apart."""
    await session.execute(select(Item.name).where(Item.id == literal("x", Integer)))


async def flush(session: AsyncSession) -> None:
    session.add(Item(name="lamp"))
    await session.flush()


FAILURES: list[Work] = [twice, nonsense, division, wrong_type, flush]


async def answer(database: Database[AsyncSession], work: Work) -> tuple[int, list[str], list[str]]:
    """What a path operation that adds a lamp and does `work` answers; the fates; what is stored."""
    fates: list[str] = []
    app = FastAPI()

    @app.post("/")
    async def endpoint(session: Annotated[AsyncSession, database.session]) -> None:
        after_commit(session, lambda: fates.append("committed"))
        after_rollback(session, lambda: fates.append("rolled back"))
        session.add(Item(name="lamp"))
        await session.flush()
        await work(session)

    async with client(app) as http:
        status = (await http.post("/")).status_code
    assert checked_out(database) == 0
    stored = await item_names(database)  # on the only connection
    return status, fates, stored


COMMITTED = (200, ["committed"], ["lamp"])
ROLLED_BACK: tuple[int, list[str], list[str]] = (500, ["rolled back"], [])


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_2xx_means_committed_all_the_same(
    database: Database[AsyncSession], failure: Work
) -> None:
    async def work(session: AsyncSession) -> None:
        with suppress(SQLAlchemyError):
            await failure(session)

    result = await answer(database, work)
    assert result in (COMMITTED, ROLLED_BACK)
    if database.engine.dialect.name == "postgresql":
        assert result == ROLLED_BACK


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
async def test_the_error_says_what_to_do(database: Database[AsyncSession]) -> None:
    with pytest.raises(InvalidRequestError, match=r"a statement in it failed.*begin_nested\(\)"):
        async with database.begin() as session:
            with pytest.raises(DBAPIError):
                await nonsense(session)
    assert checked_out(database) == 0


@pytest.mark.parametrize("failure", [twice, nonsense, flush])
async def test_in_a_savepoint_it_is_undone_alone(
    database: Database[AsyncSession], failure: Work
) -> None:
    async def work(session: AsyncSession) -> None:
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                session.add(Item(name="chair"))
                await failure(session)

    assert await answer(database, work) == COMMITTED


async def test_a_failure_in_a_savepoint_does_not_excuse_one_outside(
    database: Database[AsyncSession],
) -> None:
    async def work(session: AsyncSession) -> None:
        for _ in range(2):
            with pytest.raises(DBAPIError):
                async with session.begin_nested():
                    await nonsense(session)
        with pytest.raises(DBAPIError):
            await nonsense(session)
        with pytest.raises(SQLAlchemyError):
            async with session.begin_nested():
                await nonsense(session)

    expected = COMMITTED if database.engine.dialect.name == "sqlite" else ROLLED_BACK
    assert await answer(database, work) == expected


@pytest.mark.parametrize("failure", [twice, nonsense, flush])
async def test_after_a_rollback_by_hand_a_new_transaction_is_committed(
    database: Database[AsyncSession], failure: Work
) -> None:
    async def work(session: AsyncSession) -> None:
        with pytest.raises(DBAPIError):
            await failure(session)
        await session.rollback()
        session.add(Item(name="chair"))

    assert await answer(database, work) == (200, ["rolled back"], ["chair"])


async def test_a_commit_by_hand_raises(database: Database[AsyncSession]) -> None:
    raised: list[Exception] = []

    async def work(session: AsyncSession) -> None:
        with pytest.raises(DBAPIError):
            await nonsense(session)
        try:
            await session.commit()
        except InvalidRequestError as exc:
            raised.append(exc)
            raise

    if database.engine.dialect.name == "sqlite":
        assert await answer(database, work) == COMMITTED
        assert raised == []
    else:
        assert await answer(database, work) == ROLLED_BACK
        assert len(raised) == 1


async def test_the_next_transaction_on_the_connection_is_not_blamed(
    database: Database[AsyncSession],
) -> None:
    for _ in range(2):
        with pytest.raises(DBAPIError):
            async with database.begin() as session:
                await nonsense(session)
        async with database.begin() as session:
            await session.execute(select(Item))
    async with database.begin() as session:
        session.add(Item(name="lamp"))
    assert await item_names(database) == ["lamp"]


@pytest.mark.parametrize("failure", ["SELECT nonsense", "INSERT INTO item (name) VALUES ('lamp')"])
async def test_a_2xx_of_a_sync_database_means_committed_all_the_same(
    sync_database: SyncDatabase[Session], failure: str
) -> None:
    app = FastAPI()

    @app.post("/")
    def endpoint(session: Annotated[Session, sync_database.session]) -> None:
        session.add(Item(name="lamp"))
        session.flush()
        with pytest.raises(DBAPIError):
            session.execute(text(failure))

    @app.post("/savepoint")
    def in_a_savepoint(session: Annotated[Session, sync_database.session]) -> None:
        session.add(Item(name="chair"))
        session.flush()
        with pytest.raises(DBAPIError), session.begin_nested():
            session.execute(text(failure.replace("lamp", "chair")))

    goes_on = sync_database.engine.dialect.name == "sqlite"
    async with client(app) as http:
        assert (await http.post("/")).status_code == (200 if goes_on else 500)
        assert checked_out(sync_database) == 0
        assert sync_item_names(sync_database) == (["lamp"] if goes_on else [])
        assert (await http.post("/savepoint")).status_code == 200
    assert "chair" in sync_item_names(sync_database)
