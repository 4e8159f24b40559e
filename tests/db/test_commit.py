"""Commits that really fail, in a real server that a real client asks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import create_engine, make_url

from tests.db.models import Base
from tests.db.support import is_sqlite
from tests.support import run_server, temporary_database

pytestmark = pytest.mark.anyio

POSTGRES = [("asyncpg", "async"), ("psycopg", "async"), ("psycopg", "sync")]
KINDS = [("sqlite+aiosqlite", "async"), ("sqlite+pysqlite", "sync"), *POSTGRES]


class Site:
    """A server of ours, seen by a client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, name: str) -> httpx.Response:
        return await self.http.post(path, params={"name": name})

    async def names(self) -> list[str]:
        names: list[str] = (await self.http.get("/items")).raise_for_status().json()
        return names

    async def fates(self, name: str) -> list[str]:
        fates: list[str] = (await self.http.get("/state")).json()["fates"]
        return [fate.removeprefix(f"{name} ") for fate in fates if fate.startswith(f"{name} ")]

    async def assert_whole(self) -> None:
        """The pool has every connection, and none of them brings on what came before."""
        before = await self.names()
        added = [uuid4().hex for _ in range(3)]
        for name in added:
            response = await self.post("/items", name)
            assert (response.status_code, response.json()) == (201, {"saved": True})
        assert await self.names() == sorted([*before, *added])
        assert (await self.http.get("/state")).json()["checked_out"] == 0


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def base_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    driver, kind = request.param
    with ExitStack() as stack:
        if is_sqlite(driver):
            url = f"{driver}:///{tmp_path_factory.mktemp('site') / 'test.db'}"
        else:
            postgres = request.getfixturevalue("postgres_server")
            url = stack.enter_context(temporary_database(postgres)).url(driver)
        create_tables(url)
        yield stack.enter_context(
            run_server(f"tests.db.served_{kind}:app", env={"DATABASE_URL": url})
        ).base_url


def create_tables(url: str) -> None:
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=drivers[parsed.get_backend_name()]))
    Base.metadata.create_all(engine)
    engine.dispose()


@pytest.fixture
async def site(base_url: str) -> AsyncIterator[Site]:
    async with httpx.AsyncClient(base_url=base_url, timeout=30) as http:
        yield Site(http)


on_postgres = pytest.mark.parametrize("base_url", POSTGRES, indirect=True, ids="-".join)


async def test_what_a_2xx_reports_is_stored(site: Site) -> None:
    response = await site.post("/items", "lamp")
    assert (response.status_code, response.json()) == (201, {"saved": True})
    assert "lamp" in await site.names()
    assert await site.fates("lamp") == ["committed"]
    await site.assert_whole()


async def test_a_deferred_constraint_that_fails_at_the_commit_is_a_409(site: Site) -> None:
    for name in ("orphan 1", "orphan 2"):
        response = await site.post("/orphans", name)
        assert response.status_code == 409
        assert response.headers["content-type"] == "application/problem+json"
        assert name not in await site.names()
        assert await site.fates(name) == ["rolled back"]
        await site.assert_whole()


async def test_a_constraint_that_fails_in_the_flush_of_the_commit_is_a_409(site: Site) -> None:
    await site.post("/items", "unique")
    response = await site.post("/items", "unique")
    assert response.status_code == 409
    assert (await site.names()).count("unique") == 1
    assert await site.fates("unique") == ["committed", "rolled back"]
    await site.assert_whole()


@on_postgres
async def test_a_server_process_that_dies_before_the_commit_is_a_503(site: Site) -> None:
    for name in ("killed 1", "killed 2"):
        response = await site.post("/killed", name)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert name not in await site.names()
        assert await site.fates(name) == ["rolled back"]
        await site.assert_whole()


@on_postgres
@pytest.mark.parametrize("path", ["/counted", "/renamed"], ids=["at commit", "at flush"])
async def test_a_serialization_failure_is_a_503_for_one_of_the_two(site: Site, path: str) -> None:
    if "old item" not in await site.names():
        await site.post("/items", "old item")
    pair = [f"{path} {letter}" for letter in "ab"]
    responses = await asyncio.gather(*(site.post(path, name) for name in pair))
    assert sorted(response.status_code for response in responses) == [201, 503]
    stored = await site.names()
    for name, response in zip(pair, responses, strict=True):
        saved = response.status_code == 201
        assert any(name in other for other in stored) is saved
        assert await site.fates(name) == ["committed" if saved else "rolled back"]
        assert saved or response.headers["retry-after"] == "1"
    await site.assert_whole()
