"""What clients and server say to each other. `kind` tells which it is."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

# The page has the same two rules, in its `pattern` attributes.
Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, pattern=r"^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._'\-]{0,23}$"
    ),
]
NAME_RULE = (
    "A name has 1 to 24 letters, digits, spaces or . _ - ' and begins with a letter or digit."
)
Room = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9\-]{0,23}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]

MessageId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}-[0-9]{1,10}$")]
"""Milliseconds since 1970, and a number that tells those of one millisecond apart."""

Ref = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""What the client calls a message of its own, before that has an id: random, and never used for
another one."""


# From a client


class Enter(BaseModel):
    """Go to this room, or ask again for what was said in it."""

    kind: Literal["enter"]
    room: Room
    after: MessageId | None = None
    """The last message of this room that the client has."""


class Say(BaseModel):
    """Sent again with the same `ref`, it is said once."""

    kind: Literal["say"]
    room: Room
    text: Text
    ref: Ref


Incoming = Enter | Say
INCOMING: TypeAdapter[Incoming] = TypeAdapter(Annotated[Incoming, Field(discriminator="kind")])
NAME: TypeAdapter[str] = TypeAdapter(Name)


# From the server


class Said(BaseModel):
    kind: Literal["said"] = "said"
    id: MessageId
    time: datetime
    room: Room
    name: Name
    text: Text


class Entered(BaseModel):
    kind: Literal["entered"] = "entered"
    room: Room
    messages: list[Said]
    complete: bool
    """Whether these are all that came after the one that the client has."""
    here: list[Name]


class Here(BaseModel):
    """Who is in a room, which has changed."""

    kind: Literal["here"] = "here"
    room: Room
    here: list[Name]


class Sent(BaseModel):
    kind: Literal["sent"] = "sent"
    ref: Ref
    message: Said


class Refused(BaseModel):
    """A message was not sent. With a `ref` it may be sent again, later."""

    kind: Literal["refused"] = "refused"
    ref: Ref | None = None
    why: str


class AskAgain(BaseModel):
    """Messages may have been lost on their way: enter the room again."""

    kind: Literal["ask-again"] = "ask-again"


def moment(message_id: str) -> tuple[int, int]:
    """What messages are ordered by."""
    milliseconds, _, number = message_id.partition("-")
    return int(milliseconds), int(number)


def said(message_id: str, room: str, name: str, text: str) -> Said:
    time = datetime.fromtimestamp(moment(message_id)[0] / 1000, UTC)
    return Said(id=message_id, time=time, room=room, name=name, text=text)
