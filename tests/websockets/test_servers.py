"""Real servers, real clients, and what clients do to each other there."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.support import Server, run_server
from tests.websockets.certificates import make_certificate
from tests.websockets.clients import (
    RawClient,
    flood,
    gaps,
    opened,
    state,
    until,
    until_it_waits,
)

pytestmark = pytest.mark.anyio

IMPLEMENTATIONS = ("websockets-sansio", "wsproto")


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with start(request.param) as server:
        yield server


@pytest.fixture(params=IMPLEMENTATIONS)
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the test may stop."""
    with start(request.param) as server:
        yield server


def start(implementation: str, *args: str) -> Any:
    return run_server(
        "tests.websockets.served:app",
        args=["--ws", implementation, "--ws-max-size", "100000", *args],
        env={"MAX_STALL": "2"},
    )


async def test_the_tutorials_endpoint_runs_unchanged(server: Server) -> None:
    async with opened(server, "/tutorial/1") as one, opened(server, "/tutorial/2") as two:
        await one.send("hi")
        assert await one.recv() == "You wrote: hi"
        assert await one.recv() == await two.recv() == "Client #1 says: hi"
        await one.close()
        assert await two.recv() == "Client #1 left the chat"
    await until(lambda: state(server)["connections"] == 0)


async def test_an_endpoint_that_fails_leaves_nothing_behind(server: Server) -> None:
    async with opened(server, "/fails") as client:
        await client.send("go on")
        with pytest.raises(ConnectionClosed):
            await client.recv()
    server.wait_for_log("LookupError: the endpoint's own")
    await until(lambda: state(server)["connections"] == 0)


async def test_a_dead_client_harms_neither_who_sends_nor_who_receives(server: Server) -> None:
    async with opened(server, "/ws/a") as one, opened(server, "/ws/c") as three:
        dead = RawClient(server, "/busy")
        dead.die()
        for number in range(3):
            await one.send(f"hello {number}")
            assert await one.recv() == await three.recv() == f"a: hello {number}"
            await asyncio.sleep(0.05)
        await until(lambda: state(server)["connections"] == 2)


async def test_a_client_that_never_reads_is_ended_and_the_others_do_not_notice(
    server: Server,
) -> None:
    async with opened(server, "/ws/a", max_size=None) as one, RawClient(server, "/ws/x") as slow:
        before = state(server)
        number = await flood(server, size=65_536, per_second=50, seconds=5)
        receiving = asyncio.create_task(gaps(one, number))
        is_ended = False
        peak = 0
        while not receiving.done():
            now = await asyncio.to_thread(state, server)
            peak = max(peak, now["memory"])
            if not is_ended and now["evicted"] > before["evicted"]:
                is_ended = True
                # Its connection is gone soon after.
                assert await until(slow.is_cut_off, 3) < 2
            await asyncio.sleep(0.05)
        assert max(await receiving) < 1
        assert is_ended
        assert peak - before["memory"] < 30_000_000
        assert state(server)["connections"] == 1


async def test_one_that_reads_too_slowly_is_ended_although_it_says_that_it_is_alive(
    server: Server,
) -> None:
    async with opened(server, "/ws/a", max_size=None) as one, RawClient(server, "/ws/x") as slow:
        before = state(server)
        await until_it_waits(server, one)
        started = time.monotonic()
        while not slow.is_cut_off():
            slow.trickle()
            await asyncio.sleep(0.05)
        # `max_stall` is 2 here; uvicorn's pings would take 40 seconds.
        assert 1 < time.monotonic() - started < 8
        now = await asyncio.to_thread(state, server)
        assert (now["connections"], now["evicted"]) == (1, before["evicted"] + 1)


