"""The endpoint: one WebSocket for each page, which is in one room at a time."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, WebSocket
from pydantic import ValidationError

from examples.chat.history import KEPT, HistoryError
from examples.chat.messages import (
    INCOMING,
    NAME,
    NAME_RULE,
    AskAgain,
    Enter,
    Entered,
    Refused,
    Say,
    Sent,
    moment,
)
from examples.chat.presence import Presence
from examples.chat.settings import settings
from examples.chat.stores import broker, history
from fastkit.lifespan import combine
from fastkit.websockets import BrokerError, Connection, ConnectionManager, Statistics

# 4000 to 4999 are an application's own (RFC 6455, section 7.4.2); 1013 is in IANA's registry.
_BAD_NAME = 4000
_TRY_AGAIN_LATER = 1013

_logger = logging.getLogger("chat")

router = APIRouter()


async def ask_again() -> None:
    """The broker was down: what others said meanwhile is in the history, and has not come."""
    for websocket in manager.active_connections:
        await manager.send_personal_message(AskAgain(), websocket)


# Small enough to be seen at work.
manager = ConnectionManager(
    broker=broker,
    on_gap=ask_again,
    max_connections=1_000,
    max_connections_per_user=5,
    max_message_size=4_096,
    max_messages_per_second=settings.messages_per_second,
    max_pending_bytes=65_536,
)
presence = Presence(manager)


@asynccontextmanager
async def _history(_: FastAPI) -> AsyncGenerator[None]:
    yield
    await history.close()


lifespan = combine(_history, manager.lifespan, presence.lifespan)


@router.websocket("/ws")
async def chat(websocket: WebSocket, name: str = "") -> None:
    # Accepted at once: of a handshake that is refused a browser does not tell the page why.
    await websocket.accept()
    try:
        name = NAME.validate_python(name)
    except ValidationError:
        await websocket.close(_BAD_NAME, NAME_RULE)
        return
    async with manager.connect(websocket, user=name) as connection:
        try:
            async for message in connection.iter_json(INCOMING, on_invalid=not_understood):
                match message:
                    case Enter():
                        await enter(connection, message)
                    case Say():
                        await say(connection, name, message)
        finally:
            presence.left(connection)


def not_understood(error: ValidationError) -> Refused:
    # A `loc` begins with the kind.
    reasons = [": ".join([*map(str, item["loc"][1:]), item["msg"]]) for item in error.errors()]
    return Refused(why="; ".join(reasons))


async def enter(connection: Connection, asked: Enter) -> None:
    presence.left(connection)
    for room in connection.rooms - {asked.room}:
        await connection.leave(room)
    try:
        # In this order, so that nothing falls in between. What comes twice has the same id.
        await connection.join(asked.room)
        messages = await history.since(asked.room, asked.after)
        here = await manager.presence(asked.room)
    except (BrokerError, HistoryError) as error:
        _logger.warning("Nobody can enter a room: %s", error)
        await connection.close(_TRY_AGAIN_LATER, "Try again later.")
        return
    complete = (
        asked.after is None or len(messages) < KEPT or moment(messages[0].id) <= moment(asked.after)
    )
    await connection.send_json(
        Entered(room=asked.room, messages=messages, complete=complete, here=sorted(here))
    )
    presence.entered(connection, asked.room, here)


async def say(connection: Connection, name: str, message: Say) -> None:
    try:
        said = await history.add(message.room, name, message.text, message.ref)
        await manager.broadcast(said, room=message.room, exclude=connection)
    except (BrokerError, HistoryError) as error:
        _logger.warning("A message was not sent: %s", error)
        why = "The server cannot reach the others now."
        await connection.send_json(Refused(ref=message.ref, why=why))
    else:
        # Only now: whoever is not told this sends the message again.
        await connection.send_json(Sent(ref=message.ref, message=said))


@router.get("/statistics")
async def statistics() -> Statistics:
    """What this process holds and did."""
    return manager.statistics
