"""Databases whose pools show a lost connection, and requests without a server."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import httpx
import psycopg
from fastapi import FastAPI
from sqlalchemy import URL, Engine, QueuePool, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import AsyncAdaptedQueuePool

from fastkit.db import Database, SyncDatabase
from tests.db.models import Base, Item

__all__ = (
    "checked_out",
    "client",
    "connections_taken",
    "is_sqlite",
    "item_names",
    "make_async_engine",
    "make_sync_engine",
    "open_database",
    "open_sync_database",
    "request",
    "sync_item_names",
    "terminate",
)

# One connection: when it is lost, the next that asks for it waits in vain.
_POOL: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 3.0}


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


def make_async_engine(url: str, /, **options: Any) -> AsyncEngine:
    # SQLAlchemy 2.0.0 would have no pool for SQLite.
    engine = create_async_engine(url, **{"poolclass": AsyncAdaptedQueuePool, **_POOL, **options})
    _enforce_foreign_keys(engine.sync_engine)
    return engine


def make_sync_engine(url: str, /, **options: Any) -> Engine:
    engine = create_engine(url, **{"poolclass": QueuePool, **_POOL, **options})
    _enforce_foreign_keys(engine)
    return engine


def _enforce_foreign_keys(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return

    def connect(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    event.listen(engine, "connect", connect)


@asynccontextmanager
async def open_database(url: str, /, **options: Any) -> AsyncGenerator[Database[AsyncSession]]:
    """A database with empty tables, and one connection unless `options` say otherwise."""
    engine = make_async_engine(url, **options)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield Database(engine)
    finally:
        await engine.dispose()


@contextmanager
def open_sync_database(url: str, /, **options: Any) -> Generator[SyncDatabase[Session]]:
    engine = make_sync_engine(url, **options)
    try:
        Base.metadata.create_all(engine)
        yield SyncDatabase(engine)
    finally:
        engine.dispose()


def checked_out(database: Database[Any] | SyncDatabase[Any]) -> int:
    """How many connections are out of the pool."""
    return cast("QueuePool", database.engine.pool).checkedout()


async def item_names(database: Database[Any]) -> list[str]:
    async with database.begin() as session:
        return sorted(await session.scalars(select(Item.name)))


def sync_item_names(database: SyncDatabase[Any]) -> list[str]:
    with database.begin() as session:
        return sorted(session.scalars(select(Item.name)))


def connections_taken(database: Database[Any] | SyncDatabase[Any]) -> list[str]:
    """A list that grows with each connection that leaves the pool from now on."""
    taken: list[str] = []
    event.listen(database.engine.pool, "checkout", lambda *_: taken.append("a connection"))
    return taken


@asynccontextmanager
async def client(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of `app` in this event loop, to which unhandled errors are a 500."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def request(app: FastAPI, method: str, path: str) -> int:
    """The status of a response, or the exception that `app` raised, as a server sees it."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return (await http.request(method, path)).status_code


def terminate(url: URL, backend: int) -> None:
    """End a connection's server process, as an administrator or a crash would."""
    libpq = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(libpq) as connection:
        # Returns when it has ended, which may take 5 s.
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
