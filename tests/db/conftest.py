"""Databases on every driver that is tested."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import Database, SyncDatabase
from tests.db.support import open_database, open_sync_database
from tests.support import Postgres, temporary_database


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    with temporary_database(postgres_server) as database:
        yield database


@pytest.fixture
def emptied_postgres(shared_postgres: Postgres) -> Iterator[Postgres]:
    """A database that is emptied after the test, which is faster than a new one."""
    yield shared_postgres
    with psycopg.connect(shared_postgres.url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def _url(request: pytest.FixtureRequest, folder: Path) -> str:
    driver: str = request.param
    if "sqlite" in driver:
        return f"{driver}:///{folder / 'test.db'}"
    postgres: Postgres = request.getfixturevalue("emptied_postgres")
    return postgres.url(driver)


@pytest.fixture(params=["sqlite+aiosqlite", "asyncpg", "psycopg"])
def async_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _url(request, tmp_path)


@pytest.fixture(params=["sqlite+pysqlite", "psycopg"])
def sync_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _url(request, tmp_path)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def sync_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
async def database(async_url: str) -> AsyncGenerator[Database[AsyncSession]]:
    """A database with empty tables and one connection, on each driver."""
    async with open_database(async_url) as database:
        yield database


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncGenerator[Database[AsyncSession]]:
    """The same on SQLite alone, for what no database has a say in."""
    async with open_database(sqlite_url) as database:
        yield database


@pytest.fixture
def sync_database(sync_url: str) -> Generator[SyncDatabase[Session]]:
    with open_sync_database(sync_url) as database:
        yield database


@pytest.fixture
def sync_sqlite(sync_sqlite_url: str) -> Generator[SyncDatabase[Session]]:
    with open_sync_database(sync_sqlite_url) as database:
        yield database


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What the event loop has to say of tasks and exceptions that nobody looked after."""
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: heard.append(str(context)))
    yield heard
    gc.collect()
    loop.set_exception_handler(before)
    # asyncpg's own, about a connection that was cancelled while it was being made.
    asyncpgs = ("unexpected connection_lost() call", "TLSUpgradeProto")
    assert [text for text in heard if not any(own in text for own in asyncpgs)] == []
