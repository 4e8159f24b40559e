"""A broker that is closed or cancelled in the middle of anything."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("redis", reason="RedisBroker needs redis")

from fastkit.websockets._broker import BrokerError
from fastkit.websockets.redis import RedisBroker
from tests.db.stepping import stepping
from tests.support import RedisServer, free_port
from tests.websockets.brokers import (
    LONG,
    Ear,
    OwnRedis,
    hears_again,
    own_tasks,
    starting,
    stopped,
    until_members,
)
from tests.websockets.wire import until

pytestmark = pytest.mark.anyio

Operation = Callable[[RedisBroker], Awaitable[object]]

OPERATIONS: dict[str, Operation] = {
    "publish": lambda broker: broker.publish("a", b"x"),
    "subscribe": lambda broker: broker.subscribe(["new"]),
    "add members": lambda broker: broker.add_members([("a", "ann"), ("b", "bob")]),
    "members": lambda broker: broker.members("a"),
    "remove members": lambda broker: broker.remove_members([("a", "ann")]),
}
operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


def cancel_at(step: int, work: Awaitable[object]) -> "asyncio.Task[object]":
    """A task that is cancelled at that await of its own, if it comes to it."""

    async def run() -> object:
        return await work

    with stepping(step, lambda: task.cancel()):
        task: asyncio.Task[object] = asyncio.create_task(run())
    return task


@operations
async def test_what_is_cancelled_at_any_await_leaves_nothing(
    redis: OwnRedis, operation: Operation
) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        for step in range(50):
            await broker.publish("a", b"0")
            beside = [asyncio.create_task(broker.publish("a", b"%d" % n)) for n in (1, 2)]
            task = cancel_at(step, operation(broker))
            beside += [asyncio.create_task(broker.publish("a", b"%d" % n)) for n in (3, 4)]
            await asyncio.wait([task])
            await asyncio.gather(*beside)
            await broker.publish("a", b"5")
            await until(lambda: (("a", b"5")) in ear.heard)
            heard = [payload for payload in ear.of("a") if payload != b"x"]
            assert heard == [b"%d" % n for n in range(6)]
            assert ear.of("a").count(b"x") <= 1
            ear.heard.clear()
            # Whatever is asked next is answered, and nothing of it is left.
            await broker.subscribe(["last"])
            if not task.cancelled():
                task.result()
                break
            assert await redis.subscribers("new") == [0]
            await broker.add_members([("a", "cid")])
            await until_members(broker, "a", {"cid"})
            await until_members(broker, "b", set())
        else:
            pytest.fail("it never came to its end")
        assert ear.states == [True]
    assert await redis.client.keys("*") == []


@pytest.mark.parametrize("is_up", [True, False])
async def test_a_start_or_close_that_is_cancelled_at_any_await_leaves_nothing(
    redis: OwnRedis, is_up: bool
) -> None:
    if not is_up:
        redis.kill()
    broker = RedisBroker(redis.url, timeout=0.2 if not is_up else LONG)

    async def live() -> None:
        ear = Ear()
        try:
            with suppress(BrokerError):
                await broker.start(ear.on_message, ear.on_state)
                await broker.subscribe(["a"])
                await broker.add_members([("a", "ann")])
        finally:
            await broker.close()

    for step in range(100):
        task = cancel_at(step, live())
        await asyncio.wait([task])
        # Where it is the close that was cancelled, what it had begun to end ends by itself.
        await until(lambda: own_tasks() == [])
        if not task.cancelled():
            break
    else:
        pytest.fail("it never came to its end")
    if is_up:
        await until_alone(redis)
        # Of a close that was cancelled members may be left, which expire.
        for key in await redis.client.keys("*"):
            assert await redis.client.pttl(key) > 0


async def until_alone(redis: OwnRedis) -> None:
    """No connection but the test's own is left."""
    async with asyncio.timeout(10):
        while len(await redis.client.client_list()) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_subscribing_that_another_call_takes_over_is_not_undone_with_the_first(
    redis: OwnRedis,
) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        redis.kill()
        await until(lambda: ear.states == [True, False])
        first = asyncio.create_task(broker.subscribe(["a", "b"]))
        await asyncio.sleep(0)
        second = asyncio.create_task(broker.subscribe(["a"]))
        undone = asyncio.create_task(broker.subscribe(["c"]))
        await asyncio.sleep(0)
        await broker.unsubscribe(["c"])
        first.cancel()
        await redis.restart()
        await asyncio.wait([first, second, undone])
        assert first.cancelled()
        assert (second.exception(), undone.exception()) == (None, None)
        await hears_again(broker, ear)
        assert await redis.subscribers("a", "b", "c") == [1, 0, 0]


