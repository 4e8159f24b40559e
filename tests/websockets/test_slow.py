"""Clients that do not read: bounded in bytes and in time, at nobody else's expense."""

import asyncio
from itertools import cycle
from typing import Any

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastkit.websockets import ConnectionManager, _outbox
from tests.websockets.wire import Wire, app_of, make_app, opened, settle, until

pytestmark = pytest.mark.anyio

KILOBYTE = "x" * 1024


@pytest.fixture(autouse=True, params=["eager", "scheduled"])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write, where both are possible: newer versions of Python have the older way."""
    if request.param == "scheduled":
        monkeypatch.setattr(_outbox, "EAGER", False)
    elif not _outbox.EAGER:
        pytest.skip("tasks are not eager before Python 3.12")


async def test_what_waits_is_sent_in_order_when_the_client_reads_again() -> None:
    manager = ConnectionManager()
    async with opened(manager) as (wire, connection), opened(manager) as (other, _):
        wire.writable.clear()
        for number in range(100):
            await manager.broadcast(str(number))
        own = asyncio.create_task(connection.send_text("own"))
        await settle()
        assert not own.done()
        assert wire.read == []
        assert len(other.read) == 100
        assert manager.statistics.pending_bytes > 0
        wire.writable.set()
        await own
        assert wire.read == [*map(str, range(100)), "own"]
        assert manager.statistics.pending_bytes == 0
        assert manager.statistics.messages.evicted == 0


async def test_too_much_that_waits_ends_the_connection() -> None:
    manager = ConnectionManager(max_pending_bytes=10_000)
    async with opened(manager) as (slow, _), opened(manager) as (other, _):
        slow.writable.clear()
        deliveries = [await manager.broadcast(KILOBYTE) for _ in range(20)]
        assert sum(delivery.evicted for delivery in deliveries) == 1
        assert len(manager.active_connections) == 1
        assert manager.statistics.pending_bytes == 0
        await settle()
        assert len(other.read) == 20
        assert manager.statistics.messages.evicted == 1
        # It has a moment to read why.
        assert not slow.transport.aborted
        await until(lambda: slow.transport.aborted)
        assert not other.transport.aborted


async def test_one_that_reads_again_in_time_is_told_why() -> None:
    manager = ConnectionManager(max_pending_bytes=10_000)
    async with opened(manager) as (slow, _):
        slow.writable.clear()
        for _ in range(20):
            await manager.broadcast(KILOBYTE)
        slow.writable.set()
        await until(lambda: slow.close is not None)
        assert slow.close == (1013, "Too slow.")
        assert len(slow.read) == 1  # which was being written


async def test_a_message_longer_than_the_bound_is_sent_to_one_that_reads() -> None:
    manager = ConnectionManager(max_pending_bytes=10)
    async with opened(manager) as (wire, _):
        for _ in range(3):
            await manager.broadcast(KILOBYTE)
            await settle()
        assert len(wire.read) == 3


async def test_empty_messages_are_bounded_too() -> None:
    manager = ConnectionManager(max_pending_bytes=10_000)
    async with opened(manager) as (slow, _):
        slow.writable.clear()
        for _ in range(200):
            await manager.broadcast("")
        assert manager.active_connections == []


@pytest.mark.parametrize("when_slow", ["drop_oldest", "drop_new"])
async def test_dropping_keeps_the_connection_and_its_own_messages(when_slow: Any) -> None:
    manager = ConnectionManager(max_pending_bytes=10_000, when_slow=when_slow)
    async with opened(manager) as (slow, connection):
        slow.writable.clear()
        await manager.broadcast("first")  # being written from now on
        await settle()
        own = asyncio.create_task(connection.send_text("own"))
        await settle()
        numbers = [f"{number:04}" + KILOBYTE for number in range(20)]
        dropped = [(await manager.broadcast(number)).dropped for number in numbers]
        assert sum(dropped) == manager.statistics.messages.dropped == 12
        assert 8_000 < manager.statistics.pending_bytes <= 10_000
        slow.writable.set()
        await own
        await settle()
        kept = numbers[12:] if when_slow == "drop_oldest" else numbers[:8]
        assert slow.read == ["first", "own", *kept]
        assert manager.statistics.messages.evicted == 0


async def test_one_message_that_takes_too_long_ends_the_connection() -> None:
    manager = ConnectionManager(max_stall=0.1)
    async with opened(manager) as (slow, connection), opened(manager) as (other, _):
        slow.writable.clear()
        await manager.broadcast("hello")
        await until(lambda: len(manager.active_connections) == 1)
        assert manager.active_connections != [connection.websocket]
        await until(lambda: slow.transport.aborted)
        assert other.read == ["hello"]


async def test_one_that_goes_on_slowly_is_not_ended_by_time() -> None:
    manager = ConnectionManager(max_stall=0.3)
    async with opened(manager) as (slow, _):
        slow.writable.clear()
        for _ in range(6):
            await manager.broadcast("hello")
        for read in range(1, 7):
            await asyncio.sleep(0.1)
            slow.writable.set()
            for _ in range(20):
                if len(slow.read) < read:
                    await asyncio.sleep(0)
            slow.writable.clear()
        assert len(manager.active_connections) == 1


async def test_one_that_is_slow_again_and_again_is_not_ended() -> None:
    manager = ConnectionManager(max_stall=0.2)
    async with opened(manager) as (slow, _):
        for number in range(6):
            slow.writable.clear()
            await manager.broadcast(str(number))
            await asyncio.sleep(0.07)
            slow.writable.set()
            await settle()
        await asyncio.sleep(0.3)
        assert len(manager.active_connections) == 1
        assert len(slow.read) == 6


async def test_a_stuck_client_holds_up_only_what_its_own_endpoint_sends() -> None:
    manager = ConnectionManager(max_stall=0.1)
    ends: list[WebSocketDisconnect] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as connection:
            try:
                while True:
                    await connection.send_text("tick")
                    await asyncio.sleep(0)
            except WebSocketDisconnect as end:
                ends.append(end)
                raise

    wire = Wire()
    task = wire.run(app_of(endpoint))
    await until(lambda: wire.read)
    wire.writable.clear()
    async with asyncio.timeout(5):
        await task
    assert [(end.code, end.reason) for end in ends] == [(1013, "Too slow.")]


async def test_a_dead_client_is_found_by_who_sends_to_it_and_harms_nobody() -> None:
    manager = ConnectionManager()
    async with (
        opened(manager, user="a") as (one, _),
        opened(manager, user="b") as (two, dead),
        opened(manager, user="c") as (three, _),
    ):
        two.lost = True
        delivery = await manager.broadcast("hello")
        await settle()
        assert one.read == three.read == ["hello"]
        assert len(manager.active_connections) == 2
        assert manager.statistics.messages.evicted == 1
        assert delivery.sent + delivery.queued + delivery.evicted == 3
        with pytest.raises(WebSocketDisconnect):
            await dead.send_text("to nobody")


async def test_a_message_to_a_dead_client_alone_finds_it_too() -> None:
    manager = ConnectionManager()
    async with opened(manager) as (wire, connection):
        wire.lost = True
        await manager.send_personal_message("hello", connection)
        await settle()
        assert manager.active_connections == []
        assert manager.statistics.messages.evicted == 1


async def test_an_error_of_a_middleware_ends_only_that_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = ConnectionManager()
    async with opened(manager) as (broken, _), opened(manager) as (other, _):
        broken.sent = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        await manager.broadcast("hello")
        await settle()
        assert other.read == ["hello"]
        assert len(manager.active_connections) == 1
        broken.sent = []
    assert [record.name for record in caplog.records] == ["fastkit.websockets"]


async def test_a_cancelled_send_is_not_an_error_of_others() -> None:
    manager = ConnectionManager()
    async with opened(manager) as (wire, connection):
        wire.writable.clear()
        own = asyncio.create_task(connection.send_text("cancelled"))
        await settle()
        own.cancel()
        await asyncio.wait([own])
        wire.writable.set()
        await connection.send_text("after")
        # It had begun: part of it may have been on its way.
        assert wire.read == ["cancelled", "after"]
        wire.writable.clear()
        own = asyncio.create_task(connection.send_text("cancelled"))
        await settle()
        own.cancel()
    assert own.cancelled()


async def test_a_cancelled_broadcast_leaves_a_stuck_client_watched() -> None:
    manager = ConnectionManager(max_stall=0.1)
    async with opened(manager) as (slow, _), opened(manager) as (other, _):
        for number, steps in enumerate((0, 1, 2, 3, 0, 1, 2, 3)):
            if number == 4:
                slow.writable.clear()
            broadcast = asyncio.create_task(manager.broadcast("cancelled"))
            for _ in range(steps):
                await asyncio.sleep(0)
            broadcast.cancel()
            await asyncio.wait([broadcast])
        await manager.broadcast("whole")
        await until(lambda: len(manager.active_connections) == 1)
        await until(lambda: "whole" in other.read)


async def test_what_became_of_a_message_does_not_change_later() -> None:
    manager = ConnectionManager()
    async with opened(manager) as (slow, _), opened(manager), opened(manager) as (dead, _):
        for wire in (slow, dead):
            wire.writable.clear()
        delivery = await manager.broadcast("hello")
        assert (delivery.sent, delivery.queued, delivery.evicted) == (1, 2, 0)
        slow.writable.set()
        dead.lose()
        await settle()
        assert (delivery.sent, delivery.queued, delivery.evicted) == (1, 2, 0)


async def test_joins_and_leaves_during_a_broadcast_skip_nobody() -> None:
    manager = ConnectionManager(max_connections_per_address=1000)
    wires: list[Wire] = []
    tasks: list[asyncio.Task[None]] = []

    app = make_app(manager, rooms=["a"])
    for _ in range(600):
        wires.append(wire := Wire())
        tasks.append(wire.run(app))
    await until(lambda: manager.rooms.get("a") == 600)
    first = asyncio.create_task(manager.broadcast("first", room="a"))
    second = asyncio.create_task(manager.broadcast("second", room="a"))
    await asyncio.sleep(0)
    for wire in wires[:100] + wires[500:]:
        wire.leave()
    wires.append(late := Wire())
    tasks.append(late.run(app))
    await asyncio.gather(first, second)
    await settle()
    # In one order on all, although a broadcast to so many lets others run meanwhile.
    assert all(wire.read == ["first", "second"] for wire in wires[100:500])
    assert late.read in ([], ["second"], ["first", "second"])
    for wire in wires:
        wire.leave()
    await asyncio.gather(*tasks)
    assert manager.active_connections == []


@pytest.mark.parametrize("has_transport", [True, False])
async def test_an_endpoint_ends_in_bounded_time_whatever_its_client_does(
    has_transport: bool,
) -> None:
    manager = ConnectionManager(max_stall=0.1)

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket):
            wire.writable.clear()
            await manager.broadcast("hello")

    wire = Wire()
    transport = wire.transport
    if not has_transport:
        del wire.transport
    async with asyncio.timeout(5):
        await wire.run(app_of(endpoint))
    assert manager.active_connections == []
    if has_transport:
        await until(lambda: transport.aborted)


async def test_without_a_transport_a_stuck_client_is_left_to_the_server_and_harms_nobody() -> None:
    manager = ConnectionManager(max_stall=0.1, shutdown_timeout=0.1)
    wires = [Wire(), Wire()]
    tasks: list[asyncio.Task[None]] = []

    app = make_app(manager)
    for wire in wires:
        del wire.transport
        tasks.append(wire.run(app))
    await until(lambda: len(manager.active_connections) == 2)
    wires[0].writable.clear()
    await manager.broadcast("hello")
    await until(lambda: len(manager.active_connections) == 1)
    async with opened(manager) as (other, _):
        await manager.broadcast("to others")
        await settle()
        assert other.read == ["to others"]
    wires[1].writable.clear()
    await manager.shutdown()
    for wire in wires:
        wire.leave()
    await asyncio.gather(*tasks)
    assert wires[1].read == ["hello", "to others"]


class Hesitant(Wire):
    """One to whom sending takes a moment, each fifth time."""

    times = cycle(range(5))

    async def send(self, message: Message) -> None:
        if not next(self.times):
            await asyncio.sleep(0.001)
        await super().send(message)


async def test_cancelled_broadcasts_leave_every_client_hearing_and_in_order() -> None:
    manager = ConnectionManager()
    wires = [Hesitant() for _ in range(20)]
    tasks = [wire.run(make_app(manager)) for wire in wires]
    await until(lambda: len(manager.active_connections) == 20)
    for number in range(150):
        broadcast = asyncio.create_task(manager.broadcast(f"{number}"))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        broadcast.cancel()
        if number % 10 == 0:
            await asyncio.sleep(0.002)
    await manager.broadcast("999")
    await until(lambda: all("999" in wire.read for wire in wires))
    assert [wire.read for wire in wires] == [sorted(wire.read, key=int) for wire in wires]
    assert manager.statistics.pending_bytes == 0
    for wire in wires[:10]:
        wire.leave()
    await asyncio.gather(*tasks[:10])
    await manager.broadcast("1000")
    await until(lambda: all("1000" in wire.read for wire in wires[10:]))
    for wire in wires[10:]:
        wire.leave()
    await asyncio.gather(*tasks)


async def test_a_history_that_is_longer_than_what_may_wait_reaches_a_client_that_reads() -> None:
    manager = ConnectionManager(max_pending_bytes=100_000)
    async with opened(manager) as (wire, connection):
        for _ in range(400):
            await manager.send_personal_message(KILOBYTE, connection)
        await settle()
        assert wire.read == [KILOBYTE] * 400


async def test_over_http_2_nothing_is_cut_off_for_other_streams_would_be() -> None:
    manager = ConnectionManager(max_stall=0.1)
    wire = Wire()
    wire.scope["http_version"] = "2"
    task = wire.run(make_app(manager))
    await until(lambda: len(manager.active_connections) == 1)
    wire.writable.clear()
    await manager.broadcast("hello")
    await until(lambda: manager.active_connections == [])
    await asyncio.sleep(1.2)
    assert not wire.transport.aborted
    wire.lose()
    await task
