"""Text, bytes, JSON and models, in and out."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastkit.websockets import Connection, ConnectionManager
from tests.websockets.wire import Wire, app_of, opened, settle, until

pytestmark = pytest.mark.anyio


class Say(BaseModel):
    kind: Literal["say"] = "say"
    text: str = Field(max_length=10)


class Go(BaseModel):
    kind: Literal["go"]
    room: str


Command = TypeAdapter[Say | Go](Annotated[Say | Go, Field(discriminator="kind")])


async def run(
    endpoint: Callable[[Connection], Any], *messages: str | bytes, **options: Any
) -> Wire:
    """What a client is sent by this endpoint, after it wrote these messages and left."""
    manager = ConnectionManager(**options)

    async def whole(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as connection:
            await endpoint(connection)

    wire = Wire()
    for message in messages:
        wire.write(message)
    wire.leave()
    await wire.run(app_of(whole))
    assert manager.active_connections == []
    return wire


async def test_each_kind_of_message_goes_out_as_it_is() -> None:
    manager = ConnectionManager()
    async with opened(manager) as (wire, connection):
        for message in ("text", b"bytes", Say(text="ä"), {"at": datetime(2026, 1, 1, tzinfo=UTC)}):
            await manager.broadcast(message)
        await manager.send_personal_message([1, None, True, float("nan")], connection)
        await connection.send_text("text")
        await connection.send_bytes(b"bytes")
        await connection.send_json("a str")
        await connection.send_json({"a": 1})
        await connection.send_json(Say(text="hi"))
        await settle()
    assert wire.read == [
        "text",
        b"bytes",
        '{"kind":"say","text":"ä"}',
        '{"at":"2026-01-01T00:00:00Z"}',
        "[1,null,true,null]",
        "text",
        b"bytes",
        '"a str"',
        '{"a":1}',
        '{"kind":"say","text":"hi"}',
    ]


async def test_what_cannot_be_sent_is_an_error_of_the_sender_alone() -> None:
    manager = ConnectionManager()
    async with opened(manager) as (wire, connection):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            await manager.broadcast("\ud800")
        with pytest.raises(ValueError, match="object"):
            await connection.send_json({"a": object()})
        await manager.broadcast("still here")
        await settle()
        assert wire.read == ["still here"]


async def test_json_comes_in_as_models() -> None:
    seen: list[Say | Go] = []

    async def endpoint(connection: Connection) -> None:
        async for command in connection.iter_json(Command):
            seen.append(command)

    await run(endpoint, '{"kind": "say", "text": "hi"}', b'{"kind": "go", "room": "a"}')
    assert seen == [Say(text="hi"), Go(kind="go", room="a")]


async def test_a_model_goes_out_under_the_names_it_comes_in_by() -> None:
    class Move(BaseModel):
        client_id: int = Field(alias="clientId")

    async def endpoint(connection: Connection) -> None:
        async for move in connection.iter_json(Move):
            await connection.send_json(move)
            await connection.send_json({"moves": [move]})

    wire = await run(endpoint, '{"clientId":1}')
    assert wire.read == ['{"clientId":1}', '{"moves":[{"clientId":1}]}']


async def test_json_without_a_model_is_any_json() -> None:
    seen: list[Any] = []

    async def endpoint(connection: Connection) -> None:
        async for value in connection.iter_json():
            seen.append(value)

    await run(endpoint, '"x"', "[1]", "null")
    assert seen == ["x", [1], None]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "nonsense",
        "{}",
        '{"text": "much too long for it"}',
        '{"text": "\\ud800"}',
        "[" * 5_000,
        "9" * 5_000,
        b"\xff",
        '{"text": null}',
    ],
)
async def test_an_invalid_message_closes_or_is_answered_as_the_endpoint_wants(
    message: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def closes(connection: Connection) -> None:
        async for say in connection.iter_json(Say):
            await connection.send_text(say.text)

    wire = await run(closes, message, '{"text": "hi"}')
    assert wire.close == (1007, "The message is not valid.")
    assert wire.read == []

    def answer(error: ValidationError) -> dict[str, int]:
        return {"errors": error.error_count()}

    async def answers(connection: Connection) -> None:
        async for say in connection.iter_json(Say, on_invalid=answer):
            await connection.send_text(say.text)

    wire = await run(answers, message, '{"text": "hi"}')
    assert wire.read == ['{"errors":1}', "hi"]
    assert caplog.records == []


@pytest.mark.parametrize(("kind", "message"), [("text", b"x"), ("bytes", "x")])
async def test_the_other_kind_of_frame_closes(kind: str, message: str | bytes) -> None:
    async def endpoint(connection: Connection) -> None:
        incoming = connection.iter_text() if kind == "text" else connection.iter_bytes()
        async for _ in incoming:
            pytest.fail("it is of the other kind")

    wire = await run(endpoint, message)
    assert wire.close is not None
    assert wire.close[0] == 1003


async def test_bytes_come_in() -> None:
    async def endpoint(connection: Connection) -> None:
        async for data in connection.iter_bytes():
            await connection.send_bytes(data * 2)

    assert (await run(endpoint, b"ab", b"")).read == [b"abab", b""]


@pytest.mark.parametrize("message", ["x" * 11, b"x" * 11, "€€€€", "x" * 1_000_000])
async def test_a_message_that_is_too_long_closes(message: str | bytes) -> None:
    async def endpoint(connection: Connection) -> None:
        async for text in connection.iter_text():
            await connection.send_text(text)

    wire = await run(endpoint, "€€€x", message, "y", max_message_size=10)
    assert wire.close == (1009, "A message has at most 10 bytes.")
    assert wire.read == ["€€€x"]


async def test_a_flood_closes_and_a_pause_gives_allowance_back() -> None:
    async def endpoint(connection: Connection) -> None:
        async for text in connection.iter_text():
            if text == "pause":
                await asyncio.sleep(0.3)

    wire = await run(endpoint, *["x"] * 9, "pause", *["x"] * 2, max_messages_per_second=10)
    assert wire.close is None
    wire = await run(endpoint, *["x"] * 30, max_messages_per_second=10)
    assert wire.close == (1008, "At most 10 messages are taken in a second.")


async def test_sending_after_the_end_ends_the_block_and_not_the_server() -> None:
    ends: list[int] = []

    async def endpoint(connection: Connection) -> None:
        async for _ in connection.iter_text():
            pass
        try:
            await connection.send_text("too late")
        except WebSocketDisconnect as end:
            ends.append(end.code)
            raise

    await run(endpoint)
    assert ends == [1005]


async def test_closing_sends_what_waits_first_and_is_done_once() -> None:
    async def endpoint(connection: Connection) -> None:
        await connection.send_text("bye")
        await connection.close(4000, "x" * 200)
        await connection.close(4001)
        await connection.websocket.close()
        assert [text async for text in connection.iter_text()] == []
        connection.renew(time.time())

    wire = await run(endpoint)
    assert wire.read == ["bye"]
    assert wire.close == (4000, "x" * 123)


async def test_an_endpoint_that_uses_the_websocket_itself_is_under_the_same_rules() -> None:
    manager = ConnectionManager(max_message_size=10)
    codes: list[int] = []

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        await websocket.send_json({"a": 1})
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as end:
            codes.append(end.code)
        await websocket.close(1000)

    wire = Wire()
    wire.write("x" * 11)
    await wire.run(app_of(endpoint))
    assert codes == [1009]
    assert [json.loads(message) for message in wire.read] == [{"a": 1}]
    assert wire.close == (1009, "A message has at most 10 bytes.")


async def test_closing_the_websocket_itself_ends_the_connection() -> None:
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        await websocket.close(4000, "bye")
        assert manager.active_connections == []

    wire = Wire()
    await wire.run(app_of(endpoint))
    assert wire.close == (4000, "bye")


async def test_at_the_end_of_its_time_a_connection_is_closed_with_4001() -> None:
    manager = ConnectionManager()
    async with opened(manager, expires_at=time.time() + 0.1) as (wire, connection):
        await until(lambda: wire.close)
        assert wire.close == (4001, "expired")
        assert wire.read == []
        with pytest.raises(WebSocketDisconnect) as end:
            await connection.send_text("too late")
        assert end.value.code == 4001


async def test_a_client_is_warned_and_can_renew_in_time() -> None:
    manager = ConnectionManager()
    async with opened(manager, expires_at=time.time() + 0.4, expiry_warning={"type": "renew"}) as (
        wire,
        connection,
    ):
        await until(lambda: wire.read)
        assert wire.close is None
        connection.renew(time.time() + 60)
        await asyncio.sleep(0.4)
        assert wire.read == ['{"type":"renew"}']
        assert wire.close is None
