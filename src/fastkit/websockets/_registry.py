"""Who is connected to this process, and in what."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from starlette.websockets import WebSocket

from fastkit.websockets._messages import Delivery, Outgoing
from fastkit.websockets._outbox import fan_out
from fastkit.websockets._peer import Peer
from fastkit.websockets._subscriptions import Interest

__all__ = ("EVERYBODY", "ROOM", "USER", "Capacity", "Registry", "interests_of")

# Each topic is a group of connections: all, those of a room, those of a user.
EVERYBODY = "all"
ROOM = "room:"
USER = "user:"

# Sending to one costs some microseconds: after so many, others have their turn.
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many connections there may be."""

    in_all: int
    per_user: int
    per_address: int


def interests_of(peer: Peer, topic: str) -> list[Interest]:
    """What a process needs of its broker for this one in this topic."""
    interests: list[Interest] = [(topic, None)]
    if peer.user is not None and topic.startswith(ROOM):
        interests.append((topic, peer.user))
    return interests


@dataclass(slots=True)
class _Group:
    """The connections of one topic, and the order of what they are sent."""

    peers: dict[Peer, None] = field(default_factory=dict[Peer, None])
    users: Counter[str] = field(default_factory=Counter[str])
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Registry:
    """Connections by topic. Empty topics are gone; everything here is synchronous."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._groups: dict[str, _Group] = {}
        self._peers: dict[WebSocket, Peer] = {}
        self._admitted = 0
        self._users: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()

    def admit(self, user: str | None, address: str | None) -> bool:
        """Count a connection to come, if there is room for it."""
        if (
            self._admitted >= self._capacity.in_all
            or (user is not None and self._users[user] >= self._capacity.per_user)
            or (address is not None and self._addresses[address] >= self._capacity.per_address)
        ):
            return False
        self._count(user, address, 1)
        return True

    def withdraw(self, user: str | None, address: str | None) -> None:
        """Count one of the admitted less."""
        self._count(user, address, -1)

    def add(self, peer: Peer) -> None:
        """Add an admitted connection."""
        self._peers[peer.websocket] = peer

    def remove(self, peer: Peer) -> list[Interest]:
        """Take it out of everything, and tell what nobody needs any more. May be called twice."""
        if self.find(peer.websocket) is not peer:
            return []
        del self._peers[peer.websocket]
        self.withdraw(peer.user, peer.address)
        return [ended for topic in list(peer.topics) for ended in self.leave(peer, topic)]

    def join(self, peer: Peer, topic: str) -> None:
        """Put it into a topic, which it is not in."""
        if (group := self._groups.get(topic)) is None:
            group = self._groups[topic] = _Group()
        group.peers[peer] = None
        _add(group.users, peer.user, 1)
        peer.topics.add(topic)

    def leave(self, peer: Peer, topic: str) -> list[Interest]:
        """Take it out of a topic, and tell what nobody needs any more."""
        if topic not in peer.topics:
            return []
        peer.topics.discard(topic)
        group = self._groups[topic]
        del group.peers[peer]
        _add(group.users, peer.user, -1)
        if not group.peers:
            del self._groups[topic]
        return [each for each in interests_of(peer, topic) if not self.needs(each)]

    def needs(self, interest: Interest) -> bool:
        """Whether anybody does."""
        topic, user = interest
        group = self._groups.get(topic)
        return group is not None and (user is None or user in group.users)

    def users(self, topic: str) -> frozenset[str]:
        """The users in a topic, in this process."""
        group = self._groups.get(topic)
        return frozenset(group.users) if group is not None else frozenset()

    def find(self, websocket: WebSocket) -> Peer | None:
        """The connection of this WebSocket, if it is not over."""
        return self._peers.get(websocket)

    async def deliver(
        self, topic: str, outgoing: Outgoing, exclude: str | None, tally: Delivery
    ) -> None:
        """Offer a message to all in a topic but one, in the order of these calls."""
        if (group := self._groups.get(topic)) is None:
            return
        async with group.lock:
            peers = list(group.peers)
            for start in range(0, len(peers), _AT_ONCE):
                if start:
                    await asyncio.sleep(0)
                # Some may have gone meanwhile.
                outboxes = [
                    peer.outbox
                    for peer in peers[start : start + _AT_ONCE]
                    if peer.id != exclude and topic in peer.topics
                ]
                await fan_out(outboxes, outgoing, tally)
            if tally.queued:
                # Whoever broadcasts in a loop would keep the server from writing, and clients would
                # seem to be slow.
                await asyncio.sleep(0)

    def groups(self, prefix: str) -> Iterator[tuple[str, Collection[Peer]]]:
        """Yield the rooms, or the users, with their connections."""
        for topic, group in self._groups.items():
            if topic.startswith(prefix):
                yield topic[len(prefix) :], group.peers

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def _count(self, user: str | None, address: str | None, by: int) -> None:
        self._admitted += by
        _add(self._users, user, by)
        _add(self._addresses, address, by)


def _add(counter: Counter[str], key: str | None, by: int) -> None:
    if key is not None:
        counter[key] += by
        if not counter[key]:
            del counter[key]
