"""How a database is made, and what it is outside of requests."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

from fastkit.db import Database, SyncDatabase
from tests.db.models import Base, Item
from tests.db.support import (
    checked_out,
    client,
    connections_taken,
    item_names,
    make_async_engine,
    sync_item_names,
)

pytestmark = pytest.mark.anyio

SECRET = "s3kret"


class AppSession(Session):
    """An app's own session class."""

    def add_named(self, name: str) -> None:
        self.add(Item(name=name))


class AppAsyncSession(AsyncSession):
    async def names(self) -> list[str]:
        return sorted(await self.scalars(select(Item.name)))


class AppAsyncSessionOverAppSession(AppAsyncSession):
    sync_session_class = AppSession


# What a database is made from.


async def test_a_url_may_be_text_or_an_object(sqlite_url: str) -> None:
    for url in (sqlite_url, make_url(sqlite_url)):
        database = Database(url)
        assert database.engine.url == make_url(sqlite_url)
        async with database.begin() as session:
            assert await session.scalar(text("SELECT 1")) == 1
        await database.engine.dispose()


def test_a_url_may_be_text_or_an_object_for_a_sync_database_too(sync_sqlite_url: str) -> None:
    for url in (sync_sqlite_url, make_url(sync_sqlite_url)):
        database = SyncDatabase(url)
        assert database.engine.url == make_url(sync_sqlite_url)
        with database.begin() as session:
            assert session.scalar(text("SELECT 1")) == 1
        database.engine.dispose()


async def test_an_engine_is_used_as_it_is(sqlite_url: str, sync_sqlite_url: str) -> None:
    engine, sync_engine = create_async_engine(sqlite_url), create_engine(sync_sqlite_url)
    assert Database(engine).engine is engine
    assert SyncDatabase(sync_engine).engine is sync_engine


