"""What one app costs beside another: interleaved in one process, as medians of paired ratios.

Apps are called directly, without a server. In each round every app of a group answers the same call
equally often, one app after the other and in another order each time. A round gives one ratio to
each app, to the group's first app in that very round, so that a machine which is busy for a while
is busy for both. The garbage that an app's own calls leave is collected in its own time.

The clock is the CPU time of this process on all its threads, which leaves out what else the machine
does, and what a database server does.
"""

import asyncio
import gc
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median, quantiles
from time import process_time

from starlette.types import ASGIApp, Message

ROUNDS = 61
SAMPLE_SECONDS = 0.012
# What a noisy machine is forgiven: a line is broken when its median is further over the limit.
ALLOWANCE = 1.03


@dataclass(frozen=True, slots=True)
class Limit:
    """What must hold, and the goal."""

    must_hold: float
    goal: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, the status that answers it, and what the app raises to its server after that."""

    path: str
    method: str = "GET"
    body: bytes = b""
    status: int = 200
    raises: tuple[type[Exception], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """An app in a group."""

    name: str
    app: ASGIApp
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Apps that answer the same call; the first is what the others are compared with."""

    title: str
    call: Call
    cases: Sequence[Case]
    clock: Callable[[], float] = process_time


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured of one app, once a round."""

    name: str
    values: Sequence[float]
    limit: Limit | None = None

    @property
    def is_broken(self) -> bool:
        return self.limit is not None and median(self.values) > self.limit.must_hold * ALLOWANCE

    def cells(self) -> tuple[str, ...]:
        low, middle, high = quantiles(self.values, n=4, method="inclusive")
        must_hold, goal = (
            (f"{self.limit.must_hold:.2f}", f"{self.limit.goal:.2f}") if self.limit else ("", "")
        )
        return (self.name, f"{middle:.2f}", f"{low:.2f}-{high:.2f}", must_hold, goal)


@dataclass(frozen=True, slots=True)
class Table:
    """The lines of one group."""

    title: str
    unit: str
    lines: Sequence[Line]
    scale: str = ""

    def __str__(self) -> str:
        heading = f"{self.title} {self.scale}".rstrip()
        rows: list[tuple[str, ...]] = [(heading, self.unit, "IQR", "must hold", "goal")]
        rows += [line.cells() for line in self.lines]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        return "\n".join(_aligned(row, widths) for row in rows)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = zip(row, widths, strict=True)
    cells = [name[0].ljust(name[1]), *[text.rjust(width) for text, width in numbers]]
    return "  ".join(cells).rstrip()


@dataclass(slots=True)
class Report:
    """What one benchmark has found."""

    title: str
    packages: Sequence[str]
    tables: list[Table] = field(default_factory=list[Table])
    notes: list[str] = field(default_factory=list[str])

    @property
    def broken(self) -> list[str]:
        return [
            f"{table.title}: {line.name}"
            for table in self.tables
            for line in table.lines
            if line.is_broken
        ]

    def note(self, text: str) -> None:
        """Add what the reader must know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __str__(self) -> str:
        when = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}"
        where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        versions = ", ".join(f"{name} {_version(name)}" for name in self.packages)
        head = "\n".join((self.title, f"{when}, {where}", versions, *self.notes))
        return "\n\n".join((head, *map(str, self.tables))) + "\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def peer(report: Report, name: str, make: Callable[[], ASGIApp]) -> list[Case]:
    """Another library's case: none, and a note, where it is not there or does not import."""
    try:
        return [Case(name, make())]
    except ImportError as error:
        report.note(f"{name} is left out: {error}")
        return []


CORES = os.sched_getaffinity(0) if sys.platform == "linux" else set[int]()


def pin() -> None:
    """Keep this process, and the threads and processes that it starts, on one core."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(CORES)})


@contextmanager
def all_cores() -> Generator[None]:
    """Let a process that is started meanwhile use every core, as a server would."""
    if sys.platform != "linux":
        yield
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


async def ask(app: ASGIApp, call: Call) -> list[Message]:
    """Let `app` answer as a server would, and return what it sends."""
    sent: list[Message] = []
    to_receive: list[Message] = [{"type": "http.request", "body": call.body, "more_body": False}]

    async def receive() -> Message:
        if not to_receive:
            await asyncio.Event().wait()  # the client stays for as long as it takes
        return to_receive.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"user-agent", b"benchmarks"),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(call.body)),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    with suppress(*call.raises):
        await app(scope, receive, send)
    return sent


async def compare(group: Group, *, rounds: int = ROUNDS) -> Table:
    """Measure the group's apps.

    Raises RuntimeError if one of them does not answer as the call expects.
    """
    for case in group.cases:
        messages = await ask(case.app, group.call)
        if messages[0]["status"] != group.call.status:
            raise RuntimeError(f"{case.name} answers {group.title!r} with {messages!r}")
    times = await _times(group)
    for case in group.cases:
        await _sample(group, case, times)
    # What the apps consist of is no garbage to look for at each collection.
    gc.collect()
    gc.freeze()
    try:
        seconds = [await _round(group, times, number) for number in range(rounds)]
    finally:
        gc.unfreeze()
    first = median(found[0] for found in seconds) / times
    lines = [
        Line(case.name, [found[number] / found[0] for found in seconds], case.limit)
        for number, case in enumerate(group.cases)
    ]
    return Table(group.title, "ratio", lines, f"(1.00 is {first * 1e6:.0f} µs)")


async def _times(group: Group) -> int:
    """How many calls make a sample that is long enough."""
    times = 1
    while (seconds := await _sample(group, group.cases[0], times)) < SAMPLE_SECONDS / 2:
        times *= 2
    return max(1, round(times * SAMPLE_SECONDS / seconds))


async def _round(group: Group, times: int, number: int) -> list[float]:
    """The seconds of each case. Who comes first changes with the round, and the direction too."""
    count = len(group.cases)
    order = [(number + index) % count for index in range(count)]
    if number // count % 2:
        order.reverse()
    seconds = [0.0] * count
    for index in order:
        gc.collect()
        seconds[index] = await _sample(group, group.cases[index], times)
    return seconds


async def _sample(group: Group, case: Case, times: int) -> float:
    app, call = case.app, group.call
    started = group.clock()
    for _ in range(times):
        await ask(app, call)
    return group.clock() - started
