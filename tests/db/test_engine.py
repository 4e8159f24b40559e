"""What an engine is watched for, and what is not in the log."""

import asyncio
import logging
import sqlite3

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

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


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
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
