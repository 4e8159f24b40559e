from typing import Annotated, assert_type

from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, TypeAdapter
from starlette.applications import Starlette

from fastkit.lifespan import combine
from fastkit.websockets import (
    Broker,
    Connection,
    ConnectionManager,
    Delivery,
    MemoryBroker,
    Statistics,
)
from fastkit.websockets.redis import RedisBroker


class Say(BaseModel):
    text: str


class Go(BaseModel):
    room: str


def a_manager_fits_into_an_app() -> None:
    manager = ConnectionManager(broker=MemoryBroker(), when_slow="drop_oldest")
    FastAPI(lifespan=manager.lifespan)
    Starlette(lifespan=combine(manager.lifespan))
    assert_type(manager.active_connections, list[WebSocket])
    assert_type(manager.rooms, dict[str, int])
    assert_type(manager.statistics, Statistics)


def the_memory_broker_is_one() -> Broker:
    return MemoryBroker()


async def both_forms_give_a_connection(manager: ConnectionManager, websocket: WebSocket) -> None:
    assert_type(await manager.connect(websocket), Connection)
    async with manager.connect(websocket, user=1, rooms=["lobby"]) as connection:
        assert_type(connection, Connection)
        assert_type(connection.rooms, frozenset[str])
    manager.disconnect(websocket)
    manager.disconnect(connection)


async def messages_have_the_type_they_are_read_as(connection: Connection) -> None:
    async for text in connection.iter_text():
        assert_type(text, str)
    async for data in connection.iter_bytes():
        assert_type(data, bytes)
    async for say in connection.iter_json(Say):
        assert_type(say, Say)
    async for one in connection.iter_json(TypeAdapter[Say | Go](Annotated[Say | Go, "either"])):
        assert_type(one, Say | Go)
    async for say in connection.iter_json(
        Say, on_invalid=lambda error: {"errors": len(str(error))}
    ):
        assert_type(say, Say)


async def anything_that_has_a_form_can_be_sent(
    manager: ConnectionManager, connection: Connection, websocket: WebSocket
) -> None:
    assert_type(await manager.broadcast("text", room="lobby", exclude=connection), Delivery)
    assert_type(await manager.broadcast(b"bytes", exclude=websocket), Delivery)
    assert_type(await manager.send_to_user(Say(text="hi"), 7), Delivery)
    assert_type(await manager.send_personal_message({"a": [1, None]}, websocket), Delivery)
    numbers: dict[str, int] = {"a": 1}
    await manager.broadcast(numbers)
    await connection.send_json(numbers)
    await connection.send_json(Say(text="hi"))


async def presence_is_of_all_processes(manager: ConnectionManager) -> None:
    assert_type(await manager.presence("lobby"), frozenset[str])
    assert_type(manager.rooms, dict[str, int])


def brokers_are_met(own: Broker) -> tuple[Broker, ...]:
    ConnectionManager(broker=own)
    return MemoryBroker(), RedisBroker("redis://localhost", prefix="app:", timeout=1.0)


async def what_has_none_is_found(manager: ConnectionManager, connection: Connection) -> None:
    await manager.broadcast(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await connection.send_text(b"bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await manager.broadcast("text", "lobby")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ConnectionManager(when_slow="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
