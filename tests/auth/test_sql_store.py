"""What `SQLTokenStore` owes to the database that it shares with the app."""

import asyncio
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from fastkit.auth._store import TokenStore
from fastkit.auth.sql import SQLTokenStore
from fastkit.db import DATABASE_PROBLEMS, Database, SyncDatabase
from fastkit.errors import Problem
from tests.auth.stores import (
    ASYNC_SQL_KINDS,
    SQL_KINDS,
    Place,
    make_async_engine,
    make_login,
    on,
    open_store,
    plain_engine,
)
from tests.db.support import terminate

pytestmark = pytest.mark.anyio

POSTGRES_KINDS = tuple(kind for kind in SQL_KINDS if "postgresql" in kind)


@on(*SQL_KINDS)
async def test_one_connection_is_enough(place: Place) -> None:
    async with open_store(place, connections=1) as store:
        logins = [make_login(f"user {n % 5}") for n in range(20)]
        await asyncio.gather(*map(store.add, logins))
        advanced = await asyncio.gather(
            *(
                store.advance(x.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)
                for x in logins * 2
            )
        )
        assert sum(advanced) == 20
        assert sum(await asyncio.gather(*(store.remove_all(f"user {n}") for n in range(5)))) == 20


@on(*ASYNC_SQL_KINDS)
async def test_a_session_of_the_app_neither_holds_it_up_nor_takes_it_back(place: Place) -> None:
    engine = make_async_engine(place, connections=2)
    database = Database(engine)
    store = SQLTokenStore(database, metadata=MetaData(), table=place.name)
    login = make_login()
    with pytest.raises(LookupError):
        async with database.begin() as session:
            await session.execute(text("SELECT 1"))
            await store.add(login)
            raise LookupError
    assert await store.get(login.id) == login
    await engine.dispose()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@on(*POSTGRES_KINDS)
async def test_who_loses_a_race_gets_no_error_for_the_apps_isolation_level(
    place: Place, level: str
) -> None:
    if place.kind.startswith("sync "):
        engine = create_engine(place.url, isolation_level=level)
        database: Any = SyncDatabase(engine)
        close: Any = asyncio.to_thread(engine.dispose)
    else:
        async_engine = create_async_engine(place.url, isolation_level=level)
        database, close = Database(async_engine), async_engine.dispose()
    store = SQLTokenStore(database, metadata=MetaData(), table=place.name)
    for _ in range(10):
        login = make_login()
        await store.add(login)
        *advanced, removed = await asyncio.gather(
            *(
                store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)
                for _ in range(8)
            ),
            store.remove_all("ann"),
        )
        assert sum(advanced) <= 1
        assert removed == 1
        assert await store.get(login.id) is None
    await close


@on(*ASYNC_SQL_KINDS)
async def test_it_stays_in_the_transaction_that_a_test_rolls_back(place: Place) -> None:
    """SQLAlchemy's recipe for test suites: the sessions are bound to one connection."""
    engine = make_async_engine(place, connections=1)
    async with engine.connect() as connection:
        transaction = await connection.begin()
        maker = async_sessionmaker(connection, join_transaction_mode="create_savepoint")
        store = SQLTokenStore(Database(maker), metadata=MetaData(), table=place.name)
        login = make_login()
        await store.add(login)
        assert await store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)
        await transaction.rollback()
        assert await store.get(login.id) is None
    await engine.dispose()


@on("sync postgresql+psycopg")
async def test_the_same_without_asyncio(place: Place) -> None:
    with plain_engine(place, connections=1) as engine, engine.connect() as connection:
        transaction = connection.begin()
        maker = sessionmaker(connection, join_transaction_mode="create_savepoint")
        store = SQLTokenStore(SyncDatabase(maker), metadata=MetaData(), table=place.name)
        login = make_login()
        await store.add(login)
        transaction.rollback()
        assert await store.get(login.id) is None


@on(*POSTGRES_KINDS)
async def test_a_login_does_not_wait_for_who_removes_expired_ones(place: Place) -> None:
    async with open_store(place) as store:
        expired = make_login(expires_at=1001.0)
        await store.add(expired)
        with plain_engine(place) as engine, engine.begin() as other:
            other.execute(text(f"DELETE FROM {place.name}"))  # noqa: S608
            async with asyncio.timeout(10):
                await store.add(make_login(now=2000.0))
            other.rollback()
        await store.add(make_login(now=2000.0))
        assert await store.get(expired.id) is None


@on("sync sqlite+pysqlite", "sync postgresql+psycopg")
async def test_whoever_is_cancelled_waits_for_the_thread(place: Place) -> None:
    """Otherwise something would happen when nobody expects it any more."""
    login = make_login()
    with plain_engine(place, connections=1) as engine:
        store = SQLTokenStore(SyncDatabase(engine), metadata=MetaData(), table=place.name)
        task = asyncio.create_task(store.add(login))
        with engine.connect():
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.get(login.id) == login


# Errors.


