"""Members in a Redis that forgets, and of processes that do not say goodbye."""

import asyncio
import signal
import sys
from typing import Any

import pytest

pytest.importorskip("redis", reason="RedisBroker needs redis")

from fastkit.websockets import _redis_presence
from fastkit.websockets._broker import BrokerError
from fastkit.websockets.redis import RedisBroker
from tests.websockets.brokers import LONG, OwnRedis, starting, until_members
from tests.websockets.wire import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_presence, "_INTERVAL", 0.1)
    monkeypatch.setattr(_redis_presence, "_LIFETIME", 1.0)


async def until_empty(redis: OwnRedis) -> None:
    async with asyncio.timeout(20):
        while await redis.client.keys("*"):  # noqa: ASYNC110  # there is nothing that tells
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("often")
async def test_members_stay_for_as_long_as_their_process(redis: OwnRedis) -> None:
    broker, other = (RedisBroker(redis.url, timeout=LONG) for _ in range(2))
    async with starting(broker), starting(other):
        await broker.add_members([("a", "ann")])
        for key in await redis.client.keys("*"):
            assert 0 < await redis.client.pttl(key) <= 1000
        await asyncio.sleep(1.5)
        assert await other.members("a") == {"ann"}
        await broker.remove_members([("a", "ann")])
        assert await other.members("a") == frozenset()
        # It can have some again, and be found.
        await asyncio.sleep(1.5)
        await broker.add_members([("a", "ann")])
        assert await other.members("a") == {"ann"}


@pytest.mark.usefixtures("often")
async def test_a_redis_that_has_forgotten_is_told_again(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        topics = [f"{number}" for number in range(450)]
        await broker.add_members([(topic, user) for topic in topics for user in ("ann", "bob")])
        await redis.client.flushall()
        # What comes in between does not hide that the others are missing.
        await broker.add_members([("0", "cid")])
        await broker.remove_members([("1", "bob")])
        await until_members(broker, "0", {"ann", "bob", "cid"})
        await until_members(broker, "1", {"ann"})
        await until_members(broker, topics[-1], {"ann", "bob"})
        for key in await redis.client.keys("*"):
            assert await redis.client.pttl(key) > 0
        (key, *_) = [key async for key in redis.client.scan_iter("fastkit:ws:members:*")]
        await redis.client.delete(key)
        async with asyncio.timeout(20):
            while not await redis.client.exists(key):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert await redis.client.keys("*") == []


@pytest.mark.usefixtures("often")
async def test_leaving_while_redis_is_down_is_not_forgotten(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        await broker.add_members([("a", "ann"), ("a", "bob"), ("b", "ann")])
        # A replica that is read only keeps what it has.
        await redis.client.replicaof("127.0.0.1", "1")
        await broker.remove_members([("a", "ann"), ("b", "ann")])
        with pytest.raises(BrokerError, match="read only"):
            await broker.add_members([("a", "cid")])
        assert await broker.members("a") == {"ann", "bob"}
        await redis.client.replicaof("NO", "ONE")
        await until_members(broker, "a", {"bob"})
        await until_members(broker, "b", set())


@pytest.mark.usefixtures("often")
async def test_a_redis_that_is_full_takes_no_members_and_says_so_once(
    redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await broker.add_members([("a", "ann")])
        await redis.client.config_set("maxmemory", "1")
        with pytest.raises(BrokerError, match="maxmemory"):
            await broker.add_members([("a", "bob"), ("b", "bob")])
        await broker.publish("a", b"")
        await ear.hears(("a", b""))
        await until(lambda: "maxmemory" in caplog.text)
        await asyncio.sleep(0.5)
        await redis.client.config_set("maxmemory", "0")
        await until_members(broker, "a", {"ann"})
        assert await broker.members("b") == frozenset()
        assert len(caplog.records) == 1
        await asyncio.sleep(0.3)
        await redis.client.config_set("maxmemory", "1")
        await until(lambda: len(caplog.records) == 2)


KILLED = """
import asyncio, sys
from fastkit.websockets import _redis_presence
from fastkit.websockets.redis import RedisBroker

_redis_presence._LIFETIME = 1.0

async def on_message(topic, payload): ...

async def main():
    broker = RedisBroker(sys.argv[1])
    await broker.start(on_message, lambda is_up: None)
    await broker.add_members([("a", "ann"), ("b", "ann")])
    print("ready", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


async def killed(redis: OwnRedis) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, redis.url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_nothing_of_a_killed_process_stays(redis: OwnRedis) -> None:
    process = await killed(redis)
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        assert await broker.members("a") == {"ann"}
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await until_members(broker, "a", set())
    await until_empty(redis)


@pytest.mark.usefixtures("often")
async def test_processes_that_are_dead_are_not_asked_for_ever(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        await broker.add_members([("a", "bob")])
        process = await killed(redis)
        assert await redis.client.zcard("fastkit:ws:processes") == 2
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        async with asyncio.timeout(20):
            while await redis.client.zcard("fastkit:ws:processes") > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await broker.members("a") == {"bob"}


async def test_how_much_a_change_costs_does_not_depend_on_how_many_there_are(
    redis: OwnRedis,
) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):

        async def cost() -> int:
            before = int((await redis.client.info("stats"))["total_net_input_bytes"])
            await broker.add_members([("a", "ann")])
            await broker.remove_members([("a", "ann")])
            return int((await redis.client.info("stats"))["total_net_input_bytes"]) - before

        await broker.add_members([("a", "first")])
        one = await cost()
        await broker.add_members([("a", f"{number:06}") for number in range(5000)])
        assert await cost() < one * 2