async def closing(client: ClientConnection) -> tuple[int | None, str | None]:
    with pytest.raises(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code, client.close_reason


async def test_what_a_client_must_not_do_is_answered_with_a_code(server: Server) -> None:
    async with opened(server, "/ws/a") as client:
        await client.send("x" * 1_000)
        assert await client.recv() == "a: " + "x" * 1_000
        await client.send("x" * 1_001)
        assert await closing(client) == (1009, "A message has at most 1000 bytes.")
    async with opened(server, "/ws/a") as client:
        await client.send("€" * 334)
        assert (await closing(client))[0] == 1009
    async with opened(server, "/ws/a") as client:
        for _ in range(60):
            await client.send("x")
        assert await closing(client) == (1008, "At most 50 messages are taken in a second.")
    async with opened(server, "/ws/a") as client:
        await client.send(b"\0")
        assert await closing(client) == (1003, "Text is expected.")
    async with opened(server, "/tutorial/1") as client:
        await client.send("x" * 1_001)
        assert (await closing(client))[0] == 1009
    with pytest.raises(InvalidStatus) as refused:
        async with opened(server, "/ws/a", origin=Origin("https://evil.example.com")):
            pass
    assert refused.value.response.status_code == 403
    async with opened(server, "/ws/a", origin=Origin(server.base_url)) as client:
        await client.send("hello")
        assert await client.recv() == "a: hello"
    await until(lambda: state(server)["connections"] == 0)


async def test_a_token_that_expires_closes_unless_it_is_renewed(server: Server) -> None:
    async with opened(server, "/ws/a?seconds=1") as client:
        assert await client.recv() == "renew"
        await client.send("renew for 2")
        started = time.monotonic()
        assert await client.recv() == "renew"
        assert await closing(client) == (4001, "expired")
        assert time.monotonic() - started > 1.5
    await until(lambda: state(server)["connections"] == 0)


async def test_no_client_has_caused_a_traceback(server: Server) -> None:
    # The endpoint's own error is the only one that the tests of this module asked for.
    assert server.log.count("Traceback (most recent call last)") == server.log.count(
        "LookupError: the endpoint's own"
    )


async def test_sigterm_tells_five_hundred_clients_and_ends(own_server: Server) -> None:
    async with AsyncExitStack() as stack:
        clients: list[ClientConnection] = []
        for tens in range(0, 500, 10):
            coming = (opened(own_server, f"/ws/{tens + one}") for one in range(10))
            clients += await asyncio.gather(*map(stack.enter_async_context, coming))
        started = time.monotonic()
        signal_process(own_server)
        codes = await asyncio.gather(*map(closing, clients))
        assert {code for code, _ in codes} == {1012}
        assert own_server.stop() in (0, -signal.SIGTERM)
        assert time.monotonic() - started < 10


async def test_a_stuck_client_does_not_hold_up_the_end(own_server: Server) -> None:
    async with (
        opened(own_server, "/ws/a", max_size=None) as one,
        RawClient(own_server, "/ws/stuck"),
    ):
        await until_it_waits(own_server, one)
        assert state(own_server)["connections"] == 2
        started = time.monotonic()
        signal_process(own_server)
        assert await closing(one) == (1012, "")
        assert await asyncio.to_thread(own_server.stop) in (0, -signal.SIGTERM)
        assert time.monotonic() - started < 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of a server that has one."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    return ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_stuck_client_is_cut_off_under_tls_and_on_each_loop(
    loop: str, certificate: list[str]
) -> None:
    pytest.importorskip(loop, reason="uvloop is not installed")
    with start("websockets-sansio", "--loop", loop, *certificate) as server:
        async with (
            opened(server, "/ws/a", max_size=None) as one,
            RawClient(server, "/ws/stuck") as stuck,
        ):
            await until_it_waits(server, one)
            assert not stuck.is_cut_off()
            await until(stuck.is_cut_off)
            now = await asyncio.to_thread(state, server)
            assert (now["connections"], now["evicted"]) == (1, 1)
            await one.send("hello")
            assert await one.recv() == "a: hello"


def signal_process(server: Server) -> None:
    os.kill(server.pid, signal.SIGTERM)
