"""A Redis that fails in each way it can, under a broker."""

import asyncio
import logging
import time

import pytest

pytest.importorskip("redis", reason="RedisBroker needs redis")

from fastkit.websockets._broker import BrokerError
from fastkit.websockets.redis import RedisBroker
from tests.support import RedisServer
from tests.websockets.brokers import (
    LONG,
    Ear,
    OwnRedis,
    client_of,
    hears_again,
    starting,
    stopped,
    until_members,
)
from tests.websockets.wire import until

pytestmark = pytest.mark.anyio


def told(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [each.levelno for each in caplog.records if each.name == "fastkit.websockets"]


async def test_redis_is_killed_and_started_again(
    redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a", "b"])
        await broker.add_members([("a", "ann")])
        redis.kill()
        await until(lambda: ear.states == [True, False])
        for _ in range(3):
            with pytest.raises(BrokerError, match="connecting"):
                await broker.publish("a", b"lost")
            with pytest.raises(BrokerError):
                await broker.members("a")
        await broker.unsubscribe(["b"])
        joining = asyncio.create_task(broker.subscribe(["c"]))
        await asyncio.sleep(0.3)  # some tries, none of which is told of
        await redis.restart()
        await joining
        await hears_again(broker, ear)
        await hears_again(broker, ear, "c")
        assert await redis.subscribers("a", "b", "c") == [1, 0, 1]
        assert ear.states == [True, False, True]
        await until_members(broker, "a", {"ann"})
    assert told(caplog) == [logging.WARNING, logging.INFO]


async def test_it_is_down_at_the_start(redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    redis.kill()
    broker = RedisBroker(redis.url, timeout=0.3)
    ear = Ear()
    try:
        for _ in range(2):
            with pytest.raises(BrokerError, match="connecting"):
                await broker.start(ear.on_message, ear.on_state)
        with pytest.raises(BrokerError, match="connecting"):
            await broker.subscribe(["a"])
        assert ear.states == []
        await redis.restart()
        await until(lambda: ear.states == [True])
        await broker.start(ear.on_message, ear.on_state)
        assert await redis.subscribers("a") == [0]
        await broker.subscribe(["a"])
        await hears_again(broker, ear)
    finally:
        await broker.close()
    assert told(caplog) == [logging.WARNING]


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_redis_kills_a_connection(redis: OwnRedis, kind: str) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        topics = [f"{number}" for number in range(2500)]
        await broker.subscribe(["a", *topics])
        await broker.publish("a", b"first")
        await ear.hears(("a", b"first"))
        # One that publishes knows at once that it was killed, and what comes next is not lost.
        await redis.client.client_kill_filter(_type=kind, skipme=True)
        await until(lambda: ear.states == ([True, False] if kind == "pubsub" else [True]))
        await asyncio.sleep(0.05)
        await hears_again(broker, ear)
        assert len(await redis.client.pubsub_channels("*")) == 2501
        await broker.unsubscribe(topics)
        await broker.subscribe(["last"])
        assert await redis.client.pubsub_channels("*") != []
        assert len(await redis.client.pubsub_channels("*")) == 2


async def test_connections_that_are_killed_again_and_again_end_as_was_asked_last(
    redis: OwnRedis,
) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)

    async def kill() -> None:
        while ear.states.count(False) < 5:
            await asyncio.sleep(0.03)
            await redis.client.client_kill_filter(_type="pubsub")

    async with starting(broker) as ear:
        killing = asyncio.create_task(kill())
        number = 0
        while not killing.done():
            number += 1
            await broker.subscribe(["a", f"in {number}", f"out {number}"])
            await broker.unsubscribe([f"out {number}"])
            await asyncio.gather(
                broker.subscribe([f"twice {number}"]),
                broker.unsubscribe([f"twice {number}"]),
                broker.subscribe([f"twice {number}"]),
            )
        await killing
        await broker.subscribe(["last"])  # which the last that was killed does not answer
        await hears_again(broker, ear)
        names = {"a", "last", *(f"{w} {n + 1}" for n in range(number) for w in ("in", "twice"))}
        found = await redis.client.pubsub_channels("*")
        assert {name.decode().removeprefix("fastkit:ws:") for name in found} == names
        assert all(one is not other for one, other in zip(ear.states, ear.states[1:], strict=False))


async def test_a_redis_that_hangs_is_noticed(
    redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(redis.url, timeout=0.5)
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await broker.publish("a", b"")
        with stopped(redis.process):
            publishing = [asyncio.create_task(broker.publish("a", b"%d" % n)) for n in range(5)]
            large = asyncio.create_task(broker.publish("a", bytes(20_000_000)))
            done, _ = await asyncio.wait([*publishing, large])
            assert all(isinstance(task.exception(), BrokerError) for task in done)
            await until(lambda: ear.states == [True, False])
            with pytest.raises(BrokerError, match="within"):
                await broker.subscribe(["b"])
            await broker.unsubscribe(["b"])
        await hears_again(broker, ear)
        assert await redis.subscribers("b") == [0]
    assert "within 0.5 s" in caplog.text


async def test_silence_alone_is_no_loss(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=0.4)
    async with starting(broker) as ear:
        await asyncio.sleep(1)
        await broker.subscribe(["a"])
        await broker.publish("a", b"")
        before = await redis.client.client_list()
        await asyncio.sleep(1)
        assert ear.states == [True]
        assert {each["id"] for each in before} == {
            each["id"] for each in await redis.client.client_list()
        }
        # Nor is a process that itself was held up.
        time.sleep(1)  # noqa: ASYNC251
        await hears_again(broker, ear)
        assert ear.states == [True]


async def test_a_paused_redis_takes_no_message_twice(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=0.5)
    async with starting(broker) as ear, client_of(redis.url) as watching:
        await broker.publish("a", b"")
        pubsub = watching.pubsub()
        await pubsub.subscribe("fastkit:ws:a")
        await redis.client.client_pause(1500)
        results = await asyncio.gather(
            *(broker.publish("a", b"%d" % n) for n in range(10)), return_exceptions=True
        )
        assert all(isinstance(each, BrokerError) for each in results)
        await until(lambda: ear.states[-1:] == [True] and len(ear.states) > 1, seconds=20)
        await broker.publish("a", b"last")
        heard: list[bytes] = []
        while heard[-1:] != [b"last"]:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None:
                heard.append(message["data"])
        assert len(heard) == len(set(heard))
        await pubsub.aclose()


async def test_messages_in_flight_when_the_connection_is_lost_fail_and_are_not_repeated(
    redis: OwnRedis,
) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await broker.publish("a", b"")
        await redis.client.client_pause(1000, all=False)  # writes, of which this is one
        publishing = [asyncio.create_task(broker.publish("a", b"%d" % n)) for n in range(20)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in publishing)
        await redis.client.client_kill_filter(_type="normal", skipme=True)
        done, _ = await asyncio.wait(publishing)
        assert all(isinstance(task.exception(), BrokerError) for task in done)
        await broker.publish("a", b"last")
        await ear.hears(("a", b""), ("a", b"last"))
        assert ear.states == [True]


async def test_a_process_that_does_not_read_is_cut_off_and_comes_back(redis: OwnRedis) -> None:
    await redis.client.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
    broker = RedisBroker(redis.url, timeout=1)
    go_on = asyncio.Event()

    class Slow(Ear):
        async def on_message(self, topic: str, payload: bytes) -> None:
            await super().on_message(topic, payload)
            await go_on.wait()

    async with starting(broker, Slow()) as ear:
        await broker.subscribe(["a"])
        receivers = 1
        async with asyncio.timeout(30):
            while receivers:
                receivers = await redis.client.publish("fastkit:ws:a", bytes(10_000))
        # Longer than it may be silent: it is this process that is slow.
        await asyncio.sleep(1.5)
        assert ear.states == [True]
        assert len(ear.heard) == 1
        go_on.set()
        await until(lambda: ear.states == [True, False, True])
        await hears_again(broker, ear)


async def test_one_message_is_handled_after_the_other(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url)
    running = 0

    class Careful(Ear):
        async def on_message(self, topic: str, payload: bytes) -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            await super().on_message(topic, payload)
            running -= 1

    async with starting(broker, Careful()) as ear:
        await broker.subscribe(["a"])
        await asyncio.gather(*(broker.publish("a", b"%d" % n) for n in range(50)))
        await ear.hears(*(("a", b"%d" % n) for n in range(50)))


async def test_a_message_that_cannot_be_handled_stops_nothing(
    redis: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(redis.url)

    class Poisoned(Ear):
        async def on_message(self, topic: str, payload: bytes) -> None:
            if payload == b"poison":
                raise ValueError("no message")
            if payload == b"cancelled":
                raise asyncio.CancelledError
            await super().on_message(topic, payload)

        def on_state(self, is_up: bool) -> None:
            super().on_state(is_up)
            raise RuntimeError("a manager's mistake")

    async with starting(broker, Poisoned()) as ear:
        await broker.subscribe(["a"])
        for payload in (b"poison", b"1", b"cancelled", b"2"):
            await broker.publish("a", payload)
        await ear.hears(("a", b"1"), ("a", b"2"))
        assert ear.states == [True]
    for text in ("no message", "CancelledError", "a manager's mistake"):
        assert text in caplog.text


async def test_what_redis_forbids_is_an_error_in_words_and_stops_nothing_else(
    redis: OwnRedis,
) -> None:
    allowed = ["on", ">pw", "+@all", "~*", "resetchannels", "&fastkit:ws:a", "&fastkit:ws:b"]
    await redis.client.execute_command("ACL", "SETUSER", "app", *allowed)
    broker = RedisBroker(redis.url.replace("//", "//app:pw@"), timeout=1)
    async with starting(broker) as ear:
        await broker.subscribe(["a", "b"])
        results = await asyncio.gather(
            broker.subscribe(["c", "d"]),
            broker.publish("c", b""),
            broker.subscribe(["a"]),
            broker.publish("a", b"1"),
            return_exceptions=True,
        )
        for refused in (results[0], results[1]):
            assert isinstance(refused, BrokerError)
            assert "Redis refuses" in str(refused)
            assert "permissions" in str(refused)
        assert (results[2], results[3]) == (None, None)
        await ear.hears(("a", b"1"))
        assert ear.states == [True]
        # A right that is taken away is a loss, and told of until it is given back.
        await redis.client.execute_command(
            "ACL", "SETUSER", "app", "resetchannels", "&fastkit:ws:a"
        )
        await until(lambda: ear.states == [True, False])
        with pytest.raises(BrokerError, match="permissions"):
            await broker.subscribe(["a"])
        assert ear.states == [True, False]
        await redis.client.execute_command("ACL", "SETUSER", "app", "&fastkit:ws:b")
        await hears_again(broker, ear, "b")


async def test_what_was_on_its_way_does_not_arrive_after_unsubscribing(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a", "b"])
        from redis import Redis

        # What redis leaves untyped are options that are not used here.
        with Redis.from_url(redis.url) as client:  # pyright: ignore[reportUnknownMemberType]
            client.publish("fastkit:ws:a", b"")  # pyright: ignore[reportUnknownMemberType]
        await broker.unsubscribe(["a"])
        await hears_again(broker, ear, "b")


async def test_publishers_at_once_share_their_trips(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        await broker.publish("a", b"")
        before = await redis.reads()
        for _ in range(50):
            await broker.publish("a", bytes(100))
        one_by_one = await redis.reads() - before
        await asyncio.gather(*(broker.publish("a", bytes(100)) for _ in range(50)))
        at_once = await redis.reads() - before - one_by_one
        assert one_by_one >= 50
        assert at_once <= 5


async def test_twenty_that_subscribe_at_once_do_it_in_two_trips_at_most(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker):
        before = await redis.reads()
        await asyncio.gather(*(broker.subscribe([f"{n}"]) for n in range(20)))
        assert await redis.reads() - before <= 4


async def test_much_at_once_goes_out_in_parts(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        payloads = [b"%d" % n + bytes(300_000) for n in range(30)]
        await asyncio.gather(*(broker.publish("a", payload) for payload in payloads))
        await ear.hears(*(("a", payload) for payload in payloads))
        # Redis would close a connection that sends so much in one piece.
        await redis.client.config_set("client-query-buffer-limit", 4_000_000)
        await asyncio.gather(*(broker.publish("a", payload) for payload in payloads))
        await ear.hears(*(("a", payload) for payload in payloads))


async def test_the_shared_redis_too(redis_server: RedisServer) -> None:
    """Where FASTKIT_TEST_REDIS says."""
    broker = RedisBroker(redis_server.url, prefix="fastkit:ws:test:")
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await hears_again(broker, ear)


async def test_a_redis_that_is_full_is_up_all_the_same(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await broker.add_members([("a", "ann")])
        await redis.client.config_set("maxmemory", 1)
        await redis.client.client_kill_filter(_type="pubsub")
        await until(lambda: ear.states == [True, False, True], seconds=20)
        await hears_again(broker, ear)
        with pytest.raises(BrokerError, match="maxmemory"):
            await broker.add_members([("a", "bob")])
        await redis.client.config_set("maxmemory", 0)
        await broker.add_members([("a", "bob")])
        await until_members(broker, "a", {"ann", "bob"})


async def test_members_that_cannot_be_put_back_are_put_back_later(redis: OwnRedis) -> None:
    broker = RedisBroker(redis.url, timeout=LONG)

    async def lose(permission: str) -> None:
        await redis.client.execute_command("ACL", "SETUSER", "default", permission)
        await redis.client.delete(*await redis.client.keys("*members*"), "none")
        await redis.client.client_kill_filter(_type="pubsub")

    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await broker.add_members([("a", "ann")])
        await lose("-multi")
        await until(lambda: ear.states == [True, False, True], seconds=20)
        await lose("+multi")
        await until(lambda: ear.states == [True, False, True, False, True], seconds=20)
        assert await broker.members("a") == {"ann"}
