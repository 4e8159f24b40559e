"""Sessions: fastkit's beside a dependency that only yields, a hand-written one and a library's.

All use one engine, and both databases are told not to wait for the disk.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import Depends, FastAPI, params
from sqlalchemy import URL, event, insert, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.harness import Call, Case, Group, Limit, Report, compare, peer
from fastkit.db import Database

TITLE = "A session for each request"
PACKAGES = (
    "fastkit",
    "fastapi",
    "sqlalchemy",
    "aiosqlite",
    "asyncpg",
    "advanced-alchemy",
)
IDLE = Limit(1.4, 1.2)
NO_SLOWER = Limit(1.0, 1.0)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def app_with(dependency: params.Depends) -> FastAPI:
    """The app whose endpoints are the same whatever gives them their session."""
    app = FastAPI()

    @app.get("/idle")
    async def idle(session: Annotated[AsyncSession, dependency]) -> dict[str, int]:
        return {"id": 1}

    @app.get("/items/{item_id}")
    async def read(item_id: int, session: Annotated[AsyncSession, dependency]) -> dict[str, str]:
        item = await session.scalar(select(Item).where(Item.id == item_id))
        assert item is not None
        return {"name": item.name}

    @app.post("/items")
    async def add(session: Annotated[AsyncSession, dependency]) -> dict[str, int]:
        item = Item(name="another")
        session.add(item)
        await session.flush()
        return {"id": item.id}

    return app


async def only_yield() -> AsyncGenerator[None]:
    yield


def hand_written(engine: AsyncEngine) -> params.Depends:
    make_session = async_sessionmaker(engine, expire_on_commit=False)

    async def get_session() -> AsyncGenerator[AsyncSession]:
        async with make_session() as session:
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise

    dependency: params.Depends = Depends(get_session, scope="function")
    return dependency


def advanced_alchemy_app(engine: AsyncEngine) -> FastAPI:
    from advanced_alchemy.extensions.fastapi import AdvancedAlchemy, SQLAlchemyAsyncConfig

    alchemy = AdvancedAlchemy(
        config=SQLAlchemyAsyncConfig(engine_instance=engine, commit_mode="autocommit")
    )
    app = app_with(Depends(alchemy.provide_session()))
    alchemy.init_app(app)
    return app


def groups(report: Report, engine: AsyncEngine) -> list[Group]:
    """The groups for one database; all apps use its one engine."""
    fastkit = app_with(Database(engine).session)
    written = app_with(hand_written(engine))
    alchemy = peer(report, "advanced-alchemy", lambda: advanced_alchemy_app(engine))
    driver = engine.url.drivername
    idle = [
        Case("a dependency that only yields", app_with(Depends(only_yield, scope="function"))),
        Case("fastkit", fastkit, IDLE),
        Case("hand-written commit/rollback", written),
        *alchemy,
    ]
    used = [
        Case("hand-written commit/rollback", written),
        Case("fastkit", fastkit, NO_SLOWER),
        *alchemy,
    ]
    return [
        Group(f"{driver}: untouched", Call(path="/idle"), idle),
        Group(f"{driver}: select", Call(path="/items/1"), used),
        Group(f"{driver}: insert", Call(path="/items", method="POST"), used),
    ]


@asynccontextmanager
async def prepared(engine: AsyncEngine) -> AsyncGenerator[AsyncEngine]:
    """The engine, with the table that the endpoints use."""
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(insert(Item).values(name="first"))
        yield engine
    finally:
        await engine.dispose()


def sqlite_engine(folder: str) -> AsyncEngine:
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=f"{folder}/bench.db"))

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: DBAPIConnection, _: object) -> None:
        # The disk's time would hide everything else's.
        connection.cursor().execute("PRAGMA synchronous=OFF")

    return engine


@contextmanager
def postgres_url(report: Report) -> Generator[str | None]:
    """A database for the while; None, and a note, where there is no server."""
    try:
        import_module("asyncpg")
        from tests.support import find_postgres, temporary_database
    except ImportError as error:
        report.notes.append(f"PostgreSQL is left out: {error}")
        yield None
        return
    server = find_postgres()
    if isinstance(server, str):
        report.notes.append(f"PostgreSQL is left out: {server.splitlines()[0]}")
        yield None
        return
    with temporary_database(server) as database:
        yield database.url("asyncpg")


def postgres_engine(url: str) -> AsyncEngine:
    return create_async_engine(url, connect_args={"server_settings": {"synchronous_commit": "off"}})


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    with TemporaryDirectory() as folder:
        async with prepared(sqlite_engine(folder)) as engine:
            report.tables += [await compare(group) for group in groups(report, engine)]
    with postgres_url(report) as url:
        if url is not None:
            async with prepared(postgres_engine(url)) as engine:
                report.tables += [await compare(group) for group in groups(report, engine)[1:]]
    return report
