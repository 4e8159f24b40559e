"""The stores on a Redis that ends, evicts or is a cluster: one that is a test's own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis import RedisError
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisClusterException

from fastkit.auth import LoginLimits
from fastkit.auth._keys import Key, Keyring
from fastkit.auth._refresh import InvalidGrantError, RefreshTokens
from fastkit.auth._store import TokenStore
from fastkit.auth.redis import RedisThrottle, RedisTokenStore
from tests.auth.stores import make_login
from tests.support import StartRedis, free_port, redis_answers

pytestmark = pytest.mark.anyio

PREFIX = "{fastkit:auth}:"


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Any]:
    client = Redis(port=port)
    try:
        await redis_answers(client)
        yield client
    finally:
        await client.aclose()


def make_tokens(store: TokenStore) -> RefreshTokens:
    return RefreshTokens(
        Keyring([Key("Rk3v0x9QmZ7tYb2LwJ5cHs8PnUa4DgEf")]),
        store,
        issuer="fastkit",
        audience="fastkit",
        lifetime=3600.0,
        grace=10.0,
        clock=lambda: 1_764_000_000.0,
    )


@pytest.mark.parametrize("keeps", [True, False], ids=["appendonly", "in memory"])
async def test_a_redis_that_ends_and_starts_again(
    redis_port: int, start_redis: StartRedis, keeps: bool
) -> None:
    options = ["--appendonly", "yes", "--appendfsync", "always"] if keeps else []
    process = start_redis(*options)
    async with connected(redis_port) as client:
        tokens = make_tokens(RedisTokenStore(client))
        throttle = RedisThrottle(client, limits=LoginLimits(account_at_address=(1, 600)))
        _, used = await tokens.start("ann", (), "")
        presented = await tokens.check(used)
        _, other = await tokens.start("ann", (), "")
        newest = await tokens.rotate(await tokens.check(other), "")
        assert await throttle.hit("ann", "") is None
        process.kill()
        process.wait()
        for question in (tokens.check(newest), tokens.rotate(presented, "")):
            with pytest.raises(RedisError):
                await question
        start_redis(*options)
        await redis_answers(client)
        if keeps:
            # What was asked in between has not happened, and what had happened has.
            assert await tokens.rotate(presented, "")
            assert await tokens.rotate(await tokens.check(other), "") == newest
            assert await throttle.hit("ann", "") is not None
            assert await tokens.revoke_all("ann") == 2
        for token in (used, other, newest):
            with pytest.raises(InvalidGrantError):
                await tokens.check(token)
        _, token = await tokens.start("ann", (), "")
        assert await tokens.rotate(await tokens.check(token), "")


async def test_keys_that_redis_evicts_end_logins_and_bring_none_back(
    redis_port: int, start_redis: StartRedis
) -> None:
    start_redis()
    async with connected(redis_port) as client:
        store = RedisTokenStore(client, prefix=PREFIX)
        evicted, kept, last = (make_login() for _ in range(3))
        for login in (evicted, kept):
            await store.add(login)
        await client.delete(f"{PREFIX}login:{evicted.id}")
        assert await store.get(evicted.id) is None
        assert not await store.advance(evicted.id, 0, stamp="", used_at=1.0, expires_at=9000.0)
        (subject,) = [key async for key in client.scan_iter(f"{PREFIX}subject:*")]
        await client.delete(subject)
        # A refresh makes it known again whose the login is.
        assert await store.advance(kept.id, 0, stamp="", used_at=1.0, expires_at=9000.0)
        await store.add(last)
        assert await store.remove_all("ann") == 2
        assert [key async for key in client.scan_iter("*")] == []


async def test_a_redis_that_is_full_refuses_logins_and_keeps_what_it_has(
    redis_port: int, start_redis: StartRedis
) -> None:
    start_redis()
    async with connected(redis_port) as client:
        store = RedisTokenStore(client)
        login = make_login()
        await store.add(login)
        await client.config_set("maxmemory", "1")
        with pytest.raises(RedisError):
            await store.add(make_login())
        with pytest.raises(RedisError):
            await store.advance(login.id, 0, stamp="", used_at=1.0, expires_at=2.0)
        assert await store.get(login.id) == login
        # A logout works all the same.
        assert await store.remove_all("ann") == 1


@asynccontextmanager
async def clustered(redis_port: int, start_redis: StartRedis) -> AsyncGenerator[RedisCluster]:
    """A cluster of one, which refuses keys of several slots as larger ones do."""
    # By default the other port is 10,000 more, where there may be none.
    start_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    async with connected(redis_port) as client:
        await client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        async with asyncio.timeout(30):
            while "'cluster_state': 'ok'" not in repr(  # noqa: ASYNC110
                await client.execute_command("CLUSTER INFO")
            ):
                await asyncio.sleep(0.02)
    cluster = RedisCluster("127.0.0.1", redis_port)
    try:
        yield cluster
    finally:
        await cluster.aclose()


async def test_a_cluster_keeps_what_has_a_hash_tag(
    redis_port: int, start_redis: StartRedis
) -> None:
    async with clustered(redis_port, start_redis) as cluster:
        tokens = make_tokens(RedisTokenStore(cluster, prefix=PREFIX))
        _, token = await tokens.start("ann", (), "")
        presented = [await tokens.check(token) for _ in range(20)]
        successors = await asyncio.gather(*(tokens.rotate(each, "") for each in presented))
        assert len(set(successors)) == 1
        await tokens.start("ann", (), "")
        assert await tokens.revoke_all("ann") == 2
        limits = LoginLimits(account_at_address=(3, 600))
        throttle = RedisThrottle(cluster, limits=limits, prefix=PREFIX)
        waits = [await throttle.hit("ann", "203.0.113.7") for _ in range(5)]
        assert waits.count(None) == 3
        await throttle.clear("ann", "203.0.113.7")
        assert await throttle.hit("ann", "203.0.113.7") is None


async def test_a_cluster_refuses_what_has_none(redis_port: int, start_redis: StartRedis) -> None:
    async with clustered(redis_port, start_redis) as cluster:
        with pytest.raises((RedisError, RedisClusterException)):
            await RedisTokenStore(cluster).add(make_login())
        with pytest.raises((RedisError, RedisClusterException)):
            await RedisThrottle(cluster).hit("ann", "203.0.113.7")
