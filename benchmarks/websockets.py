"""WebSockets: what a client sends is sent to everybody, by fastkit and by others.

Each app is a uvicorn process on one core, and all clients are one process on another, which reads
frames without a library. All servers run at once; they have their turns one after the other, in an
order that changes, and are idle meanwhile.

Ratios are of the server's CPU time, which leaves out what else the machine does. Latencies are on
the wall clock.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from urllib.parse import urlsplit
from uuid import uuid4

from benchmarks.harness import CORES, Limit, Line, Report, Table
from benchmarks.websockets_apps import CHANNEL, REDIS
from benchmarks.websockets_client import PLAIN, SOCKET_IO, Crowd, Dialect

TITLE = "WebSockets: broadcasts beside the tutorial's loop"
PACKAGES = (
    "fastkit",
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
    "broadcaster",
    "python-socketio",
    "python-engineio",
    "redis",
)
# Compression would be most of what is measured.
ARGUMENTS = ("--factory", "--ws=websockets-sansio", "--ws-per-message-deflate=false")
WITHOUT_PINGS = ("--ws-ping-interval=3600",)
# Broadcasts that have not arrived everywhere when the next is sent.
WINDOW = 4
# Connections that are added at a time.
STEP = 100
STUCK_BYTES = 60_000
STUCK_PER_SECOND = 10

# Of the speed, 0.85 and 1.0; and 0.6 and 0.7 before Python 3.12, which has no eager tasks.
CPU_TIME = Limit(1 / 0.85, 1.0) if sys.version_info >= (3, 12) else Limit(1 / 0.6, 1 / 0.7)
MISSED = Limit(1.0, 0.0)
MEGABYTES = Limit(10.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An app, by what makes it, and how it is talked to."""

    title: str
    factory: str
    needs: str = "fastkit.websockets"
    """What must be importable."""
    dialect: Dialect = PLAIN
    loop: str = "asyncio"
    on_redis: bool = False
    limit: Limit | None = None


