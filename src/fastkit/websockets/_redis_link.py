"""A connection to Redis that many tasks use at once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import ResponseError

from fastkit.websockets._broker import BrokerError

__all__ = (
    "Command",
    "Connect",
    "Link",
    "LostError",
    "Pipeline",
    "batches",
    "connector",
    "no_longer_than",
)

Command: TypeAlias = tuple[bytes, ...]
Connect: TypeAlias = Callable[[], Any]
T = TypeVar("T")
OnPush: TypeAlias = Callable[[bytes, bytes], Awaitable[None]]

# What goes out at once. More waits for the answers to it.
_MAX_FLUSH_COMMANDS = 1000
_MAX_FLUSH_BYTES = 1_048_576

# Silence is counted in these and not by the clock: a process that itself was held up for long finds
# that only one has passed.
_TICKS = 8
_TICKS_TO_PING = 2


class LostError(BrokerError):
    """The connection is lost, and with it whatever was not answered."""


def connector(url: str, timeout: float) -> Connect:
    """What makes connections to this URL, which are not connected yet.

    Raises:
        ValueError: It is no URL of a Redis.
    """
    try:
        found: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        # The reason may quote a part of a password.
        raise ValueError(
            "The URL of Redis is none of redis://HOST, rediss://HOST and unix://PATH. In a password"
            " what is special in URLs has to be percent-encoded."
        ) from None
    kind: Any = found.pop("connection_class", Connection)
    options = {
        **found,
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        "retry_on_timeout": False,
        "decode_responses": False,
        "protocol": 2,
    }
    for of_pools in ("max_connections", "timeout"):
        options.pop(of_pools, None)

    def connect() -> Any:
        return kind(**options)

    connect()  # an option that there is not is told of now
    return connect


async def no_longer_than(seconds: float, work: Awaitable[T]) -> T:
    """Await it.

    Raises:
        BrokerError: It took longer, and is cancelled.
    """
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise BrokerError(f"Redis did not answer within {seconds:g} s.") from None


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """What there is now, in lists of at most so many."""
    remaining = iter(list(items))
    while batch := list(islice(remaining, size)):
        yield batch


def _is_message(answer: Any) -> bool:
    # A pong is bytes as long as there are no channels.
    return isinstance(answer, list) and answer[:1] == [b"message"]


class _Unit:
    """Commands that go out together, and are answered together."""

    __slots__ = ("answers", "answers_per_command", "commands", "future", "missing", "size")

    def __init__(
        self,
        commands: Collection[Command],
        answers_per_command: int,
        future: "asyncio.Future[list[Any]] | None",
    ) -> None:
        self.commands = commands
        self.answers_per_command = answers_per_command
        self.missing = len(commands) * answers_per_command
        self.answers: list[Any] = []
        self.future = future
        self.size = sum(len(part) for command in commands for part in command)

    @property
    def is_abandoned(self) -> bool:
        return self.future is not None and self.future.done()

    def answer(self, answer: Any) -> bool:
        """Whether it was the last one."""
        self.answers.append(answer)
        self.missing -= self.answers_per_command if isinstance(answer, ResponseError) else 1
        if self.missing:
            return False
        if self.future is not None and not self.future.done():
            refusal = next((each for each in self.answers if isinstance(each, Exception)), None)
            if refusal is None:
                self.future.set_result(self.answers)
            else:
                self.future.set_exception(BrokerError(f"Redis refuses: {refusal}"))
        return True

    def fail(self, reason: str) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_exception(LostError(reason))


class Link:
    """One connection, from its making until it is lost, which it is once.

    Commands go out in the order they are given. All that wait go out in one flush, when the one
    before is answered. Nothing is sent twice.

    Args:
        connection: One of redis-py's, not connected.
        timeout: Seconds without any answer after which it is lost. It pings when there is silence.
        on_push: Is awaited with channel and payload of each message, one after the other.
        on_lost: Is told the reason, at once and before those who wait for an answer.
    """

    def __init__(
        self,
        connection: Any,
        *,
        timeout: float,
        on_push: OnPush | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        self._timeout = timeout
        self._on_push = on_push
        self._on_lost = on_lost
        self._waiting: deque[_Unit] = deque()
        self._sent: deque[_Unit] = deque()
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._silence = 0
        self._is_handling = False
        self._reason: str | None = None
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._run(connection))

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._reason is not None

    def check(self) -> None:
        """Raise LostError if it is lost."""
        if self._reason is not None:
            raise LostError(self._reason)

    async def call(self, *commands: Command, answers_per_command: int = 1) -> list[Any]:
        """Send them and return the answers.

        Raises:
            LostError: It is lost. They may have been carried out.
            BrokerError: Redis refuses one of them.
        """
        self.check()
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._put(_Unit(commands, answers_per_command, future))
        return await future

    def post(self, *commands: Command, answers_per_command: int = 1) -> None:
        """Send them, without a care for the answers."""
        self._put(_Unit(commands, answers_per_command, None))

    async def close(self) -> None:
        """End it now, if it is not lost."""
        self.task.cancel()
        await asyncio.wait([self.task])

    def _put(self, unit: _Unit) -> None:
        self._waiting.append(unit)
        self._wake.set()

    async def _run(self, connection: Any) -> None:
        transport: Any = None
        try:
            await no_longer_than(self._timeout, connection.connect())
            # There is no public way to it, and redis-py closes a transport only when all is sent:
            # for a peer that reads no more, that is never.
            transport = getattr(getattr(connection, "_writer", None), "transport", None)
            await self._serve(connection)
        except Exception as error:
            self._end(str(error) or repr(error), self._on_lost)
        finally:
            self._end("The broker is closed.")
            if transport is not None:
                transport.abort()
            await connection.disconnect(nowait=True)
            await asyncio.sleep(0)  # in which the transport ends

    def _end(self, reason: str, tell: Callable[[str], None] | None = None) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        if tell is not None:
            tell(reason)
        for unit in (*self._sent, *self._waiting):
            unit.fail(reason)
        self._sent.clear()
        self._waiting.clear()

    async def _serve(self, connection: Any) -> None:
        deciding = [self._loop.create_task(self._read(connection))]
        deciding.append(self._loop.create_task(self._watch()))
        # What cannot be written is noticed by the others: what had arrived before is read first.
        tasks = [*deciding, self._loop.create_task(self._write(connection))]
        try:
            await asyncio.wait(deciding, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        failed = (error for error in errors if isinstance(error, Exception))
        raise next(failed, LostError("The connection is not read any more."))

    async def _read(self, connection: Any) -> None:
        while True:
            answer: Any
            try:
                answer = await connection.read_response(disconnect_on_error=False)
            except ResponseError as error:
                answer = error
            self._silence = 0
            if self._on_push is not None and _is_message(answer):
                self._is_handling = True
                await self._on_push(answer[1], answer[2])
                self._is_handling = False
            elif self._sent[0].answer(answer):
                self._sent.popleft()
                if not self._sent:
                    self._answered.set()

    async def _write(self, connection: Any) -> None:
        while True:
            self._wake.clear()
            while flush := self._next_flush():
                self._silence = 0
                self._sent.extend(flush)
                commands = (command for unit in flush for command in unit.commands)
                packed = connection.pack_commands(commands)
                self._answered.clear()
                await connection.send_packed_command(packed, check_health=False)
                await self._answered.wait()
            await self._wake.wait()

    def _next_flush(self) -> list[_Unit]:
        flush: list[_Unit] = []
        commands = size = 0
        while self._waiting and commands < _MAX_FLUSH_COMMANDS and size < _MAX_FLUSH_BYTES:
            unit = self._waiting.popleft()
            if not unit.is_abandoned:
                flush.append(unit)
                commands += len(unit.commands)
                size += unit.size
        return flush

    async def _watch(self) -> None:
        while self._silence < _TICKS:
            await asyncio.sleep(self._timeout / _TICKS)
            if self._is_handling:
                continue
            self._silence += 1
            if self._silence == _TICKS_TO_PING and not (self._sent or self._waiting):
                self.post((b"PING",))
        raise LostError(f"Redis did not answer within {self._timeout:g} s.")


class Pipeline:
    """Commands over one connection, which is made anew for the first one after it was lost."""

    def __init__(self, connect: Connect, *, timeout: float) -> None:
        self._connect = connect
        self._timeout = timeout
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def call(self, *commands: Command) -> list[Any]:
        """As that of `Link`."""
        if self._is_closed:
            raise BrokerError("The broker is closed.")
        return await self._current_link().call(*commands)

    async def close(self, *last: Command) -> None:
        """End when the last commands are answered, if they are in time."""
        try:
            if last:
                link = self._current_link()
                self._is_closed = True
                with suppress(BrokerError):
                    await no_longer_than(self._timeout, link.call(*last))
        finally:
            self._is_closed = True
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _current_link(self) -> Link:
        if self._link is None or self._link.is_lost:
            self._link = Link(self._connect(), timeout=self._timeout)
            self._tasks.add(self._link.task)
            self._link.task.add_done_callback(self._tasks.discard)
        return self._link
