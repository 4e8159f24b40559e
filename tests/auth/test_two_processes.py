"""Two processes on one store behave as one."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.auth.stores import Place, prepared
from tests.support import Postgres, RedisServer, Server, run_server

pytestmark = pytest.mark.anyio

KINDS = ["sqlite+aiosqlite", "postgresql+asyncpg", "sync postgresql+psycopg", "redis"]
APP = "tests.auth.served_store:app"


@pytest.fixture(scope="module", params=KINDS)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    kind: str = request.param
    if kind == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        url = redis.url
    elif "sqlite" in kind:
        url = f"{kind}:///{tmp_path_factory.mktemp('store') / 'test.db'}"
    else:
        postgres: Postgres = request.getfixturevalue("stores_postgres")
        url = postgres.url(kind.removeprefix("sync ").removeprefix("postgresql+"))
    with prepared(Place(kind, url, f"logins_{uuid4().hex}")) as place, ExitStack() as stack:
        first, second = (stack.enter_context(run_server(APP, env=place.env)) for _ in range(2))
        yield first, second


@dataclass(frozen=True, slots=True)
class Pair:
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient]

    async def ask(self, process: int, path: str, **body: Any) -> Any:
        """The answer, or the name of the error."""
        response = await self.clients[process % 2].post(path, json=body)
        assert response.status_code in {200, 401}, response.text
        answer = response.json()
        return answer if response.status_code == 200 else answer["detail"]

    async def exchange_at_once(self, token: str, times: int) -> list[str]:
        calls = [self.ask(process, "/exchange", token=token) for process in range(times)]
        answers: list[str] = await asyncio.gather(*calls)
        return answers


_hours = count(1)


@pytest.fixture
async def pair(servers: tuple[Server, Server]) -> AsyncGenerator[Pair]:
    assert servers[0].pid != servers[1].pid
    async with (
        httpx.AsyncClient(base_url=servers[0].base_url, timeout=60) as first,
        httpx.AsyncClient(base_url=servers[1].base_url, timeout=60) as second,
    ):
        pair = Pair((first, second))
        await set_clocks(pair, 1_764_000_000.0 + 3600 * next(_hours))
        yield pair


async def set_clocks(pair: Pair, now: float) -> None:
    for process in range(2):
        await pair.ask(process, "/clock", now=now)


async def test_fifty_exchanges_at_once_give_one_successor(pair: Pair) -> None:
    token = await pair.ask(0, "/start")
    for _ in range(3):
        successors = await pair.exchange_at_once(token, 50)
        assert len(set(successors)) == 1
        assert len(successors[0]) == 92
        token = successors[0]


async def test_a_token_that_comes_back_elsewhere_ends_the_login(pair: Pair) -> None:
    now = 1_765_000_000.0 + 3600 * next(_hours)
    await set_clocks(pair, now)
    token = await pair.ask(0, "/start")
    successor = await pair.ask(0, "/exchange", token=token)
    await set_clocks(pair, now + 9)
    assert await pair.ask(1, "/exchange", token=token) == successor
    await set_clocks(pair, now + 11)
    assert await pair.ask(1, "/exchange", token=token) == "ReusedTokenError"
    assert await pair.exchange_at_once(successor, 2) == ["InvalidGrantError"] * 2


async def test_a_logout_in_one_holds_in_the_other(pair: Pair) -> None:
    token = await pair.ask(0, "/start")
    await pair.ask(1, "/revoke", token=token)
    assert await pair.exchange_at_once(token, 2) == ["InvalidGrantError"] * 2
    tokens = [await pair.ask(process, "/start") for process in range(4)]
    assert await pair.ask(1, "/revoke-all") == 4
    for token in tokens:
        assert await pair.exchange_at_once(token, 2) == ["InvalidGrantError"] * 2


@pytest.mark.parametrize("end", ["replay", "revoke", "revoke-all"])
async def test_an_end_in_one_beats_an_exchange_in_the_other(pair: Pair, end: str) -> None:
    for round_ in range(6):
        stale = await pair.ask(0, "/start")
        newest = await pair.ask(0, "/exchange", token=await pair.ask(0, "/exchange", token=stale))
        path, body = ("/exchange" if end == "replay" else f"/{end}"), {"token": stale}
        calls = [pair.ask(0, "/exchange", token=newest) for _ in range(4)]
        calls.insert(round_ % 5, pair.ask(1, path, **body))
        answers = await asyncio.gather(*calls)
        given = {answer for answer in answers if isinstance(answer, str) and len(answer) == 92}
        assert len(given) <= 1
        for token in (newest, *given):
            assert await pair.exchange_at_once(token, 2) == ["InvalidGrantError"] * 2
