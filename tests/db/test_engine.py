"""A commit that returns has committed, whatever went wrong before it."""

import asyncio
import logging

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DataError, IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SyncDatabase, after_commit, after_rollback
from tests.db.models import Item
from tests.db.support import checked_out, item_names, sync_item_names
from tests.support import Postgres

pytestmark = pytest.mark.anyio


async def test_a_failure_that_was_caught_is_not_taken_for_a_commit(
    database: Database[AsyncSession],
) -> None:
    """PostgreSQL would answer the COMMIT with a silent ROLLBACK; SQLite commits the rest."""
    fates: list[str] = []
    refused = False
    try:
        async with database.begin() as session:
            after_commit(session, lambda: fates.append("committed"))
            after_rollback(session, lambda: fates.append("rolled back"))
            await session.execute(insert(Item).values(name="lamp"))
            with pytest.raises(IntegrityError):
                await session.execute(insert(Item).values(name="lamp"))
    except InvalidRequestError as exc:
        refused = "begin_nested" in str(exc)
    assert refused is (database.engine.dialect.name == "postgresql")
    assert await item_names(database) == ([] if refused else ["lamp"])
    assert fates == (["rolled back"] if refused else ["committed"])
    assert checked_out(database) == 0
    async with database.begin() as session:
        session.add(Item(name="chair"))
    assert "chair" in await item_names(database)


async def test_a_failure_in_a_savepoint_leaves_the_rest_to_be_committed(
    database: Database[AsyncSession],
) -> None:
    async with database.begin() as session:
        await session.execute(insert(Item).values(name="lamp"))
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                await session.execute(insert(Item).values(name="lamp"))
    assert await item_names(database) == ["lamp"]


def test_a_failure_that_was_caught_is_not_taken_for_a_commit_by_a_sync_database(
    sync_database: SyncDatabase[Session],
) -> None:
    refused = False
    try:
        with sync_database.begin() as session:
            session.execute(insert(Item).values(name="lamp"))
            with pytest.raises(IntegrityError):
                session.execute(insert(Item).values(name="lamp"))
    except InvalidRequestError:
        refused = True
    assert refused is (sync_database.engine.dialect.name == "postgresql")
    assert sync_item_names(sync_database) == ([] if refused else ["lamp"])


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