TUTORIAL = Served(title="the tutorial's loop", factory="tutorial_app")
FASTKIT = Served(title="fastkit", factory="fastkit_app", limit=CPU_TIME)
BROADCASTER = Served(title="broadcaster", factory="broadcaster_app", needs="broadcaster")
SOCKETIO = Served(
    title="python-socketio", factory="socketio_app", needs="socketio", dialect=SOCKET_IO
)
SERVED = (
    TUTORIAL,
    FASTKIT,
    BROADCASTER,
    SOCKETIO,
    Served(
        title="fastkit, Redis",
        factory="fastkit_redis_app",
        needs="fastkit.websockets.redis",
        on_redis=True,
    ),
    replace(
        BROADCASTER, title="broadcaster, Redis", factory="broadcaster_redis_app", on_redis=True
    ),
    replace(SOCKETIO, title="python-socketio, Redis", factory="socketio_redis_app", on_redis=True),
)
ON_UVLOOP = tuple(replace(each, loop="uvloop", needs="uvloop") for each in (TUTORIAL, FASTKIT))
BESIDE_ONE_THAT_NEVER_READS = (TUTORIAL, FASTKIT, BROADCASTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is measured."""

    sizes: Sequence[int] = (200, 1_000)
    rounds: int = 41
    deliveries: int = 6_000
    """Of each app in a round."""
    turns: int = 7
    turn_seconds: float = 2
    per_second: int = 10_000
    """Deliveries when they are paced."""
    stuck_seconds: float = 40
    stuck_others: int = 20


@dataclass(slots=True)
class Running:
    """A server and its clients."""

    served: Served
    pid: int
    crowd: Crowd
    kilobytes: list[float] = field(default_factory=list[float])
    """Memory for a connection, at each step by which there came to be more."""

    def cpu_time(self) -> float:
        """Seconds, of all threads."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)

    def collect(self) -> None:
        """Let it collect its garbage, which takes it some milliseconds."""
        drain(self.crowd)
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.3)

    def memory(self) -> float:
        """Resident kilobytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e3


def missing(served: Served, redis: str) -> str | None:
    """What there is not, of what it needs."""
    if served.on_redis and not redis:
        return "no Redis answers"
    try:
        import_module(served.needs)
    except ImportError as error:
        return str(error)
    return None


@contextmanager
def on_another_core() -> Generator[None]:
    """Let a process that is started meanwhile have a core of its own, if there are two."""
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(CORES)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


@contextmanager
def serve(
    report: Report, all_served: Sequence[Served], *, arguments: Sequence[str] = WITHOUT_PINGS
) -> Generator[list[Running]]:
    """A server for each, with two clients. What does not work is left out, and noted."""
    from tests.support import find_redis, run_server

    redis = find_redis()
    url = "" if isinstance(redis, str) else redis.url
    with ExitStack() as stack:
        found: list[Running] = []
        for served in all_served:
            if reason := missing(served, url):
                report.note(f"{served.title} is left out: {reason}")
                continue
            with on_another_core():
                server = stack.enter_context(
                    run_server(
                        f"benchmarks.websockets_apps:{served.factory}",
                        env={REDIS: url, CHANNEL: f"benchmarks-{uuid4().hex}"},
                        args=(*ARGUMENTS, *arguments, f"--loop={served.loop}"),
                    )
                )
            port = urlsplit(server.base_url).port
            assert port is not None
            crowd = Crowd(port, served.dialect)
            stack.callback(crowd.close)
            crowd.connect(2)
            if reason := deafness(crowd):
                report.note(f"{served.title} is left out: {reason}")
                continue
            found.append(Running(served, server.pid, crowd))
        yield found


def deafness(crowd: Crowd, seconds: float = 10) -> str | None:
    """Send until everybody has received something; what is wrong, if that does not happen."""
    end = perf_counter() + seconds
    while deaf := sum(1 for client in crowd.clients if not client.received):
        if perf_counter() > end:
            return f"{deaf} of {len(crowd)} clients receive nothing"
        crowd.send()
        drain(crowd)
    return None


def drain(crowd: Crowd, seconds: float = 0.25) -> None:
    """Read until nothing comes for so long."""
    while crowd.poll(seconds):
        pass


def grow(running: Running, size: int) -> None:
    """Add clients until there are so many, and note the memory that they take."""
    crowd = running.crowd
    while (more := min(STEP, size - len(crowd))) > 0:
        running.collect()
        before = running.memory()
        crowd.connect(more)
        running.collect()
        running.kilobytes.append((running.memory() - before) / more)
    if reason := deafness(crowd):
        raise RuntimeError(f"{running.served.title}: {reason}")


def saturate(running: Running, broadcasts: int) -> tuple[float, float]:
    """The server's CPU time for a delivery, and how many there were in a second."""
    crowd = running.crowd
    size = len(crowd)
    before = crowd.received
    sent = 0
    cpu_time, started = running.cpu_time(), perf_counter()
    while (received := crowd.received - before) < broadcasts * size:
        while sent < broadcasts and sent * size - received <= (WINDOW - 1) * size:
            crowd.send()
            sent += 1
        if not crowd.poll(30):
            raise RuntimeError(f"{running.served.title}: {received} of {sent * size} have arrived")
    return (running.cpu_time() - cpu_time) / received, received / (perf_counter() - started)


def pace(running: Running, per_second: float, seconds: float) -> tuple[float, float]:
    """The milliseconds, median and 99th percentile, from a message's sending to each receipt."""
    crowd = running.crowd
    crowd.waits = []
    due = perf_counter()
    for _ in range(round(per_second * seconds)):
        crowd.send()
        due += 1 / per_second
        while (left := due - perf_counter()) > 0:
            crowd.poll(left)
    drain(crowd)
    found = quantiles(crowd.waits, n=100)
    crowd.waits = None
    return found[49] * 1e3, found[98] * 1e3


def in_turns(
    all_running: Sequence[Running], turns: int, sample: Callable[[Running], tuple[float, float]]
) -> dict[str, tuple[list[float], list[float]]]:
    """Both values of each sample, by title: in another order at each turn."""
    found = {each.served.title: (list[float](), list[float]()) for each in all_running}
    count = len(all_running)
    for turn in range(turns):
        order = [all_running[(turn + index) % count] for index in range(count)]
        for each in reversed(order) if turn // count % 2 else order:
            for values, value in zip(found[each.served.title], sample(each), strict=True):
                values.append(value)
    return found


