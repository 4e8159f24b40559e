"""What an engine is watched for, and what is not in the log."""

import asyncio
import logging
import sqlite3
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DataError, IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from fastkit.db import Database, SyncDatabase, after_rollback
from tests.db.models import Item
from tests.db.support import checked_out
from tests.support import Postgres

pytestmark = pytest.mark.anyio


def test_an_engine_for_another_database_is_left_as_it_is() -> None:
    engine = create_engine("mysql+pymysql://localhost/shop", module=sqlite3)  # never connects
    assert SyncDatabase(engine).engine is engine
    for name in ("begin", "commit", "rollback_savepoint", "savepoint"):
        assert not list(getattr(engine.dispatch, name))


AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
refuses_autocommit = pytest.raises(
    ValueError, match="AUTOCOMMIT, in which nothing can be rolled back: make the engine without it"
)


@pytest.mark.parametrize("option", [AUTOCOMMIT, {"isolation_level": "autocommit"}])
async def test_an_engine_whose_options_say_autocommit_is_refused(
    sqlite_url: str, sync_sqlite_url: str, option: Any
) -> None:
    engine = create_async_engine(sqlite_url)
    sync_engine = create_engine(sync_sqlite_url)
    by_itself = create_async_engine(sqlite_url, execution_options=option)
    for refused in (by_itself, engine.execution_options(**option)):
        for bind in (refused, async_sessionmaker(refused)):
            with refuses_autocommit:
                Database(bind)
    refused_sync = sync_engine.execution_options(**option)
    for sync_bind in (refused_sync, sessionmaker(refused_sync)):
        with refuses_autocommit:
            SyncDatabase(sync_bind)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_an_engine_of_postgresql_that_was_made_with_autocommit_is_refused_when_it_connects(
    postgres: Postgres, driver: str
) -> None:
    url = postgres.url(driver)
    database = Database(create_async_engine(url, pool_size=1, max_overflow=0, **AUTOCOMMIT))
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="nothing can be rolled back"):
            await database.ping()
    assert checked_out(database) == 0
    if driver == "psycopg":
        sync_database = SyncDatabase(create_engine(url, connect_args={"autocommit": True}))
        with pytest.raises(InvalidRequestError, match="nothing can be rolled back"):
            sync_database.ping()
        assert checked_out(sync_database) == 0


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_an_engine_may_have_autocommit_elsewhere(postgres: Postgres, driver: str) -> None:
    database = Database(postgres.url(driver))
    elsewhere = database.engine.execution_options(**AUTOCOMMIT)
    async with elsewhere.connect() as connection:
        await connection.execute(text("VACUUM"))
    options = {"isolation_level": "SERIALIZABLE"}
    engine = create_async_engine(postgres.url(driver), **AUTOCOMMIT, execution_options=options)
    other = Database(engine)
    for usable in (database, other):
        with pytest.raises(LookupError):
            async with usable.begin() as session:
                await session.execute(text("CREATE TABLE undone (n int)"))
                raise LookupError
        async with usable.begin() as session:
            assert await session.scalar(text("SELECT to_regclass('undone')")) is None
        await usable.engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.usefixtures("complaints")
async def test_a_connection_in_which_a_task_was_left_at_work_is_not_used_again(
    postgres: Postgres, driver: str
) -> None:
    async def fail() -> None:
        raise LookupError

    database = Database(postgres.url(driver))
    try:
        for _ in range(3):
            with pytest.raises(LookupError):
                async with database.begin() as session:
                    slow = session.execute(text("SELECT pg_sleep(0.2)"))
                    await asyncio.gather(slow, fail())
            async with database.begin() as session:
                assert await session.scalar(text("SELECT 1")) == 1
        assert checked_out(database) == 0
    finally:
        await database.engine.dispose()


async def test_a_value_that_the_driver_refuses_leaves_the_transaction_as_it_was(
    postgres: Postgres,
) -> None:
    """psycopg raises before the server has seen anything, so the rest can be committed."""
    database = Database(postgres.url("psycopg"))
    try:
        async with database.begin() as session:
            await session.execute(text("CREATE TABLE kept (n int)"))
            with pytest.raises(DataError):
                await session.execute(text("SELECT :value"), {"value": "a\x00b"})
        async with database.begin() as session:
            assert await session.scalar(text("SELECT count(*) FROM kept")) == 0
    finally:
        await database.engine.dispose()


async def test_a_failed_commit_is_not_in_the_log_of_what_raised_after_it(
    database: Database[AsyncSession], caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise LookupError("no mail today")

    caplog.set_level(logging.INFO)
    async with database.begin() as session:
        session.add(Item(name="sentinel-77"))
    with pytest.raises(IntegrityError):
        async with database.begin() as session:
            after_rollback(session, broken)
            session.add(Item(name="sentinel-77"))
    assert "no mail today" in caplog.text
    assert "sentinel-77" not in caplog.text
