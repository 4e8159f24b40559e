"""Token stores of every kind, which any process can open, and what is in them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import pytest
import redis
from redis.asyncio import Redis
from sqlalchemy import Engine, MetaData, QueuePool, Table, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from fastkit.auth._store import Login, MemoryTokenStore, TokenStore
from fastkit.auth.redis import RedisTokenStore
from fastkit.auth.sql import SQLTokenStore
from fastkit.db import Database, SyncDatabase
from tests.db.stepping import stepping

__all__ = (
    "ASYNC_SQL_KINDS",
    "KINDS",
    "REDIS_KINDS",
    "SHARED_KINDS",
    "SQL_KINDS",
    "Place",
    "cancelled_at",
    "dump",
    "make_async_engine",
    "make_login",
    "on",
    "open_store",
    "plain_engine",
    "prepared",
)

ASYNC_SQL_KINDS = ("sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg")
SQL_KINDS = (*ASYNC_SQL_KINDS, "sync sqlite+pysqlite", "sync postgresql+psycopg")
REDIS_KINDS = ("redis", "redis decoded")
SHARED_KINDS = (*SQL_KINDS, *REDIS_KINDS)
KINDS = ("memory", *SHARED_KINDS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is. Its name keeps it apart from others in the same database or Redis."""

    kind: str
    url: str = ""
    name: str = ""

    @property
    def env(self) -> Mapping[str, str]:
        """For another process, which has it as `Place.of_env()`."""
        return {f"STORE_{key.upper()}": value for key, value in asdict(self).items()}

    @classmethod
    def of_env(cls) -> "Place":
        return cls(*(os.environ[f"STORE_{key}"] for key in ("KIND", "URL", "NAME")))


def on(*kinds: str) -> pytest.MarkDecorator:
    """Only on these kinds of stores."""
    return pytest.mark.parametrize("place", kinds, indirect=True)


def make_login(subject: str = "ann", *, now: float = 1000.0, **changes: Any) -> Login:
    login_id = uuid4().hex
    values: dict[str, Any] = {
        "id": login_id,
        "subject": subject,
        "scopes": ("items:read", "items:write"),
        "stamp": "a stamp",
        "nonce_hash": login_id[::-1] * 2,
        "generation": 0,
        "used_at": now,
        "expires_at": now + 3600.0,
    }
    return Login(**{**values, **changes})


@contextmanager
def prepared(place: Place, /) -> Generator[Place]:
    """Make the store's table, and delete all that it leaves in the end."""
    if place.kind in SQL_KINDS:
        metadata = MetaData()
        with plain_engine(place) as engine:
            SQLTokenStore(SyncDatabase(engine), metadata=metadata, table=place.name)
            metadata.create_all(engine)
            engine.dispose()
            yield place
            metadata.drop_all(engine)
    elif place.kind in REDIS_KINDS:
        with _plain_redis(place) as client:
            yield place
            for key in _keys(client, place):
                client.delete(key)
    else:
        yield place


@asynccontextmanager
async def open_store(
    place: Place, /, *, connections: int | None = None
) -> AsyncGenerator[TokenStore]:
    """The store there, which has no more than so many connections."""
    if place.kind == "memory":
        yield MemoryTokenStore()
    elif place.kind in REDIS_KINDS:
        client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            place.url,
            max_connections=connections,
            decode_responses=place.kind == "redis decoded",
        )
        try:
            yield RedisTokenStore(client, prefix=place.name)
        finally:
            await client.aclose()
    elif place.kind.startswith("sync "):
        with plain_engine(place, connections=connections) as engine:
            yield SQLTokenStore(SyncDatabase(engine), metadata=MetaData(), table=place.name)
    else:
        async_engine = make_async_engine(place, connections=connections)
        try:
            yield SQLTokenStore(Database(async_engine), metadata=MetaData(), table=place.name)
        finally:
            await async_engine.dispose()


def make_async_engine(
    place: Place, /, *, connections: int | None = None, **options: Any
) -> AsyncEngine:
    return create_async_engine(
        place.url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections or 5,
        max_overflow=0,
        connect_args=_arguments(place),
        **options,
    )


@contextmanager
def plain_engine(place: Place, /, *, connections: int | None = None) -> Generator[Engine]:
    """An engine without asyncio for the same database."""
    url = place.url.replace("+asyncpg", "+psycopg").replace("+aiosqlite", "")
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections or 5,
        max_overflow=0,
        connect_args=_arguments(place),
    )
    try:
        yield engine
    finally:
        engine.dispose()


def _arguments(place: Place) -> dict[str, Any]:
    # SQLite has one writer at a time, and the machine may be busy.
    return {"timeout": 30} if "sqlite" in place.kind else {}


def dump(place: Place, store: TokenStore) -> str:
    """Everything that the store holds."""
    if place.kind in REDIS_KINDS:
        with _plain_redis(place) as client:
            return repr([(key, _content(client, key)) for key in _keys(client, place)])
    if place.kind in SQL_KINDS:
        with plain_engine(place) as engine, engine.connect() as connection:
            table = Table(place.name, MetaData(), autoload_with=connection)
            return repr(connection.execute(select(table)).all())
    kept = vars(store)
    return repr([kept, *map(asdict, kept["_logins"].values())])


def _plain_redis(place: Place) -> redis.Redis:
    return redis.Redis.from_url(place.url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]


def _keys(client: Any, place: Place) -> list[str]:
    return list(client.scan_iter(match=f"{place.name}*"))


def _content(client: Any, key: str) -> Any:
    if client.type(key) == "hash":
        return client.hgetall(key)
    return client.zrange(key, 0, -1, withscores=True)


async def cancelled_at(step: int, work: Coroutine[Any, Any, object], *, repeatedly: bool) -> bool:
    """Run `work` in a task that is cancelled at `step`; whether it got that far."""

    def cancel() -> None:
        task.cancel()

    with stepping(step, cancel, repeatedly=repeatedly) as steps:
        task = asyncio.create_task(work)
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return steps.reached
