"""Many WebSocket clients in one thread, which cost less than the server that they are to measure.

They read frames where they come and count them. Text alone is understood, unfragmented and
uncompressed, as the servers here send it.
"""

import socket
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from select import epoll
from time import perf_counter

_TEXT, _PING, _PONG = 1, 9, 10
_AT_ONCE = 65_536
# What a message begins with: its number.
_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a library adds to a WebSocket."""

    path: str = "/ws"
    greeting: Sequence[str] = ()
    before: str = ""
    after: str = ""


PLAIN = Dialect()
SOCKET_IO = Dialect(
    "/socket.io/?EIO=4&transport=websocket", greeting=("40",), before='42["message","', after='"]'
)


@dataclass(slots=True)
class Client:
    """One connection."""

    socket: socket.socket
    rest: bytes = b""
    """What came of a frame that is not complete."""
    numbers: list[int] = field(default_factory=list[int])
    """Of the messages received, if they are kept."""
    received: int = 0


class Crowd:
    """Clients of one server: the first one sends, and all of them read."""

    def __init__(self, port: int, dialect: Dialect = PLAIN) -> None:
        self._port = port
        self._dialect = dialect
        self._prefix = dialect.before.encode()
        self._epoll = epoll()
        self._by_fd: dict[int, Client] = {}
        self._first: Client
        self._idle: list[socket.socket] = []
        self._unsent = b""
        self._next = 0
        self._sent_at: dict[int, float] = {}
        self.received = 0
        self.keep_numbers = False
        self.waits: list[float] | None = None
        """The seconds from a message's being sent to each receipt, if they are kept."""

    def __len__(self) -> int:
        return len(self._by_fd)

    @property
    def clients(self) -> list[Client]:
        return list(self._by_fd.values())

    def connect(self, count: int) -> None:
        """Add so many clients."""
        for _ in range(count):
            opened, rest = self._open()
            opened.setblocking(False)
            client = Client(opened, rest)
            if not self._by_fd:
                self._first = client
            self._by_fd[opened.fileno()] = client
            self._epoll.register(opened, 1)

    def connect_one_that_never_reads(self) -> None:
        opened, _ = self._open(buffer=4_096)
        self._idle.append(opened)

    def _open(self, *, buffer: int | None = None) -> tuple[socket.socket, bytes]:
        opened = socket.socket()
        opened.settimeout(60)
        if buffer is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        opened.connect(("127.0.0.1", self._port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = (
            f"GET {self._dialect.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Key: {b64encode(bytes(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            "\r\n",
        )
        opened.sendall("\r\n".join(lines).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := opened.recv(_AT_ONCE)):
                raise RuntimeError(f"the handshake is answered with {head!r}")
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"the handshake is answered with {head!r}")
        for text in self._dialect.greeting:
            opened.sendall(_frame(_TEXT, text.encode()))
        return opened, rest

    def send(self, size: int = 100) -> None:
        """Let the first client send a message of about so many bytes."""
        number = self._next
        self._next += 1
        text = f"{number:0{_DIGITS}}".ljust(size, "x")
        if self.waits is not None:
            self._sent_at[number] = perf_counter()
        text = f"{self._dialect.before}{text}{self._dialect.after}"
        self._unsent += _frame(_TEXT, text.encode())
        self._flush()

    def _flush(self) -> None:
        if self._unsent:
            # A server that is busy takes it later, and one that has closed the connection never.
            with suppress(OSError):
                self._unsent = self._unsent[self._first.socket.send(self._unsent) :]

    def poll(self, seconds: float) -> bool:
        """Read what has come, or comes in this time; whether anything has."""
        self._flush()
        events = self._epoll.poll(seconds)
        for fd, _ in events:
            self._read(self._by_fd[fd])
        return bool(events)

    def _read(self, client: Client) -> None:
        try:
            data = client.socket.recv(_AT_ONCE)
        except OSError:
            data = b""
        if not data:
            self._lose(client)
            return
        if client.rest:
            data = client.rest + data
        start, end = 0, len(data)
        while end - start >= 2:
            length = data[start + 1]
            body = start + 2
            if length > 125:
                body = start + (4 if length == 126 else 10)
                if body > end:
                    break
                length = int.from_bytes(data[start + 2 : body])
            if body + length > end:
                break
            opcode = data[start] & 15
            if opcode == _TEXT:
                if data.startswith(self._prefix, body) and length >= _DIGITS:
                    self._count(client, data, body + len(self._prefix))
            elif opcode == _PING:
                with suppress(OSError):
                    client.socket.send(_frame(_PONG, data[body : body + length]))
            start = body + length
        client.rest = data[start:]

    def _lose(self, client: Client) -> None:
        """The server has closed it."""
        del self._by_fd[client.socket.fileno()]
        client.socket.close()

    def _count(self, client: Client, data: bytes, start: int) -> None:
        client.received += 1
        self.received += 1
        if self.waits is not None:
            number = int(data[start : start + _DIGITS])
            if number in self._sent_at:
                self.waits.append(perf_counter() - self._sent_at[number])
        if self.keep_numbers:
            client.numbers.append(int(data[start : start + _DIGITS]))

    def close(self) -> None:
        for client in self.clients:
            client.socket.close()
        for opened in self._idle:
            opened.close()
        self._epoll.close()


def _frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame. Masking with zeros changes nothing (RFC 6455, section 5.3)."""
    length = len(payload)
    if length < 126:
        head = bytes((128 | opcode, 128 | length))
    elif length < 65_536:
        head = bytes((128 | opcode, 128 | 126)) + length.to_bytes(2)
    else:
        head = bytes((128 | opcode, 128 | 127)) + length.to_bytes(8)
    return head + bytes(4) + payload
