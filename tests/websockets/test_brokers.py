"""What is true of every broker."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from fastkit.websockets import MemoryBroker
from fastkit.websockets._broker import Broker
from tests.support import RedisServer
from tests.websockets.brokers import Ear, redis_brokers, starting
from tests.websockets.wire import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "redis"])
async def network(request: pytest.FixtureRequest) -> AsyncGenerator[list[Broker]]:
    """Brokers that reach each other, as many as their kind can have."""
    if request.param == "memory":
        yield [MemoryBroker()]
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    async with redis_brokers(server.url, f"test:{uuid4().hex}:", 3) as brokers:
        yield brokers


@pytest.fixture
def broker(network: list[Broker]) -> Broker:
    return network[0]


async def test_what_is_published_arrives_where_it_is_subscribed_to(network: list[Broker]) -> None:
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(starting(broker)) for broker in network]
        for broker in network:
            await broker.subscribe(["a", "b"])
        for number, broker in enumerate(network):
            await broker.publish("a", b"%d" % number)
            await broker.publish("c", b"to nobody")
            await broker.publish("b", b"%d" % number)
        expected = [(t, b"%d" % n) for n in range(len(network)) for t in ("a", "b")]
        for ear in ears:
            await ear.hears(*expected)
            assert ear.states == [True]


async def test_all_hear_many_publishers_in_one_order_and_nothing_twice(
    network: list[Broker],
) -> None:
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(starting(broker)) for broker in network]
        for broker in network:
            await broker.subscribe(["a"])

        async def publish(broker: Broker, name: bytes) -> None:
            for number in range(100):
                await broker.publish("a", b"%s %d" % (name, number))

        sent = [(broker, b"%d" % number) for number, broker in enumerate(network * 2)]
        await asyncio.gather(*(publish(broker, name) for broker, name in sent))
        await network[0].publish("a", b"last")
        await until(lambda: all(ear.heard[-1:] == [("a", b"last")] for ear in ears))
        payloads = ears[0].of("a")
        assert [ear.of("a") for ear in ears] == [payloads] * len(ears)
        for _, name in sent:
            mine = [payload for payload in payloads if payload.startswith(name + b" ")]
            assert mine == [b"%s %d" % (name, number) for number in range(100)]
        assert len(payloads) == 100 * len(sent) + 1


async def test_publishing_at_once_keeps_the_order_of_the_calls(broker: Broker) -> None:
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        await asyncio.gather(*(broker.publish("a", b"%d" % n) for n in range(3000)))
        await ear.hears(*(("a", b"%d" % n) for n in range(3000)))


async def test_it_is_subscribed_when_that_returns(network: list[Broker]) -> None:
    async with AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(starting(broker)) for broker in network]
        for number in range(30):
            await network[0].subscribe([f"{number}"])
            await network[-1].publish(f"{number}", b"now")
        await ears[0].hears(*((f"{n}", b"now") for n in range(30)))


@pytest.mark.parametrize("same", [True, False])
async def test_twenty_subscribe_at_once_and_hear_each_message_once(
    broker: Broker, same: bool
) -> None:
    async with starting(broker) as ear:
        names = ["0" if same else f"{number}" for number in range(20)]
        await asyncio.gather(*(broker.subscribe([name, name]) for name in names))
        for name in dict.fromkeys(names):
            await broker.publish(name, b"")
        await ear.hears(*((name, b"") for name in dict.fromkeys(names)))


async def test_nothing_arrives_after_unsubscribing(broker: Broker) -> None:
    async with starting(broker) as ear:
        await broker.subscribe(["a", "b"])
        await broker.unsubscribe(["a", "never subscribed to"])
        await broker.publish("a", b"")
        await broker.publish("b", b"")
        await ear.hears(("b", b""))
        await broker.subscribe(["a"])
        await broker.publish("a", b"again")
        await ear.hears(("a", b"again"))


async def test_the_last_of_calls_at_once_counts(broker: Broker) -> None:
    async with starting(broker) as ear:
        for _ in range(10):
            await asyncio.gather(
                broker.subscribe(["in", "out"]),
                broker.unsubscribe(["in"]),
                broker.subscribe(["in"]),
                broker.unsubscribe(["out"]),
            )
            await broker.publish("out", b"")
            await broker.publish("in", b"")
            await ear.hears(("in", b""))


async def test_no_topics_and_no_members_are_nothing(broker: Broker) -> None:
    async with starting(broker) as ear:
        await broker.subscribe([])
        await broker.unsubscribe([])
        await broker.add_members([])
        await broker.remove_members([])
        await broker.publish("a", b"")
        assert await broker.members("a") == frozenset()
        assert ear.heard == []


PAYLOADS = [b"", bytes(range(256)), b"\r\n$-1\r\n", bytes(1_048_576), b'"json"']


async def test_payloads_are_any_bytes(broker: Broker) -> None:
    async with starting(broker) as ear:
        await broker.subscribe(["a"])
        for payload in PAYLOADS:
            await broker.publish("a", payload)
        await ear.hears(*(("a", payload) for payload in PAYLOADS))


NAMES = [
    "",
    " ",
    "a:b",
    ":b",
    "a*[b]?",
    "a\r\nb",
    "\0",
    "message",
    "ünïcödé \N{GRINNING FACE}",
    "half a \ud83d",
    "x" * 100_000,
]


async def test_topics_and_users_are_any_text(broker: Broker) -> None:
    async with starting(broker) as ear:
        await broker.subscribe(NAMES)
        for name in NAMES:
            await broker.publish(name, name.encode("utf-8", "surrogatepass"))
            await broker.add_members([(name, name)])
        await ear.hears(*((name, name.encode("utf-8", "surrogatepass")) for name in NAMES))
        for name in NAMES:
            assert await broker.members(name) == {name}


async def test_members_of_all_processes_are_there(network: list[Broker]) -> None:
    first, last = network[0], network[-1]
    async with AsyncExitStack() as stack:
        for broker in network:
            await stack.enter_async_context(starting(broker))
        await first.add_members([("a", "ann"), ("a", "bob"), ("b", "ann")])
        await last.add_members([("a", "cid"), ("a", "bob")])
        for broker in network:
            assert await broker.members("a") == {"ann", "bob", "cid"}
            assert await broker.members("b") == {"ann"}
        await first.remove_members([("a", "ann"), ("b", "ann"), ("c", "never there")])
        await last.remove_members([("a", "cid")])
        for broker in network:
            assert await broker.members("a") == {"bob"}
            assert await broker.members("b") == frozenset()
        if first is not last:
            await last.close()
            assert await first.members("a") == {"bob"}
            await first.remove_members([("a", "bob")])
            assert await first.members("a") == frozenset()


async def test_it_can_be_closed_at_any_time_and_started_again(broker: Broker) -> None:
    await broker.close()
    for _ in range(2):
        async with starting(broker) as ear:
            await broker.publish("a", b"to nobody")
            assert await broker.members("a") == frozenset()
            await broker.subscribe(["a"])
            await broker.add_members([("a", "ann")])
            await broker.publish("a", b"")
            await ear.hears(("a", b""))
        await broker.close()
        await broker.unsubscribe(["a"])
        await broker.remove_members([("a", "ann")])
        await broker.close()


async def test_it_belongs_to_one_manager_until_it_is_closed(broker: Broker) -> None:
    other = Ear()
    async with starting(broker) as ear:
        with pytest.raises(RuntimeError, match="belongs to one manager"):
            await broker.start(other.on_message, other.on_state)
        await broker.start(ear.on_message, ear.on_state)
        assert other.states == []
    async with starting(broker, other):
        assert other.states == [True]
