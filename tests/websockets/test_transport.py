"""How the TCP connection is found under the middlewares around an endpoint."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from starlette.types import Message, Send

from fastkit.websockets._transport import find_transport
from tests.websockets.wire import Transport, Wire


def wrapped(send: Send) -> Send:
    async def sender(message: Message) -> None:
        await send(message)

    return sender


class Slotted:
    """A middleware's object."""

    __slots__ = ("_send",)

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, message: Message) -> None:
        await self._send(message)


class Stream:
    """As in Hypercorn, where the connection is two objects further."""

    def __init__(self, send: Callable[..., Awaitable[None]]) -> None:
        self.send = send

    async def app_send(self, message: Message) -> None:
        await self.send(message)


class Connection:
    def __init__(self, transport: Transport) -> None:
        self.writer = type("Writer", (), {"transport": transport})()

    async def protocol_send(self, event: Any) -> None: ...


def test_a_transport_is_found_through_closures_and_objects() -> None:
    wire = Wire()
    assert find_transport(wire.send) is wire.transport
    assert find_transport(wrapped(wrapped(Slotted(wrapped(wire.send)).send))) is wire.transport
    hypercorn = Stream(Stream(Connection(wire.transport).protocol_send).app_send).app_send
    assert find_transport(wrapped(hypercorn)) is wire.transport


async def nowhere(message: Message) -> None: ...


@pytest.mark.parametrize("send", [nowhere, wrapped(nowhere), partial(nowhere), None])
def test_where_there_is_none_nothing_is_found(send: Any) -> None:
    assert find_transport(send) is None


def test_a_chain_that_has_no_end_is_given_up() -> None:
    one, two = Stream(nowhere), Stream(nowhere)
    one.send, two.send = two.app_send, one.app_send
    assert find_transport(one.app_send) is None
    send: Send = nowhere
    for _ in range(100):
        send = wrapped(send)
    assert find_transport(send) is None
