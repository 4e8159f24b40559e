"""How what is broadcast in one process reaches the others, and who is there."""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeAlias

__all__ = ("Broker", "BrokerError", "Member", "MemoryBroker", "OnMessage", "OnState")

OnMessage: TypeAlias = Callable[[str, bytes], Awaitable[None]]
"""Takes a topic and a payload."""
OnState: TypeAlias = Callable[[bool], None]
"""Takes whether the broker is up."""
Member: TypeAlias = tuple[str, str]
"""A topic, and a user in it."""


class BrokerError(ConnectionError):
    """The broker cannot be reached, or does not answer in time."""


class Broker(Protocol):
    """Carries payloads to each process that subscribed to their topic, the publishing one too.

    All processes receive the payloads of one topic in one order, at most once each. It belongs to
    one manager. Whatever cannot be done in bounded time raises `BrokerError`.
    """

    async def start(self, on_message: OnMessage, on_state: OnState, /) -> None:
        """Begin, and return when it is up.

        `on_message` is awaited with topic and payload, for those of one topic in their order, and
        never raises. `on_state` is told True when all that this process has subscribed to arrives,
        and False when it may not. Between False and True there may be a gap in what arrives.

        Raises:
            BrokerError: It is not up yet. It goes on trying until it is closed, and may be started
                again, which waits again.
        """
        ...

    async def publish(self, topic: str, payload: bytes, /) -> None:
        """Hand the payload over. What was handed over before arrives before.

        Raises:
            BrokerError: It was not, or it is not known.
        """
        ...

    async def subscribe(self, topics: Collection[str], /) -> None:
        """Receive what is published from now on. Returns when that is certain.

        Raises:
            BrokerError: It is not certain, and these topics are not subscribed to later either.
        """
        ...

    async def unsubscribe(self, topics: Collection[str], /) -> None:
        """Receive it no more, at once or when the broker is up again."""
        ...

    async def add_members(self, members: Collection[Member], /) -> None:
        """Let all processes know that these are here, for as long as this one lives.

        Raises:
            BrokerError: It is not certain that they do, nor later.
        """
        ...

    async def remove_members(self, members: Collection[Member], /) -> None:
        """These have left this process, at once or when the broker is up again."""
        ...

    async def members(self, topic: str, /) -> frozenset[str]:
        """The users in a topic, in all processes. Those of a process that was killed may be in it
        for a minute more.

        Raises:
            BrokerError: It cannot tell.
        """
        ...

    async def close(self) -> None:
        """End, with all subscriptions and members. May be called without a start, and twice."""
        ...


class MemoryBroker:
    """A broker for one process: what is published is there at once."""

    def __init__(self) -> None:
        self._on_message: OnMessage | None = None
        self._topics: set[str] = set()
        self._members: dict[str, set[str]] = {}

    async def start(self, on_message: OnMessage, on_state: OnState, /) -> None:
        """Begin.

        Raises:
            RuntimeError: It belongs to another manager.
        """
        if self._on_message not in (None, on_message):
            raise RuntimeError("A broker belongs to one manager: make another for this one.")
        self._on_message = on_message
        on_state(True)

    async def publish(self, topic: str, payload: bytes, /) -> None:
        """Hand the payload to this process, if it has subscribed."""
        if self._on_message is not None and topic in self._topics:
            await self._on_message(topic, payload)

    async def subscribe(self, topics: Collection[str], /) -> None:
        """Receive what is published from now on."""
        self._topics.update(topics)

    async def unsubscribe(self, topics: Collection[str], /) -> None:
        """Receive it no more."""
        self._topics.difference_update(topics)

    async def add_members(self, members: Collection[Member], /) -> None:
        """These are here."""
        for topic, user in members:
            self._members.setdefault(topic, set()).add(user)

    async def remove_members(self, members: Collection[Member], /) -> None:
        """These have left."""
        for topic, user in members:
            users = self._members.get(topic, set())
            users.discard(user)
            if not users:
                self._members.pop(topic, None)

    async def members(self, topic: str, /) -> frozenset[str]:
        """The users in a topic."""
        return frozenset(self._members.get(topic, ()))

    async def close(self) -> None:
        """End."""
        self._on_message = None
        self._topics.clear()
        self._members.clear()
