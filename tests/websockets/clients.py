"""Clients of a real server: some read, some do not."""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import httpx
from websockets.asyncio.client import ClientConnection, connect

__all__ = ("RawClient", "flood", "gaps", "opened", "state", "until", "until_it_waits")


# The servers of tests have certificates of their own.
UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


class Serving(Protocol):
    """A server of `tests.websockets.served`."""

    base_url: str


def state(server: Serving) -> dict[str, int]:
    answer: dict[str, int] = httpx.get(server.base_url + "/state", verify=UNVERIFIED).json()
    return answer


@asynccontextmanager
async def opened(server: Serving, path: str, **options: Any) -> AsyncGenerator[ClientConnection]:
    async with connect(
        server.base_url.replace("http", "ws", 1) + path,
        compression=None,
        ssl=UNVERIFIED if server.base_url.startswith("https") else None,
        **options,
    ) as client:
        yield client


async def until(condition: Callable[[], bool], seconds: float = 10) -> float:
    """Wait for it, and return how long that took."""
    started = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < started + seconds
        await asyncio.sleep(0.05)
    return time.monotonic() - started


class RawClient:
    """A client that opens a WebSocket and then reads only what the test wants it to."""

    def __init__(self, server: Serving, path: str) -> None:
        scheme, _, address = server.base_url.partition("://")
        host, _, port = address.partition(":")
        self.socket = socket.socket()
        # The less the kernel takes for it, the sooner the server notices.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((host, int(port)))
        if scheme == "https":
            self.socket = UNVERIFIED.wrap_socket(self.socket)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")

    def pong(self) -> None:
        """Say that it is alive, without having been asked (RFC 6455, section 5.5.3)."""
        self.socket.sendall(b"\x8a\x80\x00\x00\x00\x00")

    def is_cut_off(self) -> bool:
        """Whether the connection is no more, which what is still to be read does not say."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return info[0] in (7, 8)  # closed, or half closed by the server

    async def __aenter__(self) -> "RawClient":
        return self

    async def __aexit__(self, *error: object) -> None:
        self.socket.close()

    def trickle(self) -> None:
        """Read a little, and say that it is alive."""
        with suppress(OSError):
            self.pong()
            self.socket.recv(100, socket.MSG_DONTWAIT)

    def die(self) -> None:
        """End as a process does that is killed: with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


async def gaps(client: ClientConnection, number: int) -> list[float]:
    """Receive so many messages; the seconds between them."""
    result: list[float] = []
    before = time.monotonic()
    for expected in range(number):
        message = await client.recv()
        assert isinstance(message, str)
        assert message.startswith(f"{expected} ")
        result.append(time.monotonic() - before)
        before = time.monotonic()
    return result


async def flood(server: Serving, **query: float) -> int:
    async with httpx.AsyncClient(verify=UNVERIFIED) as http:
        return int((await http.post(server.base_url + "/flood", params=query)).text)


async def until_it_waits(server: Serving, client: ClientConnection) -> None:
    """Broadcast until another client, which does not read, has something waiting for it."""
    while state(server)["pending"] == 0:
        await gaps(client, await flood(server, size=65_536, per_second=100, seconds=0.05))
