"""Hypercorn and Granian: the same messages arrive."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryFile

import httpx
import pytest
from websockets.sync.client import connect

from tests.support import ROOT, free_port
from tests.websockets.clients import RawClient, flood, gaps, opened, state, until_it_waits

COMMANDS = {
    "hypercorn": ["-b", "127.0.0.1:{port}"],
    "granian": ["--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"],
}


@dataclass
class Served:
    base_url: str
    is_cutting_off: bool
    """Whether a way leads from its `send` to the transport."""


@contextmanager
def served(name: str) -> Generator[Served]:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    arguments = [argument.format(port=port) for argument in COMMANDS[name]]
    with TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", name, *arguments, "tests.websockets.served:app"],
            cwd=ROOT,
            env={**os.environ, "MAX_STALL": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/state")
                    break
                except httpx.ConnectError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield Served(f"http://127.0.0.1:{port}", name == "hypercorn")
            process.terminate()
            process.wait(15)
            log.seek(0)
            assert not re.search(rb"Traceback|panic", log.read())
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(request.param) as server:
        yield server


def test_the_same_arrives_on_other_servers(server: Served) -> None:
    host = server.base_url.removeprefix("http://")
    with connect(f"ws://{host}/ws/a") as one, connect(f"ws://{host}/ws/b") as two:
        for number in range(40):
            one.send(str(number))
            assert one.recv(5) == two.recv(5) == f"a: {number}"
    with connect(f"ws://{host}/tutorial/1") as client:
        client.send("hi")
        assert client.recv(5) == "You wrote: hi"
        assert client.recv(5) == "Client #1 says: hi"
    deadline = time.monotonic() + 5
    while httpx.get(f"http://{host}/state").json()["connections"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.anyio
async def test_a_client_that_never_reads_harms_nobody_on_other_servers(server: Served) -> None:
    async with opened(server, "/ws/a", max_size=None) as one, RawClient(server, "/ws/x") as slow:
        await until_it_waits(server, one)
        assert state(server)["connections"] == 2
        # `max_stall` is 1 here, and a second more is there to read why.
        await asyncio.sleep(3)
        assert state(server)["connections"] == 1
        assert slow.is_cut_off() == server.is_cutting_off
        number = await flood(server, size=100, per_second=100, seconds=0.3)
        assert max(await gaps(one, number)) < 1
