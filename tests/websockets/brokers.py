"""Brokers of each kind, and what a manager hears of one."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from fastkit.websockets._broker import Broker
from tests.support import StartRedis, redis_answers
from tests.websockets.wire import until

__all__ = (
    "LONG",
    "Ear",
    "OwnRedis",
    "client_of",
    "hears_again",
    "own_tasks",
    "redis_brokers",
    "starting",
    "stopped",
    "until_members",
)

LONG = 30.0
"""Seconds that nothing here takes."""


@dataclass
class OwnRedis:
    """A Redis of this test's own."""

    url: str
    start: StartRedis
    client: Any
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def restart(self, *arguments: str) -> None:
        self.process = self.start(*arguments)
        await redis_answers(self.client)

    async def subscribers(self, *topics: str) -> list[int]:
        found = await self.client.pubsub_numsub(*(f"fastkit:ws:{topic}" for topic in topics))
        return [count for _, count in found]

    async def reads(self) -> int:
        return int((await self.client.info("stats"))["total_reads_processed"])


class Ear:
    """What a manager is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.states: list[bool] = []

    async def on_message(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))

    def on_state(self, is_up: bool) -> None:
        self.states.append(is_up)

    def of(self, topic: str) -> list[bytes]:
        return [payload for heard, payload in self.heard if heard == topic]

    async def hears(self, *heard: tuple[str, bytes]) -> None:
        """Wait for as many, and forget them."""
        await until(lambda: len(self.heard) >= len(heard))
        assert self.heard == list(heard)
        self.heard.clear()


@asynccontextmanager
async def starting(broker: Broker, ear: Ear | None = None) -> AsyncGenerator[Ear]:
    """A broker that is started here and closed."""
    ear = ear or Ear()
    try:
        await broker.start(ear.on_message, ear.on_state)
        yield ear
    finally:
        await broker.close()


def own_tasks() -> list[str]:
    """The tasks that Redis brokers have made, and that are not done."""
    return [text for text in map(repr, asyncio.all_tasks()) if "/_redis_" in text]


@asynccontextmanager
async def client_of(url: str) -> AsyncGenerator[Any]:
    from redis.asyncio import Redis

    # What redis leaves untyped are options that are not used here.
    client: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def redis_brokers(url: str, prefix: str, count: int) -> AsyncGenerator[list[Broker]]:
    """Brokers on one Redis, in which they leave nothing."""
    from fastkit.websockets.redis import RedisBroker

    yield [RedisBroker(url, prefix=prefix, timeout=30) for _ in range(count)]
    assert own_tasks() == []
    async with client_of(url) as client:
        assert [key async for key in client.scan_iter(f"{prefix}*")] == []
        assert await client.pubsub_channels(f"{prefix}*") == []


async def hears_again(broker: Broker, ear: Ear, topic: str = "a") -> None:
    """It is up, and what is published arrives."""
    await until(lambda: ear.states[-1:] == [True], seconds=20)
    ear.heard.clear()
    await broker.publish(topic, b"again")
    await ear.hears((topic, b"again"))


async def until_members(broker: Broker, topic: str, users: set[str]) -> None:
    async with asyncio.timeout(20):
        while set(await broker.members(topic)) != users:  # noqa: ASYNC110  # there is nothing that tells
            await asyncio.sleep(0.02)


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Generator[None]:
    """It hangs meanwhile."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
