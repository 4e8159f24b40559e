"""What the manager asks of a broker, and what it does not lose when it is cancelled or refused."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Collection

import pytest
from starlette.websockets import WebSocket

from fastkit.websockets import BrokerError, ConnectionManager, Delivery, MemoryBroker
from tests.websockets.wire import Wire, app_of, opened, settle, until

pytestmark = pytest.mark.anyio


class SlowBroker(MemoryBroker):
    """One that takes its time, as over a network, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.error: Exception = BrokerError("the broker is down")
        self.subscribed: list[set[str]] = []
        self.topics: set[str] = set()
        self.closed = 0

    async def publish(self, topic: str, payload: bytes, /) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await super().publish(topic, payload)

    async def subscribe(self, topics: Collection[str], /) -> None:
        self.subscribed.append(set(topics))
        for _ in range(3):
            await asyncio.sleep(0)
        if self.fails:
            raise self.error
        await super().subscribe(topics)
        self.topics |= set(topics)

    async def unsubscribe(self, topics: Collection[str], /) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await super().unsubscribe(topics)
        self.topics -= set(topics)

    async def close(self) -> None:
        self.closed += 1
        await super().close()


async def test_twenty_that_join_a_room_at_once_make_one_subscription_and_all_receive() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    wires = [Wire() for _ in range(20)]

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as connection:
            await connection.join("a")
            await connection.send_text("joined")
            async for _ in connection.iter_text():
                pass

    app = app_of(endpoint)
    tasks = [wire.run(app) for wire in wires]
    await until(lambda: all(wire.read for wire in wires))
    await manager.broadcast("hello", room="a")
    await settle()
    assert [wire.read for wire in wires] == [["joined", "hello"]] * 20
    assert [topics for topics in broker.subscribed if "room:a" in topics] == [{"room:a"}]
    for wire in wires:
        wire.leave()
    await asyncio.gather(*tasks)
    await settle()
    assert broker.topics == set()


async def test_leaving_and_joining_again_meanwhile_ends_as_it_was_asked_last() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    async with opened(manager) as (wire, connection):
        for _ in range(5):
            await connection.join("a")
            await connection.leave("a")
            await asyncio.sleep(0)
        await connection.join("a")
        await manager.broadcast("hello", room="a")
        await settle()
        assert wire.read == ["hello"]
        assert broker.topics == {"all", "room:a"}
    await settle()
    assert broker.topics == set()


@pytest.mark.parametrize("steps", range(40))
async def test_cancelled_anywhere_it_leaves_nothing_behind(steps: int) -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    before = asyncio.all_tasks()

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket, user=1, rooms=["a", "b"]) as connection:
            await connection.join("c")
            await connection.send_text("hello")
            await manager.broadcast("hello", room="c")
            await connection.leave("c")

    wire = Wire()
    task = wire.run(app_of(endpoint))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await settle()
    numbers = manager.statistics
    assert (numbers.connections, numbers.rooms, numbers.users, numbers.pending_bytes) == (0,) * 4
    assert broker.topics == set()
    assert asyncio.all_tasks() == before
    # The count of its limits is given back too.
    async with opened(ConnectionManager(max_connections=1)), opened(manager, user=1):
        assert len(manager.active_connections) == 1


