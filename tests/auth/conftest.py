"""Token stores of every kind."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fastkit.auth._store import TokenStore
from tests.auth.stores import KINDS, Place, open_store, prepared
from tests.support import Postgres, RedisServer, temporary_database


@pytest.fixture(scope="session")
def stores_postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A database for the tables of many stores."""
    with temporary_database(postgres_server) as database:
        yield database


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where a store is that is this test's alone."""
    kind: str = request.param
    name, driver = f"logins_{uuid4().hex}", kind.removeprefix("sync ")
    if kind.startswith("redis"):
        server: RedisServer = request.getfixturevalue("redis_server")
        found = Place(kind, server.url, f"{{{name}}}:")
    elif "sqlite" in kind:
        found = Place(kind, f"{driver}:///{tmp_path / 'test.db'}", name)
    elif "postgresql" in kind:
        postgres: Postgres = request.getfixturevalue("stores_postgres")
        found = Place(kind, postgres.url(driver.removeprefix("postgresql+")), name)
    else:
        found = Place(kind)
    with prepared(found):
        yield found


@pytest.fixture
async def store(place: Place) -> AsyncGenerator[TokenStore]:
    async with open_store(place) as store:
        yield store
