"""Several managers that a broker links, as in several processes; and when it is down."""

import asyncio

import pytest
from starlette.websockets import WebSocket

from fastkit.websockets import BrokerError, ConnectionManager, Delivery
from tests.websockets.hub import Hub
from tests.websockets.wire import Wire, app_of, make_app, opened, settle, until

pytestmark = pytest.mark.anyio


async def test_a_broadcast_reaches_a_room_in_all_processes_but_one_connection() -> None:
    hub = Hub()
    here, there = (ConnectionManager(broker=hub.broker()) for _ in range(2))
    async with (
        opened(here, rooms=["a"]) as (one, sender),
        opened(here, rooms=["a"]) as (two, _),
        opened(there, rooms=["a"]) as (three, _),
        opened(there, rooms=["b"]) as (four, _),
    ):
        delivery = await here.broadcast("hello", room="a", exclude=sender)
        # Of this process, and known when it returns.
        assert delivery == Delivery(sent=1)
        await there.broadcast({"to": "all"})
        await settle()
        assert one.read == ['{"to":"all"}']
        assert two.read == three.read == ["hello", '{"to":"all"}']
        assert four.read == ['{"to":"all"}']
        assert await there.broadcast("nobody is here", room="a") == Delivery(sent=1)


async def test_all_connections_of_a_user_receive_wherever_they_are() -> None:
    hub = Hub()
    here, there = (ConnectionManager(broker=hub.broker()) for _ in range(2))
    async with (
        opened(here, user=7) as (one, _),
        opened(there, user="7") as (two, connection),
        opened(there, user=8) as (three, _),
    ):
        await here.send_to_user("hello", 7)
        await there.send_to_user("not to the one who asks", 7, exclude=connection)
        await settle()
        assert one.read == ["hello", "not to the one who asks"]
        assert two.read == ["hello"]
        assert three.read == []


async def test_the_numbers_are_those_of_a_large_room_too() -> None:
    hub = Hub()
    manager = ConnectionManager(broker=hub.broker(), max_connections_per_address=1000)
    app = make_app(manager, rooms=["a"])
    wires = [Wire() for _ in range(600)]
    tasks = [wire.run(app) for wire in wires]
    await until(lambda: manager.rooms.get("a") == 600)
    delivery = await manager.broadcast("hello", room="a")
    assert delivery.sent + delivery.queued == 600
    for wire in wires:
        wire.leave()
    await asyncio.gather(*tasks)


async def test_those_of_this_process_are_here_whatever_the_broker_forgets() -> None:
    manager = ConnectionManager(broker=(broker := Hub().broker()))
    async with opened(manager, user=1, rooms=["a"]):
        broker.present.clear()
        assert await manager.presence("a") == {"1"}


async def test_two_publishers_one_order() -> None:
    hub = Hub()
    managers = [ConnectionManager(broker=hub.broker()) for _ in range(2)]
    async with (
        opened(managers[0], rooms=["a"]) as (one, _),
        opened(managers[1], rooms=["a"]) as (two, _),
    ):
        await asyncio.gather(*(managers[i % 2].broadcast(f"{i}", room="a") for i in range(100)))
        await settle()
        assert sorted(map(int, one.read)) == list(range(100))
        assert one.read == two.read


async def test_who_is_in_a_room_is_known_everywhere() -> None:
    hub = Hub()
    here, there = (ConnectionManager(broker=hub.broker()) for _ in range(2))
    async with opened(here, user=1, rooms=["a"]) as (_, connection):
        async with (
            opened(here, user=1, rooms=["a"]),
            opened(there, user=2, rooms=["a"]),
            opened(there, rooms=["a"]),
            opened(there, user=3, rooms=["b"]),
        ):
            for manager in (here, there):
                assert await manager.presence("a") == {"1", "2"}
                assert await manager.presence("b") == {"3"}
                assert await manager.presence("c") == frozenset()
        # One of the two connections of a user is enough.
        assert await here.presence("a") == {"1"}
        await settle()
        assert await there.presence("a") == {"1"}
        await connection.leave("a")
        assert await here.presence("a") == frozenset()
        await connection.join("b")
        assert await there.presence("b") == {"1"}
        await settle()
        assert await there.presence("a") == frozenset()
    await settle()
    assert [broker.present for broker in hub.brokers] == [set(), set()]
    assert [broker.topics for broker in hub.brokers] == [set(), set()]


async def test_presence_in_one_process_needs_no_broker() -> None:
    manager = ConnectionManager()
    async with opened(manager, user=1, rooms=["a"]), opened(manager, user=2, rooms=["a"]):
        assert await manager.presence("a") == {"1", "2"}
    assert await manager.presence("a") == frozenset()


