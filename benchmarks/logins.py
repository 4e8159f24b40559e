"""What logins do to the other requests of a process: 20 users log in at once.

A real server, which may use every core, is asked for trivial endpoints every 10 ms, whether it has
answered before or not: on a new connection, where it has not. What a ping waits is counted from
when it was due until its answer has ended, so that none is left out for the server's being busy.

These are milliseconds on the wall clock and no ratios. What sends the pings shares a core with the
server, and what else the machine does is in them.
"""

import asyncio
from asyncio import StreamReader, StreamWriter, TaskGroup
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import quantiles
from urllib.parse import urlencode, urlsplit

from benchmarks.auth_apps import NAMES, PASSWORD
from benchmarks.harness import Limit, Line, Table, all_cores

ROUNDS = 7
EVERY = 0.010
QUIET_SECONDS = 2.5
ENDPOINTS = ("/async", "/sync")
# Connections are kept while the other apps have their turn.
ARGUMENTS = ("--factory", "--no-access-log", "--timeout-keep-alive=600")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An app, by what makes it, and who logs in there."""

    title: str
    factory: str
    names: Sequence[str] = tuple(NAMES)
    limit: Limit | None = None


SERVED = (
    Served(title="fastkit", factory="fastkit_app", limit=Limit(50, 20)),
    Served(title="fastkit, and nobody logs in", factory="fastkit_app", names=()),
    Served(title="the tutorial, hashing in the event loop", factory="tutorial_app"),
    Served(title="the tutorial, hashing in the common threads", factory="tutorial_app_in_threads"),
)


class Client:
    """Asks a server; at once, on a new connection where each other one waits for its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[StreamReader, StreamWriter]] = []

    async def ask(self, path: str, **form: str) -> None:
        """Get what is there; with a form, post it.

        Raises RuntimeError if the answer is no 200.
        """
        body = urlencode(form)
        lines = (
            f"{'POST' if form else 'GET'} {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
            "",
            body,
        )
        if not self._idle:
            self._idle.append(await asyncio.open_connection("127.0.0.1", self._port))
        reader, writer = self._idle.pop()
        writer.write("\r\n".join(lines).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        self._idle.append((reader, writer))
        if not head.startswith(b"http/1.1 200 "):
            raise RuntimeError(f"{path} is answered with {head!r}")

    async def log_in(self, name: str) -> None:
        await self.ask("/auth/token", grant_type="password", username=name, password=PASSWORD)

    async def ping(self, path: str, due: float) -> float:
        """How many seconds after `due` the answer is there."""
        await self.ask(path)
        return asyncio.get_running_loop().time() - due

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def pings(client: Client, path: str, end: asyncio.Event) -> list[float]:
    """How many seconds each ping waits that is due before the end."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    tasks: list[asyncio.Task[float]] = []
    async with TaskGroup() as group:
        while not end.is_set():
            tasks.append(group.create_task(client.ping(path, due)))
            due += EVERY
            await asyncio.sleep(max(0, due - loop.time()))
    return [task.result() for task in tasks]


async def slowest(client: Client, names: Sequence[str]) -> dict[str, float]:
    """For each endpoint, the milliseconds than which one ping in a hundred waits longer."""
    end = asyncio.Event()
    async with TaskGroup() as group:
        waits = {path: group.create_task(pings(client, path, end)) for path in ENDPOINTS}
        if names:
            await asyncio.gather(*map(client.log_in, names))
        else:
            await asyncio.sleep(QUIET_SECONDS)
        end.set()
    return {path: quantiles(task.result(), n=100)[98] * 1000 for path, task in waits.items()}


@contextmanager
def served() -> Generator[dict[str, Client]]:
    """A client of each app in `SERVED`, by the name of what makes the app."""
    from tests.support import run_server

    with ExitStack() as stack:
        clients: dict[str, Client] = {}
        for factory in {served.factory for served in SERVED}:
            with all_cores():
                server = stack.enter_context(
                    run_server(f"benchmarks.auth_apps:{factory}", args=ARGUMENTS)
                )
            port = urlsplit(server.base_url).port
            assert port is not None
            clients[factory] = Client(port)
            stack.callback(clients[factory].close)
        yield clients


async def measure_waits(*, rounds: int = ROUNDS) -> list[Table]:
    """One table for each endpoint."""
    with served() as clients:
        for client in clients.values():
            await client.log_in(NAMES[0])
        found = [
            [await slowest(clients[each.factory], each.names) for each in SERVED]
            for _ in range(rounds)
        ]
    return [
        Table(
            f"p99 of {path} while {len(NAMES)} log in",
            "ms",
            [
                Line(each.title, [waits[number][path] for waits in found], each.limit)
                for number, each in enumerate(SERVED)
            ],
        )
        for path in ENDPOINTS
    ]
