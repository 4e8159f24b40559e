"""What a client is told when the database refuses or fails."""

import asyncio
import logging
import socket
import socketserver
import struct
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import (
    BigInteger,
    Date,
    Integer,
    LargeBinary,
    Numeric,
    String,
    create_engine,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, mapped_column

from fastkit.db import DATABASE_PROBLEMS, Database, SyncDatabase
from fastkit.errors import install_exception_handlers
from tests.db.models import Base, Item, Part
from tests.db.support import (
    checked_out,
    client,
    item_names,
    make_async_engine,
    make_sync_engine,
    open_database,
    open_sync_database,
    sync_item_names,
    terminate,
)

pytestmark = pytest.mark.anyio

SENTINEL = "s3ntinel"
HIDDEN = (SENTINEL, "INSERT", "SELECT")
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


# Values.


class Measure(Base):
    __tablename__ = "measure"

    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(String(5))
    price: Mapped[Decimal | None] = mapped_column(Numeric(5, 2))
    day: Mapped[date | None]


BAD_VALUES: dict[str, dict[str, Any]] = {
    "out of int4": {"count": 2**40},
    "out of int8": {"big": 10**30},
    "NUL": {"name": "a\0b"},
    "too long": {"name": SENTINEL},
    "too many digits": {"price": Decimal(123456)},
}
BAD_LITERALS = {
    "no integer": "SELECT CAST('s3ntinel' AS integer)",
    "no day": "SELECT CAST('s3ntinel' AS date)",
    "no such day": "SELECT CAST('2001-02-31' AS date)",
    "too many bits": "INSERT INTO flags VALUES (B'101')",
    "NUL in JSON": """SELECT CAST('"s3ntinel\\u0000"' AS jsonb)""",
}
on_postgres = pytest.mark.parametrize("async_url", ["asyncpg", "psycopg"], indirect=True)


def check_value(response: httpx.Response, caplog: pytest.LogCaptureFixture) -> None:
    assert (response.status_code, response.json()["detail"]) == (
        400,
        "The request has a value that the database cannot hold or read.",
    )
    check_line(caplog, 400)


def check_line(caplog: pytest.LogCaptureFixture, status: int, *words: str) -> None:
    """Check that the log has a single line, which tells a person what it was and hides the rest."""
    lines = [record for record in caplog.records if record.name == "fastkit.db"]
    assert [line.levelno for line in lines] == [logging.WARNING]
    text = lines[0].getMessage()
    assert text.startswith(f"answered {status}: ")
    assert all(word in text for word in words)
    assert not any(hidden in text for hidden in HIDDEN)
    caplog.clear()


@on_postgres
@pytest.mark.parametrize("values", BAD_VALUES.values(), ids=BAD_VALUES)
async def test_a_value_that_postgresql_cannot_hold_is_a_400(
    database: Database[AsyncSession], values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def at_statement(session: AsyncSession) -> None:
        await session.execute(insert(Measure).values(**values))

    async def at_flush(session: AsyncSession) -> None:
        session.add(Measure(**values))
        await session.flush()

    async def at_commit(session: AsyncSession) -> None:
        session.add_all([Item(name="lamp"), Measure(**values)])

    for work in (at_statement, at_flush, at_commit):
        check_value(await answer(database, work), caplog)
    assert checked_out(database) == 0
    assert await item_names(database) == []


@on_postgres
async def test_a_value_that_postgresql_cannot_compare_with_is_a_400(
    database: Database[AsyncSession], caplog: pytest.LogCaptureFixture
) -> None:
    for clause in (Measure.count == 2**40, Measure.big == 10**30, Measure.name == "a\0b"):
        work = partial(AsyncSession.execute, statement=select(Measure.id).where(clause))
        check_value(await answer(database, work), caplog)


@on_postgres
@pytest.mark.parametrize("statement", BAD_LITERALS.values(), ids=BAD_LITERALS)
async def test_a_value_that_postgresql_cannot_read_is_a_400(
    database: Database[AsyncSession], statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with database.begin() as session:
        await session.execute(text("CREATE TABLE flags (bits bit(2))"))
    response = await answer(database, lambda session: session.execute(text(statement)))
    check_value(response, caplog)


@pytest.mark.parametrize("sync_url", ["psycopg"], indirect=True)
async def test_a_value_that_a_sync_database_on_postgresql_cannot_hold_is_a_400(
    sync_database: SyncDatabase[Session], caplog: pytest.LogCaptureFixture
) -> None:
    for values in BAD_VALUES.values():
        work = partial(Session.add, instance=Measure(**values))
        check_value(await sync_answer(sync_database, work), caplog)


@pytest.mark.parametrize("async_url", ["sqlite+aiosqlite"], indirect=True)
async def test_an_integer_that_sqlite_cannot_hold_is_a_400(
    database: Database[AsyncSession],
    sync_sqlite: SyncDatabase[Session],
    caplog: pytest.LogCaptureFixture,
) -> None:
    comparison = select(Measure.id).where(Measure.big == 10**30)

    async def add(session: AsyncSession) -> None:
        session.add(Measure(big=10**30))

    works: list[Work] = [add, lambda session: session.execute(comparison)]
    for work in works:
        check_value(await answer(database, work), caplog)
    sync_works: list[SyncWork] = [
        lambda session: session.add(Measure(big=10**30)),
        lambda session: session.execute(comparison),
    ]
    for sync_work in sync_works:
        check_value(await sync_answer(sync_sqlite, sync_work), caplog)
    assert checked_out(database) == checked_out(sync_sqlite) == 0


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
    closed_port: int, driver: str, work: Work, sync_work: SyncWork, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql+{driver}://{SENTINEL}:{SENTINEL}@127.0.0.1:{closed_port}/shop"
    database = Database(make_async_engine(url))
    for _ in range(3):
        assert (await answer(database, work)).status_code == 503
        check_line(caplog, 503, "sqlalchemy.exc.OperationalError from ", "code none")
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
    driver: str, sqlstate: str, work: Work, sync_work: SyncWork, caplog: pytest.LogCaptureFixture
) -> None:
    with unwilling_postgres(sqlstate) as port:
        url = f"postgresql+{driver}://{SENTINEL}:{SENTINEL}@127.0.0.1:{port}/shop"
        database = Database(make_async_engine(url))
        for _ in range(2):
            assert (await answer(database, work)).status_code == 503
            if driver == "asyncpg":
                check_line(caplog, 503, "asyncpg.exceptions.", f"code {sqlstate}")
            else:
                # psycopg tells no code of a connection that was refused.
                check_line(caplog, 503, "psycopg.OperationalError, code none")
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


async def test_an_engines_creator_that_raises_is_a_503(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise ConnectionRefusedError(SENTINEL)

    database = SyncDatabase(create_engine("sqlite:///shop.db", creator=refuse))
    assert (await sync_answer(database, sync_query)).status_code == 503
    check_line(caplog, 503, "sqlalchemy.exc.OperationalError from builtins.ConnectionRefusedError")
    with pytest.raises(OperationalError):
        database.ping()
    with pytest.raises(OperationalError), database.begin() as session:
        sync_query(session)


async def test_a_file_that_cannot_be_opened_is_a_503(tmp_path: Path) -> None:
    path = tmp_path / "no such folder" / "shop.db"
    assert (await answer(Database(f"sqlite+aiosqlite:///{path}"), query)).status_code == 503
    sync_database = SyncDatabase(f"sqlite:///{path}")
    assert (await sync_answer(sync_database, sync_query)).status_code == 503


# Too busy.


async def test_a_full_pool_is_a_503(async_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_database(async_url, pool_timeout=0.05) as database:
        async with database.begin() as holder:
            await holder.execute(select(Item))
            for work in (query, add):
                assert (await answer(database, work)).status_code == 503
                check_line(caplog, 503, "sqlalchemy.exc.TimeoutError, code none")
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
async def test_a_locked_sqlite_file_is_a_503(
    tmp_path: Path, busy: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
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
                check_line(caplog, 503, "sqlite3.OperationalError, code SQLITE_BUSY")
                assert (await sync_answer(sync_database, sync_flush)).status_code == 503
            assert sync_item_names(sync_database) == []
            with sync_database.begin() as session:
                session.add(Item(name="lamp"))
            assert sync_item_names(sync_database) == ["lamp"]


# The app's own mistakes.


async def own_os_error(session: AsyncSession) -> None:
    await query(session)
    open("/nonexistent")  # noqa: ASYNC230, SIM115


async def own_overflow(session: AsyncSession) -> None:
    await query(session)
    raise OverflowError(SENTINEL)


async def own_division(session: AsyncSession) -> None:
    if session.get_bind().dialect.name == "sqlite":
        raise ZeroDivisionError
    await session.execute(text("SELECT 1 / 0"))


async def own_wrong_type(session: AsyncSession) -> None:
    await session.execute(insert(Measure).values(day=literal("2001-02-03", LargeBinary)))


async def own_timeout(session: AsyncSession) -> None:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)


async def own_sqlalchemy_error(session: AsyncSession) -> None:
    await session.execute(text(f"SELECT {SENTINEL}"))


@pytest.mark.parametrize(
    "work",
    [
        own_os_error,
        own_overflow,
        own_division,
        own_wrong_type,
        own_timeout,
        own_sqlalchemy_error,
    ],
)
async def test_what_is_not_the_databases_fault_is_a_500(
    database: Database[AsyncSession], work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await answer(database, work)).status_code == 500
    assert checked_out(database) == 0
    assert [record.name for record in caplog.records] == ["fastkit.errors"]


@pytest.mark.parametrize("async_url", ["asyncpg"], indirect=True)
async def test_a_wrong_type_that_asyncpg_refuses_is_the_apps_mistake(
    database: Database[AsyncSession],
) -> None:
    for value, kind in ((SENTINEL, Integer), (SENTINEL, Date)):
        work = partial(AsyncSession.execute, statement=select(literal(value, kind)))
        assert (await answer(database, work)).status_code == 500


async def test_an_os_error_without_a_session_is_a_500() -> None:
    app = FastAPI()
    install_exception_handlers(app, DATABASE_PROBLEMS)

    @app.post("/")
    async def endpoint() -> None:
        raise ConnectionRefusedError(SENTINEL)

    async with client(app) as http:
        assert check(await http.post("/")).status_code == 500
