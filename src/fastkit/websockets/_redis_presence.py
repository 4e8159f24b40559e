"""Who is there, in Redis: sets for each process and topic, which expire if not refreshed."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from hashlib import sha256
from uuid import uuid4

from fastkit.websockets._broker import BrokerError, Member
from fastkit.websockets._redis_link import Command, Pipeline, batches

__all__ = ("Presence",)

_logger = logging.getLogger("fastkit.websockets")

_LIFETIME, _INTERVAL = 30.0, 10.0  # seconds
_TOPICS_AT_ONCE = 200


class Presence:
    """The members that this process has, and a task that keeps them in Redis.

    The processes are in a sorted set, by when they are dead, after the clock of Redis.
    """

    def __init__(self, pipeline: Pipeline, *, prefix: str) -> None:
        self._pipeline = pipeline
        self._prefix = prefix
        self._id = uuid4().hex
        self._processes = f"{prefix}processes".encode()
        self._interval = _INTERVAL
        self._lifetime = round(_LIFETIME * 1000)
        # Of each topic its users, and the call that added each of them last.
        self._users: dict[str, dict[str, object]] = {}
        # Topics whose set in Redis may be another.
        self._unsure: set[str] = set()
        self._is_registered = False
        self._wake = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._refresh_often())

    async def add(self, members: Collection[Member]) -> None:
        """Raise BrokerError and forget them, or have them in Redis for as long as this lasts."""
        if not members:
            return
        call = object()
        for topic, user in members:
            self._users.setdefault(topic, {})[user] = call
        commands: list[Command] = []
        for topic, users in _by_topic(members):
            key = self._key(topic, self._id)
            commands.append((b"SADD", key, *map(_encode, users)))
            commands.append((b"PEXPIRE", key, b"%d" % self._lifetime))
        try:
            await self._pipeline.call(*commands)
            if not self._is_registered:
                await self._register()
        except BaseException:
            self._discard(members, lambda owner: owner is call)
            self._repair(topic for topic, _ in members)
            raise

    async def remove(self, members: Collection[Member]) -> None:
        """Forget them. What raises BrokerError takes them out of Redis later."""
        if not members:
            return
        self._discard(members, lambda owner: True)
        try:
            await self._pipeline.call(
                *(
                    (b"SREM", self._key(topic, self._id), *map(_encode, users))
                    for topic, users in _by_topic(members)
                )
            )
        except BaseException:
            self._repair(topic for topic, _ in members)
            raise

    async def members(self, topic: str) -> frozenset[str]:
        """The users in a topic, of all processes."""
        (processes,) = await self._pipeline.call((b"ZRANGE", self._processes, b"0", b"-1"))
        if not processes:
            return frozenset()
        keys = [self._key(topic, process.decode()) for process in processes]
        (users,) = await self._pipeline.call((b"SUNION", *keys))
        return frozenset(user.decode("utf-8", "surrogatepass") for user in users)

    async def restore(self) -> None:
        """Look whether all is in Redis, which may have lost it, and put it there again."""
        try:
            await self._refresh()
        except BrokerError:
            self._wake.set()

    def stop(self) -> list[Command]:
        """End, and tell what takes all of this process out of Redis."""
        self.task.cancel()
        last: list[Command] = []
        if topics := {*self._users, *self._unsure}:
            last.append((b"DEL", *(self._key(topic, self._id) for topic in topics)))
        if self._is_registered:
            last.append((b"ZREM", self._processes, self._id.encode()))
        return last

    def _key(self, topic: str, process: str) -> bytes:
        # All ids of processes are of one length, so that no two pairs have one key.
        return f"{self._prefix}members:{process}:{sha256(_encode(topic)).hexdigest()}".encode()

    def _discard(self, members: Iterable[Member], is_meant: Callable[[object], bool]) -> None:
        for topic, user in members:
            users = self._users.get(topic, {})
            if user in users and is_meant(users[user]):
                del users[user]
                if not users:
                    del self._users[topic]

    def _repair(self, topics: Iterable[str]) -> None:
        self._unsure.update(topics)
        self._wake.set()

    async def _refresh_often(self) -> None:
        is_reported = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._refresh()
            except Exception as error:  # whatever it is, it must not end this
                if not is_reported:
                    _logger.warning("Redis is not told who is in which room: %s", error)
                is_reported = True
            else:
                is_reported = False

    async def _refresh(self) -> None:
        if not (self._users or self._unsure or self._is_registered):
            return
        await self._register()
        for topics in batches(self._users, _TOPICS_AT_ONCE):
            commands: list[Command] = []
            for topic in topics:
                key = self._key(topic, self._id)
                commands += (b"PEXPIRE", key, b"%d" % self._lifetime), (b"SCARD", key)
            expected = [len(self._users.get(topic, ())) for topic in topics]
            found = (await self._pipeline.call(*commands))[1::2]
            for topic, *numbers in zip(topics, expected, found, strict=True):
                if len(set(numbers)) > 1:
                    self._unsure.add(topic)
        for topics in batches(self._unsure, _TOPICS_AT_ONCE):
            await self._rewrite(topics)

    async def _register(self) -> None:
        ((seconds, microseconds),) = await self._pipeline.call((b"TIME",))
        now = int(seconds) * 1000 + int(microseconds) // 1000
        await self._pipeline.call(
            (b"ZADD", self._processes, b"%d" % (now + self._lifetime), self._id.encode()),
            (b"ZREMRANGEBYSCORE", self._processes, b"-inf", b"%d" % now),
            (b"PEXPIRE", self._processes, b"%d" % self._lifetime),
        )
        self._is_registered = True

    async def _rewrite(self, topics: list[str]) -> None:
        commands: list[Command] = [(b"MULTI",)]
        for topic in topics:
            key = self._key(topic, self._id)
            commands.append((b"DEL", key))
            if users := self._users.get(topic):
                commands.append((b"SADD", key, *map(_encode, users)))
                commands.append((b"PEXPIRE", key, b"%d" % self._lifetime))
        commands.append((b"EXEC",))
        self._unsure.difference_update(topics)
        try:
            await self._pipeline.call(*commands)
        except BaseException:
            self._unsure.update(topics)
            raise


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _by_topic(members: Iterable[Member]) -> Iterable[tuple[str, list[str]]]:
    topics: dict[str, list[str]] = {}
    for topic, user in members:
        topics.setdefault(topic, []).append(user)
    return topics.items()
