"""What is sent: encoded once, however many receive it."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.types import Message

__all__ = (
    "Delivery",
    "JsonValue",
    "Outgoing",
    "Sendable",
    "Statistics",
    "close_message",
    "encode",
    "encode_json",
)

# Not Pydantic's: in a `dict[str, int]` its values could be set to anything, so that is none of it.
JsonValue: TypeAlias = (
    BaseModel | dict[str, Any] | list[Any] | tuple[Any, ...] | str | int | float | bool | None
)
Sendable: TypeAlias = JsonValue | bytes


@dataclass(slots=True)
class Delivery:
    """What became of a message, in numbers of connections of this process."""

    sent: int = 0
    """Taken by the server at once."""
    queued: int = 0
    """Waiting, because the client does not read as fast as it is written to."""
    dropped: int = 0
    """Messages, this one or older ones, that were dropped because too much was waiting."""
    evicted: int = 0
    """Connections that were ended because too much was waiting, or were found dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a manager holds now, and did since it was made, in this process."""

    connections: int
    rooms: int
    users: int
    pending_bytes: int
    """What waits to be sent, in bytes, with some for each message."""
    messages: Delivery
    """The sum of all deliveries, and of the connections evicted between them."""
    broker_is_up: bool
    """Whether what other processes broadcast arrives."""
    gaps: int
    """How often it was down, so that something may not have arrived."""


@dataclass(slots=True, frozen=True)
class Outgoing:
    """One message for many connections, which share it."""

    message: Message
    data: bytes
    """Its payload."""
    is_text: bool

    @classmethod
    def of(cls, data: bytes, *, is_text: bool) -> "Outgoing":
        """The message with this payload.

        Raises:
            UnicodeDecodeError: It is to be text and is none.
        """
        key, value = ("text", data.decode()) if is_text else ("bytes", data)
        return cls({"type": "websocket.send", key: value}, data, is_text)


def encode(value: Sendable) -> Outgoing:
    """A str as text, bytes as they are, and anything else as JSON text.

    Raises:
        UnicodeEncodeError: A str has a lone surrogate, which no client can be sent.
        PydanticSerializationError: It has no JSON form.
    """
    if isinstance(value, str):
        return Outgoing({"type": "websocket.send", "text": value}, value.encode(), is_text=True)
    if isinstance(value, bytes):
        return Outgoing.of(value, is_text=False)
    return encode_json(value)


def encode_json(value: JsonValue) -> Outgoing:
    """Anything as JSON text, models by their aliases as in FastAPI's responses.

    Raises:
        PydanticSerializationError: It has no JSON form.
    """
    # NaN and the infinities are no JSON (RFC 8259, section 6): a browser would not read them.
    return Outgoing.of(to_json(value, inf_nan_mode="null"), is_text=True)


def close_message(code: int, reason: str) -> Message:
    """The reason is cut where a close frame ends (RFC 6455, sections 5.5 and 5.5.1)."""
    reason = reason.encode()[:123].decode(errors="ignore")
    return {"type": "websocket.close", "code": code, "reason": reason}
