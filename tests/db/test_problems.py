"""What a client is told when the database refuses or fails."""

import asyncio
import socket
import socketserver
import struct
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.db import DATABASE_PROBLEMS, Database, SyncDatabase
from fastkit.errors import install_exception_handlers
from tests.db.models import Item, Part
from tests.db.support import (
    checked_out,
    client,
    make_async_engine,
    make_sync_engine,
    open_database,
    open_sync_database,
    sync_item_names,
    terminate,
)

pytestmark = pytest.mark.anyio

SENTINEL = "s3ntinel"
Work = Callable[[AsyncSession], Awaitable[object]]
SyncWork = Callable[[Session], object]


async def answer(database: Database[AsyncSession], work: Work) -> httpx.Response:
    """The response of a path operation that does `work`."""
    app = FastAPI()
    install_exception_handlers(app, DATABASE_PROBLEMS)

    @app.post("/")
    async def endpoint(session: Annotated[AsyncSession, database.session]) -> None:
        await work(session)

    async with client(app) as http:
        return check(await http.post("/"))


async def sync_answer(database: SyncDatabase[Session], work: SyncWork) -> httpx.Response:
    app = FastAPI()
    install_exception_handlers(app, DATABASE_PROBLEMS)

    @app.post("/")
    def endpoint(session: Annotated[Session, database.session]) -> None:
        work(session)

    async with client(app) as http:
        return check(await http.post("/"))


def check(response: httpx.Response) -> httpx.Response:
    """Check what holds for every answer to a failure."""
    assert response.headers["content-type"] == "application/problem+json"
    members = {"type", "title", "status", "detail"}
    if response.status_code == 500:
        members.add("request_id")
    assert response.json().keys() == members
    for hidden in (SENTINEL, "INSERT", "SELECT", "sqlalche", "psycopg", "asyncpg", "item"):
        assert hidden not in response.text
    assert response.headers.get("retry-after") == ("1" if response.status_code == 503 else None)
    return response


# Constraints.

CONSTRAINTS = {
    "not null": "INSERT INTO item (name) VALUES (NULL)",
    "unique": f"INSERT INTO item (name) VALUES ('{SENTINEL}'), ('{SENTINEL}')",  # noqa: S608
    "check": "INSERT INTO limited (size, code) VALUES (-1, 1)",
    "foreign key": "INSERT INTO limited (size, code, item_id) VALUES (1, 1, 999)",
}