async def test_while_the_broker_is_down_it_is_said_to_whom_it_concerns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()
    manager = ConnectionManager(broker=(broker := hub.broker()))
    async with manager.lifespan(None):
        await manager.ping()
        async with opened(manager, user=1, rooms=["a"]) as (wire, connection):
            broker.go_down()
            assert not manager.statistics.broker_is_up
            with pytest.raises(BrokerError, match="is down"):
                await manager.ping()
            with pytest.raises(BrokerError):
                await manager.broadcast("hello", room="a")
            with pytest.raises(BrokerError):
                await manager.presence("a")
            with pytest.raises(BrokerError):
                await connection.join("b")
            # Its own client is not farther away than before.
            await connection.send_text("still here")
            assert wire.read == ["still here"]
            assert connection.rooms == {"a"}
            refused = Wire()
            await refused.run(make_app(manager, user="late", rooms=["a"]))
            assert refused.close == (1013, "Try again later.")
            broker.come_up()
            await manager.ping()
            await connection.join("b")
            assert await manager.broadcast("hello", room="b") == Delivery(sent=1)
            assert (manager.statistics.broker_is_up, manager.statistics.gaps) == (True, 1)
    assert all(record.levelname == "WARNING" for record in caplog.records)


async def test_the_tutorials_form_is_refused_in_words_too() -> None:
    hub = Hub()
    manager = ConnectionManager(broker=(broker := hub.broker()))

    async def endpoint(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        pytest.fail("it is not connected")

    async with manager.lifespan(None):
        broker.go_down()
        wire = Wire()
        await wire.run(app_of(endpoint))
        assert wire.close == (1013, "Try again later.")


async def test_a_gap_is_told_when_the_broker_is_up_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()
    told: list[int] = []

    async def on_gap() -> None:
        for websocket in manager.active_connections:
            await manager.send_personal_message("ask again", websocket)
        told.append(manager.statistics.gaps)
        if len(told) == 2:
            raise LookupError("the app's own")

    manager = ConnectionManager(broker=(broker := hub.broker()), on_gap=on_gap)
    async with opened(manager, rooms=["a"]) as (wire, _):
        assert told == []
        for _ in range(3):
            broker.go_down()
            await settle()
            broker.come_up()
            await settle()
        assert told == [1, 2, 3]
        assert wire.read == ["ask again"] * 3
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_what_is_told_of_a_gap_ends_with_the_manager() -> None:
    ends: list[str] = []

    async def on_gap() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("ended")

    manager = ConnectionManager(broker=(broker := Hub().broker()), on_gap=on_gap)
    async with manager.lifespan(None):
        broker.go_down()
        broker.come_up()
        await settle()
    await settle()
    assert ends == ["ended"]


async def test_alone_is_only_who_asks_for_it_and_then_nothing_waits() -> None:
    hub = Hub()
    here = ConnectionManager(broker=(broker := hub.broker()), local_when_down=True)
    there = ConnectionManager(broker=hub.broker())
    async with (
        opened(here, user=1, rooms=["a"]) as (one, _),
        opened(there, rooms=["a"]) as (two, _),
    ):
        broker.go_down()
        async with opened(here, user=2, rooms=["a", "b"]) as (three, connection):
            assert await here.broadcast("alone", room="a") == Delivery(sent=2)
            assert await here.broadcast("to nobody", room="z") == Delivery()
            assert await here.presence("a") == {"1", "2"}
            await connection.join("c")
            await connection.leave("b")
            await there.broadcast("missed", room="a")
            broker.come_up()
            await until(lambda: broker.topics >= {"room:a", "room:c"})
            await until(lambda: ("room:c", "2") in broker.present)
            assert "room:b" not in broker.topics
            await there.broadcast("together", room="a")
            await settle()
            assert one.read == three.read == ["alone", "together"]
            assert two.read == ["missed", "together"]
    await settle()
    assert broker.topics == set()


async def test_alone_from_the_start_it_joins_the_others_later() -> None:
    hub = Hub()
    gaps: list[int] = []

    async def on_gap() -> None:
        gaps.append(1)

    broker = hub.broker()
    broker.is_up = False
    manager = ConnectionManager(broker=broker, local_when_down=True, on_gap=on_gap)
    async with manager.lifespan(None), opened(manager, rooms=["a"]) as (wire, _):
        assert await manager.broadcast("alone", room="a") == Delivery(sent=1)
        assert broker.starts == 1
        broker.come_up()
        await until(lambda: "room:a" in broker.topics)
        assert await manager.broadcast("again", room="a") == Delivery(sent=1)
        assert wire.read == ["alone", "again"]
        assert gaps == [1]


async def test_alone_too_if_the_broker_is_up_and_refuses_and_then_it_is_tried_again() -> None:
    hub = Hub()
    manager = ConnectionManager(broker=(broker := hub.broker()), local_when_down=True)
    async with opened(manager, user=1, rooms=["a"]) as (wire, connection):
        broker.refuses = True
        await connection.join("b")
        assert await manager.broadcast("alone", room="b") == Delivery(sent=1)
        assert await manager.presence("b") == {"1"}
        assert await manager.presence("c") == frozenset()
        broker.refuses = False
        await until(lambda: "room:b" in broker.topics)
        assert await manager.broadcast("together", room="b") == Delivery(sent=1)
        assert wire.read == ["alone", "together"]


async def test_otherwise_what_it_refuses_is_an_error_and_nothing_more() -> None:
    manager = ConnectionManager(broker=(broker := Hub().broker()))
    async with opened(manager, user=1, rooms=["a"]) as (wire, connection):
        broker.refuses = True
        for refused in (
            connection.join("b"),
            manager.broadcast("lost", room="a"),
            manager.presence("a"),
        ):
            with pytest.raises(BrokerError, match="the hub is away"):
                await refused
        broker.refuses = False
        assert await manager.broadcast("together", room="a") == Delivery(sent=1)
        assert wire.read == ["together"]
        assert manager.statistics.gaps == 0


async def test_without_that_an_app_does_not_start_while_the_broker_is_down() -> None:
    broker = Hub().broker()
    broker.is_up = False
    manager = ConnectionManager(broker=broker)
    with pytest.raises(BrokerError, match="the hub is away"):
        async with manager.lifespan(None):
            pytest.fail("it has started")
    broker.is_up = True
    async with manager.lifespan(None):
        await manager.ping()


@pytest.mark.parametrize("local_when_down", [False, True])
async def test_a_message_that_the_broker_lost_on_its_way_back_is_not_waited_for(
    local_when_down: bool,
) -> None:
    hub = Hub()
    manager = ConnectionManager(broker=(broker := hub.broker()), local_when_down=local_when_down)
    async with opened(manager, rooms=["a"]) as (wire, _):
        broker.held = asyncio.Event()
        broadcast = asyncio.create_task(manager.broadcast("hello", room="a"))
        await settle()
        assert not broadcast.done()
        broker.go_down()
        assert await broadcast == Delivery(sent=int(local_when_down))
        broker.come_up()
        # It comes after all: whoever has it already does not get it twice.
        broker.held.set()
        await settle()
        assert wire.read == ["hello"]


async def test_a_broadcast_does_not_wait_for_a_room_that_all_have_left() -> None:
    hub = Hub()
    manager = ConnectionManager(broker=(broker := hub.broker()))
    async with opened(manager, rooms=["a"]) as (_, connection):
        broker.held = asyncio.Event()
        broadcast = asyncio.create_task(manager.broadcast("hello", room="a"))
        await connection.join("b")
        await connection.leave("b")
        await settle()
        assert not broadcast.done()
        await connection.leave("a")
        async with asyncio.timeout(1):
            assert await broadcast == Delivery()
        broker.held.set()


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancelled_broadcast_arrives_everywhere_once_or_nowhere(steps: int) -> None:
    hub = Hub()
    managers = [ConnectionManager(broker=hub.broker()) for _ in range(2)]
    async with (
        opened(managers[0], rooms=["a"]) as (one, _),
        opened(managers[1], rooms=["a"]) as (two, _),
    ):
        broadcast = asyncio.create_task(managers[0].broadcast("hello", room="a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        broadcast.cancel()
        await asyncio.wait([broadcast])
        await settle()
        assert one.read == two.read
        assert len(one.read) <= 1
        assert await managers[0].broadcast("next", room="a") == Delivery(sent=1)


async def test_an_end_does_not_wait_for_a_broker_that_brings_nothing() -> None:
    hub = Hub()
    manager = ConnectionManager(broker=(broker := hub.broker()), shutdown_timeout=0.1)
    async with opened(manager, rooms=["a"]):
        broker.held = asyncio.Event()
        async with manager.lifespan(None):
            broadcast = asyncio.create_task(manager.broadcast("hello", room="a"))
            await settle()
        assert await broadcast == Delivery()
        broker.held.set()