async def test_objects_of_a_url_or_an_engine_do_not_expire_on_commit(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    async with sqlite.begin() as session:
        session.add(lamp := Item(name="lamp"))
    with sync_sqlite.begin() as sync_session:
        sync_session.add(chair := Item(name="chair"))
    assert (lamp.name, chair.name) == ("lamp", "chair")


async def test_a_sessionmaker_keeps_its_classes_and_options(sqlite: Database[AsyncSession]) -> None:
    maker = async_sessionmaker(
        sqlite.engine,
        class_=AppAsyncSession,
        sync_session_class=AppSession,
        info={"app": "shop"},
        expire_on_commit=True,
    )
    database = Database(maker)
    async with database.begin() as session:
        assert isinstance(session, AppAsyncSession)
        assert isinstance(session.sync_session, AppSession)
        assert session.info == {"app": "shop"}
        session.sync_session.add_named("lamp")
        lamp = next(iter(session.new))
        await session.commit()
        assert await session.run_sync(lambda _: lamp.name) == "lamp"  # it had expired
        assert await session.names() == ["lamp"]


async def test_the_session_class_of_an_async_session_class_is_kept(
    sqlite: Database[AsyncSession],
) -> None:
    database = Database(async_sessionmaker(sqlite.engine, class_=AppAsyncSessionOverAppSession))
    async with database.begin() as session:
        assert isinstance(session.sync_session, AppSession)
        session.sync_session.add_named("lamp")
    assert await item_names(database) == ["lamp"]


def test_a_sync_sessionmaker_keeps_its_class_and_options(
    sync_sqlite: SyncDatabase[Session],
) -> None:
    database = SyncDatabase(
        sessionmaker(sync_sqlite.engine, class_=AppSession, info={"app": "shop"}, autoflush=False)
    )
    with database.begin() as session:
        assert isinstance(session, AppSession)
        assert session.info == {"app": "shop"}
        session.add_named("lamp")
        assert session.scalars(select(Item)).all() == []
    assert sync_item_names(database) == ["lamp"]


@pytest.mark.parametrize("early", [True, False], ids=["before the database", "after it"])
def test_event_listeners_of_a_session_class_and_of_a_sessionmaker_go_on(
    sync_sqlite: SyncDatabase[Session], early: bool
) -> None:
    heard: list[str] = []

    class Listened(Session):
        pass

    maker = sessionmaker(sync_sqlite.engine, class_=Listened)

    def listen() -> None:
        event.listen(Listened, "before_flush", lambda *_: heard.append("class"))
        event.listen(maker, "before_flush", lambda *_: heard.append("sessionmaker"))

    if early:
        listen()
    database = SyncDatabase(maker)
    if not early:
        listen()
    with database.begin() as session:
        session.add(Item(name="lamp"))
    assert sorted(heard) == ["class", "sessionmaker"]


def test_a_session_that_must_be_begun_by_hand_may_be_left_alone(
    sync_sqlite: SyncDatabase[Session],
) -> None:
    database = SyncDatabase(sessionmaker(sync_sqlite.engine, autobegin=False))
    with database.begin():
        pass
    with database.begin() as session:
        session.begin()
        session.add(Item(name="lamp"))
    assert sync_item_names(sync_sqlite) == ["lamp"]


async def test_sessions_of_sqlmodel_are_sqlmodels(sqlite: Database[AsyncSession]) -> None:
    pytest.importorskip("sqlmodel", reason="SQLModel is not installed")
    from sqlmodel import select as sqlmodel_select
    from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

    database = Database(async_sessionmaker(sqlite.engine, class_=SQLModelAsyncSession))
    async with database.begin() as session:
        session.add(Item(name="lamp"))
    async with database.begin() as session:
        names = await session.exec(sqlmodel_select(Item.name))
        assert names.all() == ["lamp"]


async def test_a_database_on_a_connection_stays_in_its_transaction(async_url: str) -> None:
    """The pattern of tests that are rolled back in the end."""
    engine = make_async_engine(async_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with engine.connect() as connection:
        transaction = await connection.begin()
        maker = async_sessionmaker(
            bind=connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )
        database = Database(maker)
        app = FastAPI()

        @app.post("/items")
        async def create(name: str, session: Annotated[AsyncSession, database.session]) -> None:
            session.add(Item(name=name))
            await session.flush()
            if name == "bad":
                raise LookupError

        @app.get("/items")
        async def names(session: Annotated[AsyncSession, database.read_session]) -> list[str]:
            return sorted(await session.scalars(select(Item.name)))

        async with client(app) as http:
            assert (await http.post("/items?name=lamp")).status_code == 200
            assert (await http.post("/items?name=bad")).status_code == 500
            assert (await http.get("/items")).json() == ["lamp"]
        assert database.engine is engine
        await transaction.rollback()
    assert await item_names(Database(engine)) == []
    await engine.dispose()


def test_a_sync_database_on_a_connection_stays_in_its_transaction(
    sync_database: SyncDatabase[Session],
) -> None:
    with sync_database.engine.connect() as connection:
        transaction = connection.begin()
        database = SyncDatabase(
            sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
        )
        with database.begin() as session:
            session.add(Item(name="lamp"))
        with pytest.raises(LookupError), database.begin() as session:
            session.add(Item(name="bad"))
            session.flush()
            raise LookupError
        assert sync_item_names(database) == ["lamp"]
        assert database.engine is sync_database.engine
        transaction.rollback()
    assert sync_item_names(sync_database) == []


# What a database is not made from.

Maker = Callable[[str], object]
every_maker = pytest.mark.parametrize("make", [Database, SyncDatabase])


@every_maker
@pytest.mark.parametrize(
    "url",
    [
        "",
        f"nonsense {SECRET}",
        f"postgresql://user:{SECRET}@host:port/shop",
        f"postgresql://user:a@b:{SECRET}/c@host/shop",
        f"user:{SECRET}@host/shop",
    ],
)
def test_what_is_no_url_is_refused_without_showing_it(make: Maker, url: str) -> None:
    with pytest.raises(ValueError, match="is not a database URL: write it as") as caught:
        make(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@every_maker
def test_an_unknown_dialect_is_an_error_that_names_it_alone(make: Maker) -> None:
    with pytest.raises(SQLAlchemyError, match="nosuch") as caught:
        make(f"nosuch://user:{SECRET}@host/shop")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_driver_without_async_is_refused(sync_sqlite_url: str) -> None:
    with pytest.raises(InvalidRequestError, match="async driver"):
        Database(sync_sqlite_url)


def test_a_driver_with_async_is_refused_by_a_sync_database() -> None:
    with pytest.raises(ValueError, match="has an async driver: use Database, or") as caught:
        SyncDatabase(f"postgresql+asyncpg://user:{SECRET}@host/shop")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_memory_of_each_threads_own_is_refused_by_a_sync_database(url: str) -> None:
    with pytest.raises(ValueError, match="gives each thread an empty database of its own"):
        SyncDatabase(url)


def test_the_remedy_for_sqlite_in_memory_works() -> None:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Base.metadata.create_all(engine)
    database = SyncDatabase(engine)
    app = FastAPI()

    @app.post("/items")
    def create(session: Annotated[Session, database.session]) -> None:
        session.add(Item(name="lamp"))

    assert TestClient(app).post("/items").status_code == 200
    assert sync_item_names(database) == ["lamp"]
    engine.dispose()


def test_a_sessionmaker_without_a_bind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sessionmaker.* has no bind: make it with an Engine\."):
        SyncDatabase(sessionmaker())
    with pytest.raises(ValueError, match=r"sessionmaker.* no bind: make it with an AsyncEngine\."):
        Database(async_sessionmaker())


class Settings:
    """Shows what it knows, as settings and URLs of other libraries do."""

    def __repr__(self) -> str:
        return f"Settings(password={SECRET!r})"


ASYNC_REMEDY = (
    r"pass a URL \(str or sqlalchemy\.URL\), AsyncEngine or async_sessionmaker; "
    "for engines of the other kind there is SyncDatabase"
)
SYNC_REMEDY = (
    r"pass a URL \(str or sqlalchemy\.URL\), Engine or sessionmaker; "
    "for engines of the other kind there is Database"
)
NOTHING_TO_MAKE_SESSIONS_FROM: dict[str, Callable[[], object]] = {
    "NoneType": lambda: None,
    "Settings": Settings,
    "bytes": lambda: b"sqlite://",
    "type": lambda: Session,
    "AsyncSession": AsyncSession,
}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *NOTHING_TO_MAKE_SESSIONS_FROM.items(),
        ("Engine", lambda: create_engine("sqlite://")),
        ("sessionmaker", lambda: sessionmaker(create_engine("sqlite://"))),
    ],
)
def test_what_is_nothing_to_make_async_sessions_from_is_refused(
    kind: str, value: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match=f"^A {kind} is nothing.*: {ASYNC_REMEDY}") as caught:
        Database(value())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *NOTHING_TO_MAKE_SESSIONS_FROM.items(),
        ("AsyncEngine", lambda: create_async_engine("sqlite+aiosqlite://")),
        ("async_sessionmaker", lambda: async_sessionmaker()),
    ],
)
def test_what_is_nothing_to_make_sessions_from_is_refused(
    kind: str, value: Callable[[], Any]
) -> None:
    with pytest.raises(TypeError, match=f"^A {kind} is nothing.*: {SYNC_REMEDY}") as caught:
        SyncDatabase(value())
    assert SECRET not in str(caught.value)


