"""What `RedisTokenStore` owes to the Redis that it shares with others."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import RedisError
from redis.asyncio import Redis

from fastkit.auth._store import PRUNED_AT_ONCE
from fastkit.auth.redis import RedisTokenStore
from tests.auth.stores import Place, dump, make_login, prepared
from tests.support import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(redis_server: RedisServer) -> Iterator[Place]:
    with prepared(Place("redis", redis_server.url, f"logins_{uuid4().hex}:")) as place:
        yield place


@pytest.fixture
async def client(place: Place) -> AsyncGenerator[Redis]:
    client = Redis.from_url(place.url)  # pyright: ignore[reportUnknownMemberType]
    yield client
    await client.aclose()


@pytest.fixture
def store(place: Place, client: Redis) -> RedisTokenStore:
    return RedisTokenStore(client, prefix=place.name)


async def keys(client: Any, place: Place) -> dict[bytes, int]:
    """Each key, and the milliseconds until it expires; -1 for ever."""
    return {key: await client.pttl(key) async for key in client.scan_iter(match=f"{place.name}*")}


async def test_keys_expire_when_the_logins_do(
    store: RedisTokenStore, client: Redis, place: Place
) -> None:
    """Counted by the clock of Redis: the app's is 1970 here."""
    login = make_login(expires_at=1000.0 + 60)
    await store.add(login)
    before = await keys(client, place)
    assert len(before) == 2
    assert all(50_000 < left <= 60_000 for left in before.values())
    # The set waits for the one that lives longest.
    await store.add(make_login(expires_at=1000.0 + 10))
    assert [50_000 < left <= 60_000 for left in (await keys(client, place)).values()].count(
        True
    ) == 2
    assert await store.advance(login.id, 0, stamp="new", used_at=1059.0, expires_at=1059.0 + 3600)
    after = await keys(client, place)
    assert sum(3_590_000 < left <= 3_600_000 for left in after.values()) == 2


async def test_what_has_expired_is_gone(
    store: RedisTokenStore, client: Redis, place: Place
) -> None:
    login = make_login(expires_at=1000.0001)
    await store.add(login)
    async with asyncio.timeout(10):
        while await keys(client, place):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await store.get(login.id) is None
    assert not await store.advance(login.id, 0, stamp="new", used_at=1000.0, expires_at=9000.0)
    assert await keys(client, place) == {}
    assert await store.remove_all("ann") == 0


async def test_a_subject_does_not_collect_what_has_expired(
    store: RedisTokenStore, client: Redis, place: Place
) -> None:
    count = 2 * PRUNED_AT_ONCE
    for n in range(count):
        await store.add(make_login(expires_at=1100.0 + n))
    (subject,) = [key for key in await keys(client, place) if b"subject:" in key]
    assert await client.zcard(subject) == count
    await store.add(make_login(now=100_000.0))
    assert await client.zcard(subject) == count - PRUNED_AT_ONCE + 1
    await store.add(make_login(now=100_000.0))
    assert await client.zcard(subject) == 2


async def test_a_clock_that_is_ahead_hides_no_login_from_its_end(store: RedisTokenStore) -> None:
    login = make_login(expires_at=4600.0)
    await store.add(login)
    await store.add(make_login(now=4600.0 + 3600))
    assert await store.remove_all("ann") == 2
    assert await store.get(login.id) is None


async def test_nothing_is_left_of_what_was_removed(
    store: RedisTokenStore, client: Redis, place: Place
) -> None:
    first, second = make_login(), make_login("bob")
    for login in (first, second, make_login("bob")):
        await store.add(login)
    await store.remove(first.id)
    await store.remove_all("bob")
    assert await keys(client, place) == {}


async def test_no_key_has_the_name_of_a_user(store: RedisTokenStore, place: Place) -> None:
    await store.add(make_login("ann@example.org"))
    assert dump(place, store).count("ann@example.org") == 1


async def test_a_redis_that_has_forgotten_the_scripts_is_told_them_again(
    store: RedisTokenStore, client: Redis
) -> None:
    await client.script_flush()
    login = make_login()
    await store.add(login)
    await client.script_flush()
    assert await store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)


async def test_a_redis_that_does_not_answer_is_an_error_of_redis() -> None:
    client = Redis.from_url("redis://127.0.0.1:1")  # pyright: ignore[reportUnknownMemberType]
    with pytest.raises(RedisError):
        await RedisTokenStore(client).get("0")
    await client.aclose()


async def test_stores_with_other_prefixes_are_others(
    store: RedisTokenStore, client: Redis, place: Place
) -> None:
    login = make_login()
    await store.add(login)
    other = RedisTokenStore(client, prefix=f"{place.name}other:")
    assert await other.get(login.id) is None
    assert await other.remove_all("ann") == 0
    assert await store.get(login.id) == login
