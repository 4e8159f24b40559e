"""Rooms, users and limits, on bare Starlette, with the server in the test's hands."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from starlette.exceptions import WebSocketException
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastkit.websockets import ConnectionManager, Delivery
from tests.websockets.hub import Hub
from tests.websockets.wire import Wire, app_of, make_app, opened, settle, until

pytestmark = pytest.mark.anyio


def delivered(delivery: Delivery) -> int:
    """Whether at once or not differs between versions of Python."""
    return delivery.sent + delivery.queued


async def test_a_room_is_sent_to_and_others_are_not() -> None:
    manager = ConnectionManager()
    async with (
        opened(manager, rooms=["a"]) as (one, first),
        opened(manager, rooms=["a", "b"]) as (two, _),
        opened(manager) as (three, third),
    ):
        assert delivered(await manager.broadcast("to a", room="a")) == 2
        assert delivered(await manager.broadcast("to a's others", room="a", exclude=first)) == 1
        assert delivered(await manager.broadcast("to all", exclude=first.websocket)) == 2
        await third.join("b")
        assert delivered(await manager.broadcast("to b", room="b")) == 2
        await third.leave("b")
        await third.leave("b")
        assert delivered(await manager.broadcast("to b again", room="b")) == 1
        assert delivered(await manager.broadcast("to nobody", room="c")) == 0
        await settle()
        assert manager.rooms == {"a": 2, "b": 1}
        assert (set(first.rooms), set(third.rooms)) == ({"a"}, set())
    assert one.read == ["to a"]
    assert two.read == ["to a", "to a's others", "to all", "to b", "to b again"]
    assert three.read == ["to all", "to b"]
    assert manager.rooms == {}
    assert manager.active_connections == []


async def test_a_user_is_reached_on_each_of_its_connections() -> None:
    manager = ConnectionManager()
    async with (
        opened(manager, user=7) as (one, first),
        opened(manager, user=7) as (two, _),
        opened(manager, user="8") as (three, _),
    ):
        assert first.user == "7"
        assert delivered(await manager.send_to_user("hello", 7)) == 2
        assert delivered(await manager.send_to_user("again", "7", exclude=first)) == 1
        assert delivered(await manager.send_to_user("nobody", 9)) == 0
        assert delivered(await manager.send_personal_message("you", first)) == 1
        assert first.websocket in manager.active_connections
        assert manager.statistics.users == 2
        await settle()
    assert (one.read, two.read, three.read) == (["hello", "you"], ["hello", "again"], [])
    assert manager.statistics.users == 0


async def test_disconnecting_twice_or_somebody_unknown_is_no_error() -> None:
    manager = ConnectionManager()
    async with opened(manager, user=1, rooms=["a"]) as (wire, connection):
        for _ in range(2):
            manager.disconnect(connection)
            manager.disconnect(connection.websocket)
        assert manager.active_connections == []
        assert await manager.broadcast("hello") == Delivery()
        assert await manager.send_personal_message("hello", connection) == Delivery()
        with pytest.raises(WebSocketDisconnect):
            await connection.join("b")
        # It is still open, and its own endpoint's.
        await connection.send_text("still here")
    assert wire.read == ["still here"]
    assert manager.rooms == {}


async def test_a_websocket_is_connected_once_at_a_time() -> None:
    manager = ConnectionManager(max_connections=1)

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket, rooms=["a"])
        with pytest.raises(RuntimeError, match="connected already"):
            await manager.connect(websocket, rooms=["b"])
        assert manager.rooms == {"a": 1}
        manager.disconnect(websocket)
        async with manager.connect(websocket, rooms=["b"]):
            await manager.broadcast("hello", room="b")

    wire = Wire()
    await wire.run(app_of(endpoint))
    await settle()
    assert wire.read == ["hello"]
    assert wire.close == (1000, "")
    assert (manager.rooms, manager.active_connections) == ({}, [])
    async with opened(manager):
        pass


@pytest.mark.parametrize("error", [ValueError("own"), asyncio.CancelledError()])
@pytest.mark.parametrize("form", ["awaited", "entered"])
async def test_whatever_an_endpoint_raises_nothing_of_it_is_left(
    form: str, error: BaseException
) -> None:
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        if form == "awaited":
            await manager.connect(websocket, user=1, rooms=["a"])
            await websocket.receive_text()
            raise error
        async with manager.connect(websocket, user=1, rooms=["a"]):
            await websocket.receive_text()
            raise error

    wire = Wire()
    before = asyncio.all_tasks()
    task = wire.run(app_of(endpoint))
    await settle()
    assert len(manager.active_connections) == 1
    wire.write("go on")
    with pytest.raises(type(error)):
        await task
    await settle()
    assert manager.active_connections == []
    assert manager.rooms == {}
    assert asyncio.all_tasks() == before


async def test_ten_thousand_rooms_leave_nothing_behind() -> None:
    broker = Hub().broker()
    manager = ConnectionManager(broker=broker)
    before = asyncio.all_tasks()
    async with opened(manager) as (_, connection):
        for number in range(10_000):
            await connection.join(f"room {number}")
            if number % 2:
                await connection.leave(f"room {number}")
        assert manager.statistics.rooms == 5_000
    await settle()
    assert manager.statistics.rooms == 0
    assert broker.topics == set()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("limits", "others"),
    [
        ({"max_connections": 2}, [("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)]),
        ({"max_connections_per_user": 2}, [("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1)]),
        ({"max_connections_per_address": 2}, [("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.1", 3)]),
    ],
)
async def test_one_connection_too_many_is_refused_until_another_ends(
    limits: dict[str, int], others: list[tuple[str, int]]
) -> None:
    manager = ConnectionManager(**limits)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    *allowed, (host, user) = others
    async with AsyncExitStack() as stack:
        for its_host, its_user in allowed:
            await stack.enter_async_context(opened(manager, host=its_host, user=its_user))
        wire = Wire(host=host)
        await wire.run(make_app(manager, user=user))
        assert wire.sent == [
            {"type": "websocket.close", "code": 1013, "reason": "Too many connections."}
        ]
    async with opened(manager, host=host, user=user):
        pass


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://app.example.com", True),
        ("https://app.example.com:443", True),
        ("https://admin.example.com", True),
        ("https://evil.example.com", False),
        ("https://app.example.com.evil.com", False),
        ("null", False),
        ("file://", False),
    ],
)
async def test_only_pages_of_this_host_or_of_those_listed_may_connect(
    origin: str | None, allowed: bool
) -> None:
    manager = ConnectionManager(origins=["https://admin.example.com"])
    wire = Wire(headers={} if origin is None else {"Origin": origin})
    wire.leave()
    await wire.run(make_app(manager))
    assert wire.sent[0]["type"] == ("websocket.accept" if allowed else "websocket.close")
    assert wire.close == (None if allowed else (1008, "The origin is not allowed."))


async def test_that_a_refused_client_has_left_before_is_no_error() -> None:
    wire = Wire(headers={"Origin": "https://evil.example.com"})
    wire.lose()
    await wire.run(make_app(ConnectionManager()))
    assert wire.sent == []


async def test_a_websocket_accepted_before_is_taken_as_it_is() -> None:
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat")
        async with manager.connect(websocket) as connection:
            await connection.send_text("hello")

    wire = Wire()
    await wire.run(app_of(endpoint))
    assert [message["type"] for message in wire.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert wire.sent[0]["subprotocol"] == "chat"
    assert wire.close == (1000, "")


@pytest.mark.parametrize(
    "options",
    [
        {"origins": ["app.example.com"]},
        {"max_connections": 0},
        {"max_pending_bytes": -1},
        {"max_stall": float("nan")},
    ],
)
def test_limits_that_let_nothing_through_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ConnectionManager(**options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_str_is_no_list_of_rooms() -> None:
    with pytest.raises(TypeError, match=r"rooms=\['lobby'\]"):
        ConnectionManager().connect(WebSocket({"type": "websocket"}, None, None), rooms="lobby")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_shutting_down_tells_everybody_and_lets_nobody_in() -> None:
    manager = ConnectionManager()
    async with opened(manager, user=1) as (one, first), opened(manager) as (two, _):
        async with manager.lifespan(None):
            pass
        assert one.close == two.close == (1012, "The server restarts.")
        with pytest.raises(WebSocketDisconnect) as end:
            await first.join("too late")
        assert end.value.code == 1012
        assert manager.active_connections == []
    wire = Wire()
    await wire.run(make_app(manager))
    assert wire.close == (1013, "The server restarts.")
    async with manager.lifespan(None), opened(manager) as (three, _):
        await manager.broadcast("back")
        await settle()
        assert three.read == ["back"]


async def test_a_stuck_client_does_not_hold_up_a_shutdown() -> None:
    manager = ConnectionManager(shutdown_timeout=0.3)
    async with opened(manager) as (stuck, _), opened(manager) as (other, _):
        stuck.writable.clear()
        await manager.broadcast("hello")
        async with asyncio.timeout(2):
            await manager.shutdown()
        assert stuck.transport.aborted
        assert not other.transport.aborted
        assert other.close == (1012, "The server restarts.")


async def test_refusal_is_an_exception_that_frameworks_know() -> None:
    manager = ConnectionManager()
    seen: list[BaseException] = []

    async def endpoint(websocket: WebSocket) -> None:
        try:
            await manager.connect(websocket)
        except WebSocketException as error:
            seen.append(error)
            raise

    wire = Wire(headers={"Origin": "https://evil.example.com"})
    await wire.run(app_of(endpoint))
    assert len(seen) == 1


async def test_one_that_comes_while_the_manager_shuts_down_is_told_so() -> None:
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        accepting = asyncio.create_task(manager.shutdown())
        async with manager.connect(websocket):
            pytest.fail("it is not let in")
        await accepting

    wire = Wire()
    wire.writable.clear()
    task = wire.run(app_of(endpoint))
    await settle()
    wire.writable.set()
    # No server logs an error for it.
    await task
    assert wire.close == (1012, "The server restarts.")
    assert manager.active_connections == []


async def test_one_that_is_cancelled_while_it_is_told_so_leaves_nothing_behind() -> None:
    class Stuck(Wire):
        async def send(self, message: Message) -> None:
            await super().send(message)
            self.writable.clear()

    manager = ConnectionManager()
    wire = Stuck()
    wire.writable.clear()
    before = asyncio.all_tasks()
    task = wire.run(make_app(manager))
    await settle()
    await manager.shutdown()
    wire.writable.set()
    await settle()
    assert [message["type"] for message in wire.sent] == ["websocket.accept"]
    task.cancel()
    await asyncio.wait([task])
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_client_that_leaves_before_it_is_accepted_is_not_counted() -> None:
    manager = ConnectionManager(max_connections=1)
    wire = Wire()
    wire.lose()
    with pytest.raises(OSError, match="gone"):
        await wire.run(make_app(manager))
    async with opened(manager) as (_, connection):
        assert connection.id in repr(connection)


@pytest.mark.parametrize("by_client", [True, False])
async def test_one_that_is_closed_is_not_connected_and_is_no_error(by_client: bool) -> None:
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        if by_client:
            await websocket.receive()
        else:
            await websocket.close(4000)
        async with manager.connect(websocket):
            pytest.fail("it is connected")

    wire = Wire()
    if by_client:
        wire.leave()
    await wire.run(app_of(endpoint))
    assert manager.active_connections == []
    assert wire.close == ((1000, "The connection is over.") if by_client else (4000, ""))


async def test_a_room_that_is_named_twice_is_left_at_once() -> None:
    manager = ConnectionManager()
    async with opened(manager, user="adam", rooms=["a"]):
        async with opened(manager, user="eve", rooms=["a", "a"]):
            assert await manager.presence("a") == {"adam", "eve"}
        assert await manager.presence("a") == {"adam"}


async def test_less_than_one_message_a_second_is_a_rate_too() -> None:
    manager = ConnectionManager(max_messages_per_second=0.5)
    wire = Wire()
    task = wire.run(make_app(manager))
    wire.write("one")
    await settle()
    assert wire.read == ["one"]
    wire.write("two")
    await task
    assert wire.close == (1008, "At most 0.5 messages are taken in a second.")


async def test_who_disconnects_does_not_expire() -> None:
    manager = ConnectionManager()
    async with opened(manager, expires_at=time.time() + 0.1) as (wire, connection):
        manager.disconnect(connection)
        await asyncio.sleep(0.2)
        assert wire.close is None


async def test_what_the_endpoint_does_wrong_is_not_taken_for_the_client_leaving() -> None:
    manager = ConnectionManager()

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as connection:
            with pytest.raises(RuntimeError):
                await websocket.accept()
            await connection.send_text("still here")

    wire = Wire()
    await wire.run(app_of(endpoint))
    assert wire.read == ["still here"]
    assert wire.close == (1000, "")


@pytest.mark.parametrize("end", ["expiry", "shutdown", "eviction", "loss"])
async def test_whoever_receives_later_is_told_that_it_is_over(end: str) -> None:
    manager = ConnectionManager(max_stall=0.1)
    ended = asyncio.Event()
    codes: list[int] = []

    # As in the tutorial, which does something else for a while.
    async def endpoint(websocket: WebSocket) -> None:
        expires_at = time.time() + 0.1 if end == "expiry" else None
        await manager.connect(websocket, expires_at=expires_at)
        try:
            await ended.wait()
            await websocket.receive_text()
        except WebSocketDisconnect as error:
            codes.append(error.code)
            manager.disconnect(websocket)

    wire = Wire()
    task = wire.run(app_of(endpoint))
    await settle()
    closing: asyncio.Task[None] | None = None
    if end == "shutdown":
        closing = asyncio.create_task(manager.shutdown())
    elif end in ("eviction", "loss"):
        wire.lost = end == "loss"
        if end == "eviction":
            wire.writable.clear()
        await manager.broadcast("hello")
    await until(lambda: manager.active_connections == [])
    wire.writable.set()
    await settle()
    ended.set()
    await task
    assert codes == [{"expiry": 4001, "shutdown": 1012, "eviction": 1013, "loss": 1006}[end]]
    if closing is not None:
        await closing
