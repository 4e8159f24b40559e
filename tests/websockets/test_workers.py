"""Two processes of one app over a Redis, with clients at both."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

pytest.importorskip("redis", reason="RedisBroker needs redis")

from tests.support import Server, StartRedis, free_port, redis_answers, redis_processes, run_server
from tests.websockets.brokers import client_of
from tests.websockets.clients import opened, state, until

pytestmark = pytest.mark.anyio


@dataclass
class Workers:
    servers: tuple[Server, Server]
    url: str
    start_redis: StartRedis


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("redis")
    with redis_processes(port, folder) as start_redis:
        start_redis()
        env = {"REDIS_URL": (url := f"redis://127.0.0.1:{port}")}
        with (
            run_server("tests.websockets.served:app", env=env) as one,
            run_server("tests.websockets.served:app", env=env) as two,
        ):
            yield Workers((one, two), url, start_redis)


@asynccontextmanager
async def four_clients(workers: Workers) -> AsyncGenerator[list[ClientConnection]]:
    """Two at each server, in the room."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(opened(server, f"/ws/{name}{number}"))
            for number, server in enumerate(workers.servers)
            for name in ("a", "b")
        ]
        # A client is told that it is accepted before it is in the room.
        await until(lambda: present(workers.servers[0]) == ["a0", "a1", "b0", "b1"])
        yield clients


def present(server: Server) -> list[str]:
    names: list[str] = httpx.get(server.base_url + "/presence").json()
    return names


async def received(client: ClientConnection, until: str) -> list[str]:
    messages: list[str] = []
    async with asyncio.timeout(30):
        while not messages or messages[-1] != until:
            messages.append(str(await client.recv()))
    return messages


async def test_two_publishers_are_heard_in_one_order_by_all_and_once(workers: Workers) -> None:
    async with four_clients(workers) as clients, httpx.AsyncClient(timeout=30) as http:
        await asyncio.gather(
            *(
                http.post(server.base_url + "/publish", params={"name": number, "count": 300})
                for number, server in enumerate(workers.servers)
            )
        )
        await clients[0].send("the last")
        heard = [await received(client, "a0: the last") for client in clients]
    assert heard[0] == heard[1] == heard[2] == heard[3]
    expected = {f"{number} {i}" for number in (0, 1) for i in range(300)}
    assert len(heard[0]) == 601
    assert set(heard[0]) == expected | {"a0: the last"}


async def test_who_is_in_a_room_is_told_by_both(workers: Workers) -> None:
    async with four_clients(workers):
        for server in workers.servers:
            assert await asyncio.to_thread(present, server) == ["a0", "a1", "b0", "b1"]
    await until(lambda: [present(server) for server in workers.servers] == [[], []])


async def test_a_connection_that_is_lost_is_made_again_and_everybody_hears_of_it(
    workers: Workers,
) -> None:
    async with four_clients(workers) as clients, client_of(workers.url) as redis:
        before = [state(server)["gaps"] for server in workers.servers]
        started = time.monotonic()
        assert await redis.client_kill_filter(_type="pubsub") == 2
        for client in clients:
            assert await client.recv() == "gap"
        assert time.monotonic() - started < 2
        await clients[0].send("hello")
        for client in clients:
            assert await client.recv() == "a0: hello"
    assert [state(server)["gaps"] for server in workers.servers] == [n + 1 for n in before]


async def test_while_redis_is_away_nothing_is_lost_without_a_word_and_then_all_is_back(
    workers: Workers,
) -> None:
    async with four_clients(workers) as clients:
        async with client_of(workers.url) as redis:
            await redis.shutdown(nosave=True)
        await until(lambda: not any(state(server)["is_up"] for server in workers.servers))
        await clients[0].send("hello")
        assert await clients[0].recv() == "not sent"
        workers.start_redis()
        async with client_of(workers.url) as redis:
            await redis_answers(redis)
        started = time.monotonic()
        for client in clients:
            assert await client.recv() == "gap"
        assert time.monotonic() - started < 2
        await clients[3].send("hello")
        for client in clients:
            assert await client.recv() == "b1: hello"
        # Each process has put its own there again; the other's may come a moment later.
        for server in workers.servers:
            await until(lambda: present(server) == ["a0", "a1", "b0", "b1"])  # noqa: B023
    for server in workers.servers:
        assert "Traceback" not in server.log