@pytest.mark.parametrize("statement", CONSTRAINTS.values(), ids=CONSTRAINTS)
async def test_a_violated_constraint_is_a_409(
    database: Database[AsyncSession], statement: str
) -> None:
    async with database.begin() as session:
        await session.execute(
            text(
                "CREATE TABLE limited (size INTEGER CHECK (size > 0), code INTEGER UNIQUE, "
                "item_id INTEGER REFERENCES item (id))"
            )
        )
    response = await answer(database, lambda session: session.execute(text(statement)))
    assert response.status_code == 409
    assert response.json()["detail"] == "The request conflicts with what is stored."
    assert checked_out(database) == 0


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
async def test_a_deferred_constraint_of_postgresql_is_a_409(
    database: Database[AsyncSession],
) -> None:
    async with database.begin() as session:
        await session.execute(
            text("CREATE TABLE limited (code INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
    statement = text("INSERT INTO limited (code) VALUES (1), (1)")
    assert (await answer(database, lambda session: session.execute(statement))).status_code == 409


async def add_twice(session: AsyncSession) -> None:
    session.add_all([Item(name=SENTINEL), Item(name=SENTINEL)])


async def add_part(session: AsyncSession) -> None:
    session.add_all([Item(name=SENTINEL), Part(item_id=999)])


@pytest.mark.parametrize("work", [add_twice, add_part], ids=["in its flush", "in itself"])
async def test_a_constraint_that_is_violated_at_the_commit_is_a_409(
    database: Database[AsyncSession], work: Work
) -> None:
    assert (await answer(database, work)).status_code == 409


async def test_a_violated_constraint_of_a_sync_database_is_a_409(
    sync_database: SyncDatabase[Session],
) -> None:
    def add_two(session: Session) -> None:
        session.add_all([Item(name=SENTINEL), Part(item_id=999)])

    def execute(session: Session) -> None:
        session.execute(text(CONSTRAINTS["unique"]))

    for work in (execute, add_two):
        assert (await sync_answer(sync_database, work)).status_code == 409


# Nobody there.


def query(session: AsyncSession) -> Awaitable[object]:
    return session.execute(select(Item).where(Item.name == SENTINEL))


async def add(session: AsyncSession) -> None:
    session.add(Item(name=SENTINEL))


def sync_query(session: Session) -> object:
    return session.execute(select(Item).where(Item.name == SENTINEL))


def sync_add(session: Session) -> object:
    session.add(Item(name=SENTINEL))
    return None


at_statement_and_commit = pytest.mark.parametrize(
    ("work", "sync_work"),
    [(query, sync_query), (add, sync_add)],
    ids=["at a statement", "at the commit"],
)
every_async_driver = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nothing listens, and nothing else can."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@contextmanager
def unwilling_postgres(sqlstate: str) -> Generator[int]:
    """A server that answers every connection with an error, as PostgreSQL's protocol has it."""

    class Refuse(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while header := self.rfile.read(8):
                length, code = struct.unpack("!II", header)
                self.rfile.read(length - 8)
                if code == 0x00030000:
                    break
                self.wfile.write(b"N")  # no encryption: go on without
            fields = f"SFATAL\0VFATAL\0C{sqlstate}\0Mnot for {SENTINEL}\0\0".encode()
            self.wfile.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


REFUSALS = {
    "a wrong password": "28P01",
    "a server that starts": "57P03",
    "too many connections": "53300",
    "no such database": "3D000",
}


@every_async_driver
@at_statement_and_commit
async def test_a_server_that_cannot_be_reached_is_a_503(
    closed_port: int, driver: str, work: Work, sync_work: SyncWork
) -> None:
    url = f"postgresql+{driver}://{SENTINEL}:{SENTINEL}@127.0.0.1:{closed_port}/shop"
    database = Database(make_async_engine(url))
    for _ in range(3):
        assert (await answer(database, work)).status_code == 503
    assert checked_out(database) == 0
    with pytest.raises(SQLAlchemyError):
        await database.ping()
    if driver == "psycopg":
        sync_database = SyncDatabase(make_sync_engine(url))
        assert (await sync_answer(sync_database, sync_work)).status_code == 503
        with pytest.raises(SQLAlchemyError):
            sync_database.ping()


@every_async_driver
@pytest.mark.parametrize("sqlstate", REFUSALS.values(), ids=REFUSALS)
@at_statement_and_commit
async def test_a_server_that_refuses_the_connection_is_a_503(
    driver: str, sqlstate: str, work: Work, sync_work: SyncWork
) -> None:
    with unwilling_postgres(sqlstate) as port:
        url = f"postgresql+{driver}://{SENTINEL}:{SENTINEL}@127.0.0.1:{port}/shop"
        database = Database(make_async_engine(url))
        for _ in range(2):
            assert (await answer(database, work)).status_code == 503
        assert checked_out(database) == 0
        with pytest.raises(SQLAlchemyError):
            await database.ping()
        if driver == "psycopg":
            sync_database = SyncDatabase(make_sync_engine(url))
            assert (await sync_answer(sync_database, sync_work)).status_code == 503


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
async def test_a_connection_that_is_lost_at_a_statement_is_a_503(
    database: Database[AsyncSession],
) -> None:
    async def work(session: AsyncSession) -> None:
        backend = (await session.scalars(text("SELECT pg_backend_pid()"))).one()
        await asyncio.to_thread(terminate, database.engine.url, backend)
        await query(session)

    assert (await answer(database, work)).status_code == 503
    assert (await answer(database, add_twice)).status_code == 409


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
async def test_a_connection_that_was_lost_in_the_pool_is_a_503_and_then_a_new_one(
    database: Database[AsyncSession],
) -> None:
    async with database.begin() as session:
        backend = (await session.scalars(text("SELECT pg_backend_pid()"))).one()
    await asyncio.to_thread(terminate, database.engine.url, backend)
    assert (await answer(database, query)).status_code == 503
    await database.ping()


async def test_a_file_that_cannot_be_opened_is_a_503(tmp_path: Path) -> None:
    path = tmp_path / "no such folder" / "shop.db"
    assert (await answer(Database(f"sqlite+aiosqlite:///{path}"), query)).status_code == 503
    sync_database = SyncDatabase(f"sqlite:///{path}")
    assert (await sync_answer(sync_database, sync_query)).status_code == 503


# Too busy.


async def test_a_full_pool_is_a_503(async_url: str) -> None:
    async with open_database(async_url, pool_timeout=0.05) as database:
        async with database.begin() as holder:
            await holder.execute(select(Item))
            assert (await answer(database, query)).status_code == 503
            assert (await answer(database, add)).status_code == 503
        assert (await answer(database, add_twice)).status_code == 409


async def test_a_full_pool_of_a_sync_database_is_a_503(sync_url: str) -> None:
    with open_sync_database(sync_url, pool_timeout=0.05) as database:  # noqa: SIM117
        with database.begin() as holder:
            holder.execute(select(Item))
            assert (await sync_answer(database, sync_query)).status_code == 503
            assert (await sync_answer(database, sync_add)).status_code == 503


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
async def test_a_lock_that_is_not_to_be_had_is_a_503(async_url: str) -> None:
    lock = text("LOCK TABLE item NOWAIT")
    async with open_database(async_url, pool_size=2) as database, database.begin() as holder:
        await holder.execute(lock)
        response = await answer(database, lambda session: session.execute(lock))
        assert response.status_code == 503


@pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)
async def test_a_deadlock_is_a_503_for_one_of_the_two(async_url: str) -> None:
    both_have_one = asyncio.Barrier(2)

    def locks(first: str, second: str) -> Work:
        async def work(session: AsyncSession) -> None:
            await session.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            await session.execute(text(f"LOCK TABLE {first}"))
            await both_have_one.wait()
            await session.execute(text(f"LOCK TABLE {second}"))

        return work

    async with open_database(async_url, pool_size=2) as database:
        app = FastAPI()
        install_exception_handlers(app, DATABASE_PROBLEMS)

        @app.post("/{first}/{second}")
        async def lock(
            first: str, second: str, session: Annotated[AsyncSession, database.session]
        ) -> None:
            await locks(first, second)(session)

        async with client(app) as http:
            responses = await asyncio.gather(http.post("/item/part"), http.post("/part/item"))
        assert sorted(response.status_code for response in responses) == [200, 503]
        assert checked_out(database) == 0


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Another process's unfinished write, as SQLite sees it."""
    import sqlite3

    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Another process's unfinished read: one may write, and not commit."""
    import sqlite3

    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN")
        other.execute("SELECT * FROM item").fetchall()
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


@pytest.mark.parametrize("busy", [writing, reading], ids=["at a statement", "at the commit"])
async def test_a_locked_sqlite_file_is_a_503(tmp_path: Path, busy: Callable[[Path], Any]) -> None:
    path = tmp_path / "test.db"
    options = {"connect_args": {"timeout": 0.05}}

    async def flush(session: AsyncSession) -> None:
        session.add(Item(name=SENTINEL))
        await session.flush()

    def sync_flush(session: Session) -> None:
        session.add(Item(name=SENTINEL))
        session.flush()

    with open_sync_database(f"sqlite:///{path}", **options) as sync_database:
        async with open_database(f"sqlite+aiosqlite:///{path}", **options) as database:
            with busy(path):
                assert (await answer(database, flush)).status_code == 503
                assert (await sync_answer(sync_database, sync_flush)).status_code == 503
            assert sync_item_names(sync_database) == []
            with sync_database.begin() as session:
                session.add(Item(name="lamp"))
            assert sync_item_names(sync_database) == ["lamp"]


# The app's own mistakes.


async def own_os_error(session: AsyncSession) -> None:
    await query(session)
    open("/nonexistent")  # noqa: ASYNC230, SIM115


async def own_timeout(session: AsyncSession) -> None:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)


async def own_sqlalchemy_error(session: AsyncSession) -> None:
    await session.execute(text(f"SELECT {SENTINEL}"))


@pytest.mark.parametrize("work", [own_os_error, own_timeout, own_sqlalchemy_error])
async def test_what_is_not_the_databases_fault_is_a_500(
    database: Database[AsyncSession], work: Work
) -> None:
    assert (await answer(database, work)).status_code == 500
    assert checked_out(database) == 0


async def test_an_os_error_without_a_session_is_a_500() -> None:
    app = FastAPI()
    install_exception_handlers(app, DATABASE_PROBLEMS)

    @app.post("/")
    async def endpoint() -> None:
        raise ConnectionRefusedError(SENTINEL)

    async with client(app) as http:
        assert check(await http.post("/")).status_code == 500