@operations
async def test_closing_fails_whoever_waits(redis: OwnRedis, operation: Operation) -> None:
    broker = RedisBroker(redis.url, timeout=1)
    async with starting(broker):
        await broker.subscribe(["a"])
        await broker.add_members([("a", "ann")])
        with stopped(redis.process):
            task = asyncio.ensure_future(operation(broker))
            await asyncio.sleep(0.05)
            assert not task.done()
            async with asyncio.timeout(10):
                await broker.close()
            await asyncio.wait([task], timeout=5)
            assert task.done()
            if operation is OPERATIONS["remove members"]:
                assert task.exception() is None
            else:
                assert isinstance(task.exception(), BrokerError)
        assert own_tasks() == []
        await until_alone(redis)


async def test_what_takes_two_trips_is_closed_between_them(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        await broker.add_members([("a", "ann")])
        await redis.client.client_pause(500)
        asking = asyncio.create_task(broker.members("a"))
        await asyncio.sleep(0.05)
        await broker.close()
        with pytest.raises(BrokerError, match="is closed"):
            await asking
    assert await redis.client.keys("*") == []


async def test_closing_does_not_wait_for_a_message_that_is_being_handled(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    ended: list[str] = []

    class Endless(Ear):
        async def on_message(self, topic: str, payload: bytes) -> None:
            await super().on_message(topic, payload)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append(topic)
                raise

    async with starting(broker, Endless()) as ear:
        await broker.subscribe(["a"])
        await broker.publish("a", b"")
        await until(lambda: ear.heard)
        async with asyncio.timeout(5):
            await broker.close()
    assert ended == ["a"]


@operations
async def test_what_is_not_started_says_so(operation: Operation) -> None:
    broker = RedisBroker("redis://127.0.0.1:1")
    if operation is OPERATIONS["remove members"]:
        await operation(broker)
    else:
        with pytest.raises(BrokerError, match="not started, or closed"):
            await operation(broker)


async def test_closing_while_it_waits_for_redis(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    ear = Ear()
    redis.kill()
    starting_up = asyncio.create_task(broker.start(ear.on_message, ear.on_state))
    await asyncio.sleep(0.1)
    joining = asyncio.create_task(broker.subscribe(["a"]))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await broker.close()
        await asyncio.wait([starting_up, joining])
    for task in (starting_up, joining):
        assert isinstance(task.exception(), BrokerError)
    assert own_tasks() == []
    assert ear.states == []


async def test_closing_while_a_server_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = RedisBroker(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        ear = Ear()
        with pytest.raises(BrokerError):
            await broker.start(ear.on_message, ear.on_state)
        with pytest.raises(BrokerError, match="within"):
            await broker.publish("a", b"")
        publishing = asyncio.create_task(broker.publish("a", b""))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await broker.close()
        with pytest.raises(BrokerError):
            await publishing
        assert own_tasks() == []


async def test_what_is_no_redis_is_told_of_and_tried_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while await reader.read(1000):
                writer.write(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n")
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        broker = RedisBroker(f"redis://127.0.0.1:{port}", timeout=0.3)
        ear = Ear()
        with suppress(BrokerError):
            await broker.start(ear.on_message, ear.on_state)
        await broker.close()
    assert own_tasks() == []


def test_it_lives_in_one_event_loop_after_the_other(redis_server: RedisServer) -> None:
    broker = RedisBroker(redis_server.url, prefix=f"fastkit:ws:{free_port()}:")

    async def live() -> list[Any]:
        async with starting(broker) as ear:
            await broker.subscribe(["a"])
            await broker.add_members([("a", "ann")])
            await hears_again(broker, ear)
            return [ear.states, await broker.members("a")]

    for _ in range(2):
        assert asyncio.run(live(), debug=True) == [[True], {"ann"}]