def cpu_table(title: str, all_running: Sequence[Running], load: Load) -> Table:
    size = len(all_running[0].crowd)
    broadcasts = max(1, load.deliveries // size)
    for each in all_running:
        saturate(each, broadcasts)
    found = in_turns(all_running, load.rounds, lambda each: saturate(each, broadcasts))
    first, rates = found[all_running[0].served.title]
    lines = [
        Line(
            each.served.title,
            [own / other for own, other in zip(found[each.served.title][0], first, strict=True)],
            each.served.limit,
        )
        for each in all_running
    ]
    scale = f"(1.00 is {median(first) * 1e6:.1f} µs, {median(rates):.0f} a second)"
    return Table(title, "ratio", lines, scale)


def latency_tables(size: int, all_running: Sequence[Running], load: Load) -> list[Table]:
    found = in_turns(
        all_running,
        load.turns,
        lambda each: pace(each, load.per_second / size, load.turn_seconds),
    )
    return [
        Table(
            f"{percentile} at {load.per_second} deliveries a second, {size} clients",
            "ms",
            [Line(title, values[index]) for title, values in found.items()],
        )
        for index, percentile in enumerate(("p50", "p99"))
    ]


def memory_table(all_running: Sequence[Running]) -> Table:
    first = median(all_running[0].kilobytes)
    lines = [
        Line(each.served.title, [value / first for value in each.kilobytes]) for each in all_running
    ]
    return Table("memory of an idle connection", "ratio", lines, f"(1.00 is {first:.0f} kB)")


def beside_one_that_never_reads(report: Report, load: Load) -> list[Table]:
    """What the others miss, and what the server's memory is in the second half of the time."""
    with serve(report, BESIDE_ONE_THAT_NEVER_READS, arguments=()) as all_running:
        for each in all_running:
            grow(each, load.stuck_others)
            each.crowd.connect_one_that_never_reads()
            drain(each.crowd)
        messages = round(load.stuck_seconds * STUCK_PER_SECOND)
        clients = {each.served.title: each.crowd.clients for each in all_running}
        before = [each.memory() for each in all_running]
        received = {title: [it.received for it in own] for title, own in clients.items()}
        growth: dict[str, list[float]] = {title: [] for title in clients}
        due = perf_counter()
        for number in range(messages):
            for each in all_running:
                each.crowd.send(STUCK_BYTES)
            due += 1 / STUCK_PER_SECOND
            while perf_counter() < due:
                for each in all_running:
                    each.crowd.poll(0.002)
            if number >= messages // 2:
                for each, at_first in zip(all_running, before, strict=True):
                    growth[each.served.title].append((each.memory() - at_first) / 1e3)
        for each in all_running:
            drain(each.crowd)
        missed = {
            title: [
                100 * (1 - (client.received - earlier) / messages)
                for client, earlier in zip(own, received[title], strict=True)
            ]
            for title, own in clients.items()
        }
    limits: dict[str, Limit | None] = {FASTKIT.title: MISSED}
    return [
        Table(
            f"messages that others miss, in {load.stuck_seconds:.0f} s",
            "%",
            [Line(title, values, limits.get(title)) for title, values in missed.items()],
        ),
        Table(
            "memory of the server meanwhile",
            "MB more",
            [
                Line(title, values, MEGABYTES if title == FASTKIT.title else None)
                for title, values in growth.items()
            ],
        ),
    ]


async def measure(load: Load | None = None) -> Report:
    load = load or Load()
    report = Report(TITLE, PACKAGES)
    if sys.platform != "linux":
        report.note("Nothing is measured: the clients and the clocks are Linux's.")
        return report
    with serve(report, SERVED) as on_asyncio, serve(report, ON_UVLOOP) as on_uvloop:
        for size in load.sizes:
            for each in (*on_asyncio, *on_uvloop):
                grow(each, size)
            report.tables.append(
                cpu_table(f"CPU time of a delivery, {size} clients", on_asyncio, load)
            )
            if len(on_uvloop) > 1:
                title = f"the same on uvloop, {size} clients"
                report.tables.append(cpu_table(title, on_uvloop, load))
            report.tables += latency_tables(size, on_asyncio, load)
        report.tables.append(memory_table(on_asyncio))
    # What else runs makes them longer.
    report.note(f"Load of the machine at the end: {os.getloadavg()[0]:.1f}")
    report.tables += beside_one_that_never_reads(report, load)
    return report