def test_a_sessionmaker_on_an_engine_of_the_other_kind_is_refused() -> None:
    engine: Any = create_engine("sqlite://")
    with pytest.raises(TypeError, match=f"has a bind of type Engine: {ASYNC_REMEDY}"):
        Database(async_sessionmaker(engine))
    async_engine: Any = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(TypeError, match=f"has a bind of type AsyncEngine: {SYNC_REMEDY}"):
        SyncDatabase(sessionmaker(async_engine))


async def test_no_repr_shows_the_password() -> None:
    url = make_url(f"postgresql+psycopg://user:{SECRET}@host/shop")
    for database in (Database(url), SyncDatabase(url)):
        shown = [database, database.engine, database.session, database.read_session]
        assert SECRET not in repr(shown)
    async with Database(url).begin() as session:
        assert SECRET not in repr(session)


# Connections are taken late.


async def test_a_unit_of_work_without_a_statement_takes_no_connection(
    sqlite: Database[AsyncSession],
) -> None:
    taken = connections_taken(sqlite)
    async with sqlite.begin():
        pass
    async with sqlite.begin() as session:
        session.add(Item(name="lamp"))
        await session.rollback()
    assert taken == []
    async with sqlite.begin() as session:
        assert taken == []
        await session.execute(select(1))
        assert taken == ["a connection"]


def test_a_sync_unit_of_work_without_a_statement_takes_no_connection(
    sync_sqlite: SyncDatabase[Session],
) -> None:
    taken = connections_taken(sync_sqlite)
    with sync_sqlite.begin():
        pass
    assert taken == []
    with sync_sqlite.begin() as session:
        session.execute(select(1))
    assert taken == ["a connection"]