async def test_a_broker_that_refuses_leaves_nobody_in_a_room_it_does_not_hear(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    async with opened(manager) as (wire, connection):
        broker.fails = True
        with pytest.raises(BrokerError, match="is down"):
            await connection.join("a")
        assert connection.rooms == set()
        assert manager.rooms == {}
        broker.error = LookupError("a mistake in the broker")
        with pytest.raises(LookupError):
            await connection.join("a")
        broker.fails = False
        await connection.join("a")
        await manager.broadcast("hello", room="a")
        await settle()
        assert wire.read == ["hello"]
    assert "the broker is down" in caplog.text


async def test_what_is_none_of_its_messages_does_not_stop_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = MemoryBroker()
    manager = ConnectionManager(broker=broker)
    async with opened(manager, rooms=["a"]) as (wire, _):
        for poison in (b"", b"x", b"\xff" * 100, b"9t" + bytes(60), b"1t" + bytes(40) + b"\xff"):
            await broker.publish("room:a", poison)
        await broker.publish("room:unknown", b"")
        await manager.broadcast("hello", room="a")
        await settle()
        assert wire.read == ["hello"]
    assert len(caplog.records) == 5
    assert "\\xff\\xff\\xff" not in caplog.text


async def test_the_lifespan_starts_and_closes_the_broker() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    async with manager.lifespan(None), opened(manager, rooms=["a"]):
        assert broker.topics == {"all", "room:a"}
    assert broker.closed == 1
    async with manager.lifespan(None):
        with pytest.raises(RuntimeError, match="belongs to one manager"):
            async with ConnectionManager(broker=broker).lifespan(None):
                pass
    await broker.publish("room:a", b"to nobody")


async def test_who_joins_while_the_last_one_is_being_taken_out_hears() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    for steps in range(12):
        async with opened(manager, rooms=["x"]) as (_, first), opened(manager) as (wire, second):
            await first.leave("x")
            other = asyncio.create_task(first.join(f"other {steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            await second.join("x")
            await other
            await settle()
            assert (await manager.broadcast("hello", room="x")).sent == 1
            await settle()
            assert wire.read == ["hello"]


async def test_a_join_holds_although_another_one_of_it_is_cancelled() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    async with opened(manager) as (wire, connection):
        first = asyncio.create_task(connection.join("a"))
        await asyncio.sleep(0)
        second = asyncio.create_task(connection.join("a"))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert connection.rooms == {"a"}
        await manager.broadcast("hello", room="a")
        await settle()
        assert wire.read == ["hello"]


async def test_after_the_end_nothing_starts_the_broker_again() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)
    async with manager.lifespan(None):
        await manager.broadcast("hello")
    assert await manager.broadcast("left the chat") == Delivery()
    assert await manager.send_to_user("left the chat", 1) == Delivery()
    with pytest.raises(BrokerError, match="has ended"):
        await manager.presence("a")
    assert broker.closed == 1
    async with manager.lifespan(None), opened(manager) as (wire, _):
        await manager.broadcast("again")
        assert wire.read == ["again"]


async def test_a_broker_that_hangs_at_the_end_is_an_error_to_who_waits_for_it() -> None:
    class Hanging(SlowBroker):
        async def subscribe(self, topics: Collection[str], /) -> None:
            if "room:a" in topics:
                await asyncio.Event().wait()
            await super().subscribe(topics)

    manager = ConnectionManager(broker=Hanging(), shutdown_timeout=0.1)
    async with opened(manager) as (_, connection):
        async with manager.lifespan(None):
            joining = asyncio.create_task(connection.join("a"))
            await settle()
        with pytest.raises(BrokerError, match="is closed"):
            await joining


def test_another_event_loop_begins_anew() -> None:
    broker = SlowBroker()
    manager = ConnectionManager(broker=broker)

    async def use() -> None:
        async with opened(manager, rooms=["a"]) as (wire, _):
            assert broker.topics == {"all", "room:a"}
            await manager.broadcast("hello", room="a")
            await settle()
            assert wire.read == ["hello"]
            # As a loop that ends in the middle of it all.
            broker.topics.clear()

    asyncio.run(use())
    asyncio.run(use())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_is_forked_from_another_is_another() -> None:
    # In a process of its own, since this one has threads.
    program = """
import asyncio, os, sys
from fastkit.websockets import ConnectionManager, MemoryBroker

class Recorder(MemoryBroker):
    async def publish(self, topic, payload, /):
        os.write(writing, payload.hex().encode() + b"\\n")

manager = ConnectionManager(broker=Recorder())
asyncio.run(manager._exchange.ensure(()))
reading, writing = os.pipe()
child = os.fork()
asyncio.run(manager.broadcast("hello"))
if child:
    os.waitpid(child, 0)
    print(os.read(reading, 10_000).decode())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    one, two = result.stdout.split()
    assert one != two, result.stderr
