"""`MemoryTokenStore` has no more than it may, and drops what expires first."""

import random
import tracemalloc
from collections.abc import Awaitable, Callable, Sized
from dataclasses import replace

import pytest

from fastkit.auth._store import PRUNED_AT_ONCE, MemoryTokenStore
from tests.auth.stores import make_login

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("max_logins", [0, -1])
def test_no_room_is_refused(max_logins: int) -> None:
    with pytest.raises(ValueError, match=f"max_logins is {max_logins}, which leaves no room"):
        MemoryTokenStore(max_logins=max_logins)


async def test_too_many_end_in_the_order_of_their_expiry() -> None:
    store = MemoryTokenStore(max_logins=3)
    short, long, used, new = (make_login(expires_at=2000.0 + n) for n in range(4))
    for login in (used, long, short):
        await store.add(login)
    assert await store.advance(used.id, 0, stamp="new", used_at=1001.0, expires_at=2100.0)
    # What was removed gives its place.
    await store.remove(long.id)
    await store.add(long)
    await store.add(new)
    assert await store.get(short.id) is None
    await store.add(make_login(expires_at=3000.0))
    assert await store.get(long.id) is None
    assert await store.get(used.id) is not None
    assert await store.get(new.id) is not None


async def test_it_agrees_with_a_sorted_list() -> None:
    """Whatever was added, used and removed before."""
    chance = random.Random(7)  # noqa: S311
    store = MemoryTokenStore(max_logins=50)
    expected: dict[str, tuple[float, int]] = {}
    for _ in range(5000):
        expires_at = chance.uniform(2000.0, 9000.0)
        action = chance.random()
        if action < 0.4 or not expected:
            if len(expected) == 50:
                del expected[min(expected, key=lambda key: expected[key][0])]
            login = make_login(expires_at=expires_at)
            await store.add(login)
            expected[login.id] = expires_at, 0
        elif action < 0.8:
            login_id = chance.choice(list(expected))
            generation = expected[login_id][1]
            assert await store.advance(
                login_id, generation, stamp="new", used_at=1000.0, expires_at=expires_at
            )
            expected[login_id] = expires_at, generation + 1
        else:
            login_id = chance.choice(list(expected))
            assert await store.remove(login_id)
            del expected[login_id]
    for login_id, (expires_at, generation) in expected.items():
        found = await store.get(login_id)
        assert found is not None
        assert (found.expires_at, found.generation) == (expires_at, generation)
    assert await store.remove_all("ann") == len(expected)


def entries(store: MemoryTokenStore) -> int:
    """In all that it keeps."""
    return sum(len(kept) for kept in vars(store).values() if isinstance(kept, Sized))


async def test_a_million_entries_leave_no_more_than_there_may_be() -> None:
    store = MemoryTokenStore(max_logins=1000)
    most, new = 0, make_login()
    for n in range(334_000):  # of which each is there, with its subject, and in the heap
        now = 1000.0 + n
        # Half of them expire before there are too many.
        lifetime = 100.0 if n % 2 else 1e9
        new = replace(new, id=f"{n:x}", subject=f"{n:x}", used_at=now, expires_at=now + lifetime)
        await store.add(new)
        most = max(most, entries(store))
    assert 1000 < most <= 4 * 1000 + PRUNED_AT_ONCE
    assert await store.get(new.id) == new
    assert await store.remove_all(new.subject) == 1


async def come_and_go(store: MemoryTokenStore, times: int) -> None:
    for n in range(times):
        login = make_login(f"user {n}", expires_at=1e9 + n)
        await store.add(login)
        await store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=1e9 + n)
        if n % 2:
            await store.remove(login.id)
        else:
            await store.remove_all(login.subject)


async def go_on(store: MemoryTokenStore, times: int) -> None:
    login = make_login()
    await store.add(login)
    for n in range(times):
        await store.advance(login.id, n, stamp="new", used_at=1001.0, expires_at=1e9 + n)


async def come_and_stay(store: MemoryTokenStore, times: int) -> None:
    for n in range(times):
        await store.add(make_login(f"user {n}", expires_at=1e9 + n))


@pytest.mark.parametrize("live", [come_and_go, go_on, come_and_stay])
async def test_it_does_not_grow_for_ever(
    live: Callable[[MemoryTokenStore, int], Awaitable[None]],
) -> None:
    store = MemoryTokenStore(max_logins=1000)
    tracemalloc.start()
    try:
        await live(store, 2000)
        full, _ = tracemalloc.get_traced_memory()
        await live(store, 20_000)
        assert tracemalloc.get_traced_memory()[0] < full + 200_000  # bytes
    finally:
        tracemalloc.stop()