async def test_a_request_that_does_not_use_its_sessions_takes_no_connection(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    app = FastAPI()

    @app.get("/")
    async def idle(
        _: Annotated[AsyncSession, sqlite.session],
        __: Annotated[AsyncSession, sqlite.read_session],
        ___: Annotated[Session, sync_sqlite.session],
        ____: Annotated[Session, sync_sqlite.read_session],
    ) -> None: ...

    taken = [connections_taken(sqlite), connections_taken(sync_sqlite)]
    async with client(app) as http:
        assert (await http.get("/")).status_code == 200
    assert taken == [[], []]


# Units of work outside of requests.


async def test_a_block_that_ends_is_committed(database: Database[AsyncSession]) -> None:
    async with database.begin() as session:
        session.add(Item(name="lamp"))
    assert checked_out(database) == 0
    assert await item_names(database) == ["lamp"]


def test_a_sync_block_that_ends_is_committed(sync_database: SyncDatabase[Session]) -> None:
    with sync_database.begin() as session:
        session.add(Item(name="lamp"))
    assert checked_out(sync_database) == 0
    assert sync_item_names(sync_database) == ["lamp"]


ENDINGS = [LookupError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_block_that_raises_is_rolled_back(
    database: Database[AsyncSession], ending: type[BaseException]
) -> None:
    with pytest.raises(ending):
        async with database.begin() as session:
            session.add(Item(name="lamp"))
            await session.flush()
            raise ending
    assert checked_out(database) == 0
    assert await item_names(database) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_sync_block_that_raises_is_rolled_back(
    sync_database: SyncDatabase[Session], ending: type[BaseException]
) -> None:
    with pytest.raises(ending), sync_database.begin() as session:
        session.add(Item(name="lamp"))
        session.flush()
        raise ending
    assert checked_out(sync_database) == 0
    assert sync_item_names(sync_database) == []


async def test_a_savepoint_is_part_of_the_transaction_from_the_first_statement_on(
    database: Database[AsyncSession],
) -> None:
    with pytest.raises(LookupError):
        async with database.begin() as session:
            async with session.begin_nested():
                session.add(Item(name="lamp"))
            raise LookupError
    assert await item_names(database) == []


def test_a_sync_savepoint_is_part_of_the_transaction_from_the_first_statement_on(
    sync_database: SyncDatabase[Session],
) -> None:
    with pytest.raises(LookupError), sync_database.begin() as session:
        with session.begin_nested():
            session.add(Item(name="lamp"))
        raise LookupError
    assert sync_item_names(sync_database) == []


def test_savepoints_live_beside_sqlalchemys_recipe_for_them(
    sync_sqlite: SyncDatabase[Session],
) -> None:
    engine = sync_sqlite.engine
    engine.dispose()  # its connections were made without the recipe

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    def begin_nothing(connection: Any, _: object) -> None:
        connection.isolation_level = None

    event.listen(engine, "connect", begin_nothing)
    event.listen(engine, "begin", begin)
    with sync_sqlite.begin() as session, session.begin_nested():
        session.add(Item(name="lamp"))
    assert sync_item_names(sync_sqlite) == ["lamp"]


# Health and end.


async def test_ping_asks_the_database_and_keeps_nothing(
    database: Database[AsyncSession],
) -> None:
    taken = connections_taken(database)
    await database.ping()
    assert taken == ["a connection"]
    assert checked_out(database) == 0


def test_a_sync_ping_asks_the_database_and_keeps_nothing(
    sync_database: SyncDatabase[Session],
) -> None:
    taken = connections_taken(sync_database)
    sync_database.ping()
    assert taken == ["a connection"]
    assert checked_out(sync_database) == 0


async def test_a_ping_commits_nothing(
    database: Database[AsyncSession], sync_database: SyncDatabase[Session]
) -> None:
    ended: list[str] = []
    for engine in (database.engine.sync_engine, sync_database.engine):
        event.listen(engine, "commit", lambda *_: ended.append("commit"))
        event.listen(engine, "rollback", lambda *_: ended.append("rollback"))
    await database.ping()
    sync_database.ping()
    assert ended == ["rollback", "rollback"]


def closed_connections(engine: Engine) -> list[str]:
    closed: list[str] = []
    event.listen(engine.pool, "close", lambda *_: closed.append("a connection"))
    return closed


async def test_the_lifespan_closes_the_pool_in_the_end(
    sqlite: Database[AsyncSession], sync_sqlite: SyncDatabase[Session]
) -> None:
    closed = [closed_connections(sqlite.engine.sync_engine), closed_connections(sync_sqlite.engine)]
    app = FastAPI()
    with pytest.raises(LookupError):
        async with sqlite.lifespan(app), sync_sqlite.lifespan(app) as state:
            assert state is None
            await sqlite.ping()
            sync_sqlite.ping()
            assert closed == [[], []]
            raise LookupError
    assert closed == [["a connection"], ["a connection"]]


def test_an_app_takes_the_lifespan(sync_sqlite: SyncDatabase[Session]) -> None:
    closed = closed_connections(sync_sqlite.engine)
    with TestClient(FastAPI(lifespan=sync_sqlite.lifespan)):
        sync_sqlite.ping()
        assert closed == []
    assert closed == ["a connection"]
