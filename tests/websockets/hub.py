"""Several processes in one: brokers that share a hub, and go down when a test says so."""

import asyncio
from collections.abc import Collection

from fastkit.websockets import BrokerError
from fastkit.websockets._broker import Member, OnMessage, OnState

__all__ = ("Hub", "LinkedBroker")


class Hub:
    """What all brokers of a test are linked to."""

    def __init__(self) -> None:
        self.brokers: list[LinkedBroker] = []

    def broker(self) -> "LinkedBroker":
        self.brokers.append(made := LinkedBroker(self))
        return made


class LinkedBroker:
    """What one process has of a hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.is_up = True
        self.refuses = False
        """Although it is up."""
        self.topics: set[str] = set()
        self.present: set[Member] = set()
        self.held: asyncio.Event | None = None
        """Brings nothing before it is set."""
        self.starts = 0
        self._on_message: OnMessage | None = None
        self._on_state: OnState | None = None
        self._bringing = asyncio.Lock()

    async def start(self, on_message: OnMessage, on_state: OnState, /) -> None:
        self.starts += 1
        self._on_message, self._on_state = on_message, on_state
        await self._check()
        on_state(True)

    def go_down(self) -> None:
        self.is_up = False
        assert self._on_state is not None
        self._on_state(False)

    def come_up(self) -> None:
        self.is_up = True
        assert self._on_state is not None
        self._on_state(True)

    async def publish(self, topic: str, payload: bytes, /) -> None:
        await self._check()
        for broker in self.hub.brokers:
            if broker.is_up and topic in broker.topics:
                broker.bring(topic, payload)

    def bring(self, topic: str, payload: bytes) -> None:
        asyncio.get_running_loop().create_task(self._bring(topic, payload))

    async def _bring(self, topic: str, payload: bytes) -> None:
        async with self._bringing:
            if self.held is not None:
                await self.held.wait()
            assert self._on_message is not None
            if topic in self.topics:
                await self._on_message(topic, payload)

    async def subscribe(self, topics: Collection[str], /) -> None:
        await self._check()
        self.topics.update(topics)

    async def unsubscribe(self, topics: Collection[str], /) -> None:
        await asyncio.sleep(0)
        self.topics.difference_update(topics)

    async def add_members(self, members: Collection[Member], /) -> None:
        await self._check()
        self.present.update(members)

    async def remove_members(self, members: Collection[Member], /) -> None:
        await asyncio.sleep(0)
        self.present.difference_update(members)

    async def members(self, topic: str, /) -> frozenset[str]:
        await self._check()
        present = set[Member]().union(*(broker.present for broker in self.hub.brokers))
        return frozenset(user for name, user in present if name == topic)

    async def close(self) -> None:
        self.topics.clear()
        self.present.clear()

    async def _check(self) -> None:
        await asyncio.sleep(0)
        if self.refuses or not self.is_up:
            raise BrokerError("the hub is away")
