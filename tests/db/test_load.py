"""More requests than connections, in a real server on PostgreSQL."""

import asyncio
from collections import Counter

import httpx
import pytest

from tests.db.test_commit import create_tables
from tests.support import Postgres, Serve

pytestmark = pytest.mark.anyio

# All at once, and none kept for later: a slow test could meet the server closing it.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


async def ask(http: httpx.AsyncClient, numbers: range, path: str) -> dict[str, httpx.Response]:
    names = [f"item {number:03}" for number in numbers]
    responses = await asyncio.gather(*(http.post(path, params={"name": name}) for name in names))
    return dict(zip(names, responses, strict=True))


@pytest.mark.parametrize(
    ("driver", "kind"), [("asyncpg", "async"), ("psycopg", "async"), ("psycopg", "sync")]
)
async def test_200_requests_on_5_connections_are_stored_or_told_to_come_back(
    serve: Serve, postgres: Postgres, driver: str, kind: str
) -> None:
    url = postgres.url(driver)
    create_tables(url)
    # One after the other they would take 20 s, so that some wait too long for a connection.
    env = {"DATABASE_URL": url, "POOL_SIZE": "5", "POOL_TIMEOUT": "1", "HOLD": "0.5"}
    server = serve(f"tests.db.served_{kind}:app", env=env)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60, limits=LIMITS) as http:
        responses = await ask(http, range(200), "/slow")
        counts = Counter(response.status_code for response in responses.values())
        assert counts.keys() == {201, 503}
        assert all(
            response.headers.get("retry-after") == "1"
            for response in responses.values()
            if response.status_code == 503
        )
        saved = [name for name, response in responses.items() if response.status_code == 201]
        assert (await http.get("/items")).json() == saved
        assert (await http.get("/state")).json()["checked_out"] == 0
        after = await ask(http, range(200, 205), "/slow")
        assert {response.status_code for response in after.values()} == {201}


async def test_commits_are_not_kept_waiting_by_the_path_operations_that_wait_for_them(
    serve: Serve, postgres: Postgres
) -> None:
    """60 path operations want a connection and 40 threads run them: all 40 may be waiting for the
    2 connections, which only a commit gives back."""
    url = postgres.url("psycopg")
    create_tables(url)
    env = {"DATABASE_URL": url, "POOL_SIZE": "2", "POOL_TIMEOUT": "20"}
    server = serve("tests.db.served_sync:app", env=env)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60, limits=LIMITS) as http:
        responses = await ask(http, range(60), "/slow")
        assert {response.status_code for response in responses.values()} == {201}
        assert (await http.get("/items")).json() == list(responses)
        assert (await http.get("/state")).json()["checked_out"] == 0


@pytest.mark.parametrize(("driver", "kind"), [("asyncpg", "async"), ("psycopg", "sync")])
async def test_a_client_that_does_not_wait_for_the_answer_changes_nothing(
    serve: Serve, postgres: Postgres, driver: str, kind: str
) -> None:
    url = postgres.url(driver)
    create_tables(url)
    env = {"DATABASE_URL": url, "POOL_SIZE": "1", "HOLD": "0.5"}
    server = serve(f"tests.db.served_{kind}:app", env=env)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60, limits=LIMITS) as http:
        await http.get("/items")  # connects
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/slow", params={"name": "lamp"}, timeout=0.2)
        # This one waits for the only connection.
        assert (await http.post("/slow", params={"name": "chair"})).status_code == 201
        assert (await http.get("/items")).json() == ["chair", "lamp"]
        assert (await http.get("/state")).json()["checked_out"] == 0