async def every_operation(store: TokenStore) -> list[BaseException]:
    """What each raises."""
    login = make_login()
    raised = await asyncio.gather(
        store.add(login),
        store.get(login.id),
        store.advance(login.id, 0, stamp="new", used_at=1.0, expires_at=2.0),
        store.remove(login.id),
        store.remove_all("ann"),
        return_exceptions=True,
    )
    return [error for error in raised if isinstance(error, BaseException)]


def status(error: BaseException) -> int | None:
    """What a client is told of it."""
    assert isinstance(error, DBAPIError)
    factory: Any = DATABASE_PROBLEMS[DBAPIError]
    problem: Problem | None = factory(error)
    return None if problem is None else problem.status


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "sync psycopg"])
async def test_a_database_that_does_not_answer_is_a_503(driver: str) -> None:
    url = f"postgresql+{driver.removeprefix('sync ')}://nobody@127.0.0.1:1/nothing"
    database: Any = SyncDatabase(url) if driver.startswith("sync ") else Database(url)
    errors = await every_operation(SQLTokenStore(database, metadata=MetaData()))
    assert [status(error) for error in errors] == [503] * 5


@on(*POSTGRES_KINDS)
async def test_a_connection_that_was_lost_is_a_503_once(place: Place) -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    query = f"SELECT pid FROM pg_stat_activity WHERE {others}"  # noqa: S608
    async with open_store(place, connections=1) as store:
        await store.get("0")
        with plain_engine(place) as engine, engine.connect() as connection:
            backends = connection.scalars(text(query)).all()
        assert backends
        for backend in backends:
            await asyncio.to_thread(terminate, make_url(place.url), backend)
        with pytest.raises(SQLAlchemyError) as caught:
            await store.get("0")
        assert status(caught.value) == 503
        assert await store.get("0") is None


@on(*SQL_KINDS)
async def test_a_table_that_was_not_made_is_named(place: Place) -> None:
    async with open_store(Place(place.kind, place.url, "not_migrated")) as store:
        errors = await every_operation(store)
    assert len(errors) == 5
    for error in errors:
        assert isinstance(error, SQLAlchemyError)
        assert "not_migrated" in str(error)


# The table.


def test_another_table_of_its_name_is_refused() -> None:
    metadata = MetaData()
    Table("fastkit_logins", metadata, Column("id", Integer, primary_key=True))
    database = SyncDatabase("sqlite:///test.db")
    with pytest.raises(ValueError, match=r"'fastkit_logins' that is not SQLTokenStore's.* table="):
        SQLTokenStore(database, metadata=metadata)
    SQLTokenStore(database, metadata=metadata, table="other")
    assert set(metadata.tables) == {"fastkit_logins", "other"}


def test_stores_can_share_a_table_and_it_is_in_the_schema_of_the_app() -> None:
    metadata = MetaData(schema="shop")
    for name in ("a.db", "b.db"):
        SQLTokenStore(SyncDatabase(f"sqlite:///{name}"), metadata=metadata)
    assert set(metadata.tables) == {"shop.fastkit_logins"}
    assert len(metadata.tables["shop.fastkit_logins"].indexes) == 2


# What it costs.


@contextmanager
def statements(engine: Engine) -> Generator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        seen.append((arguments[2], arguments[3]))

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["Node Type"]
    for part in plan.get("Plans", []):
        yield from nodes(part)


@on("sync postgresql+psycopg")
async def test_every_statement_goes_by_an_index(place: Place) -> None:
    now = 1_764_000_000.0
    with plain_engine(place) as engine:
        metadata = MetaData()
        store = SQLTokenStore(SyncDatabase(engine), metadata=metadata, table=place.name)
        rows: list[dict[str, Any]] = [
            {
                "id": f"{n:032x}",
                "subject": f"user {n}",
                "scopes": [],
                "stamp": "",
                "nonce_hash": "",
                "generation": 0,
                "used_at": now,
                "expires_at": now + n - 500,
            }
            for n in range(20_000)
        ]
        with engine.begin() as connection:
            connection.execute(insert(metadata.tables[place.name]), rows)
            connection.execute(text(f"ANALYZE {place.name}"))
        login_id: str = rows[-1]["id"]
        with statements(engine) as seen:
            await store.add(make_login(now=now))
            await store.get(login_id)
            assert await store.advance(login_id, 0, stamp="new", used_at=now, expires_at=now)
            assert await store.remove(login_id)
            assert await store.remove_all("user 19000") == 1
        commands = [statement.split()[0] for statement, _ in seen]
        assert commands == ["INSERT", "SELECT", "DELETE", "SELECT", "UPDATE", "DELETE", "DELETE"]
        with engine.connect() as connection:
            for statement, parameters in seen[1:]:
                explain = f"EXPLAIN (FORMAT JSON) {statement}"
                (plan,) = connection.exec_driver_sql(explain, parameters).scalar_one()
                found = set(nodes(plan["Plan"]))
                assert "Seq Scan" not in found, json.dumps(plan)
                assert any("Index" in node for node in found), json.dumps(plan)
