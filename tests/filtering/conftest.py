"""Both databases, with empty tables, on each driver."""

from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from tests.filtering.models import Base
from tests.support import Postgres, temporary_database


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filtering") / "test.db"
    _create_tables(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def tables(postgres_server: Postgres) -> Iterator[Postgres]:
    with temporary_database(postgres_server) as database:
        _create_tables(database.url("psycopg"))
        yield database


def _create_tables(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    Base.metadata.create_all(engine)


@pytest.fixture(scope="session")
def sqlite(sqlite_file: Path) -> Generator[Engine]:
    engine = create_engine(f"sqlite:///{sqlite_file}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def psycopg(tables: Postgres) -> Generator[Engine]:
    engine = create_engine(tables.url("psycopg"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="session", params=["sqlite", "psycopg"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sqlite+aiosqlite", "asyncpg", "psycopg"])
async def async_engine(request: pytest.FixtureRequest) -> AsyncGenerator[AsyncEngine]:
    driver: str = request.param
    if "sqlite" in driver:
        url = f"{driver}:///{request.getfixturevalue('sqlite_file')}"
    else:
        url = request.getfixturevalue("tables").url(driver)
    # SQLAlchemy 2.0.0 would have no pool for SQLite.
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool)
    yield engine
    await engine.dispose()
