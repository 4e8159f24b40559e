"""The TCP connection under a WebSocket, found by looking along the `send` callables.

A server's `send` waits for a client that does not read, a close waits behind it, and only aborting
the transport ends that. ASGI has no message for it. Where nothing is found, nothing is aborted.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

__all__ = ("Abortable", "cut", "find_transport")

# Middlewares within middlewares; a longer chain is more likely to be a loop.
_MAX_STEPS = 64
_NAMES = ("send", "_send")


@runtime_checkable
class Abortable(Protocol):
    """What is used of `asyncio.WriteTransport`; uvloop's is none by inheritance."""

    def abort(self) -> None:
        """Close at once, without sending what is buffered."""
        ...

    def get_extra_info(self, name: str) -> Any:
        """The socket, by that name."""
        ...

    def get_write_buffer_size(self) -> int:
        """How many bytes are buffered."""
        ...


# On, and no seconds (socket(7)).
_RESET = struct.pack("ii", 1, 0)


def cut(transport: Abortable) -> None:
    """Abort the transport, and the TCP connection with it.

    Otherwise the kernel goes on sending what it has buffered, which are megabytes, to a client that
    may never read, and the client's end of the connection does not end.
    """
    with suppress(AttributeError, OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def find_transport(send: Any) -> Abortable | None:
    """Follow `send` outwards, from closure to closure and object to object, to the server's.

    uvicorn's `send` is a method of an object with a `transport`, Hypercorn's leads through two more
    `send`s to one with a `writer` that has it.
    """
    seen: set[int] = set()
    waiting = [send]
    while waiting and len(seen) < _MAX_STEPS:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        owner = getattr(current, "__self__", None)
        for holder in (owner, getattr(owner, "writer", None)):
            transport = getattr(holder, "transport", None)
            if isinstance(transport, Abortable):
                return transport
        waiting.extend(_next(current, owner))
    return None


def _next(send: Any, owner: Any) -> Iterator[Any]:
    """What this `send` may hand its messages to: attributes and closed-over names called so."""
    for holder in (owner, send):
        for name in _NAMES:
            if callable(found := getattr(holder, name, None)):
                yield found
    function = getattr(send, "__func__", send)
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=True):
        if name in _NAMES:
            yield cell.cell_contents
