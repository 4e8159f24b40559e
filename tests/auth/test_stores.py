"""What every token store must do, on every kind of store."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from fastkit.auth._store import PRUNED_AT_ONCE, Login, TokenStore
from tests.auth.stores import (
    SQL_KINDS,
    Place,
    cancelled_at,
    dump,
    make_login,
    on,
    open_store,
    plain_engine,
)
from tests.db.stepping import settle

pytestmark = pytest.mark.anyio


# Worst cases first: what a login must never survive.


async def test_of_fifty_at_once_one_advances(store: TokenStore) -> None:
    login = make_login()
    await store.add(login)
    calls = [
        store.advance(login.id, 0, stamp="new", used_at=1001.0 + n, expires_at=5000.0)
        for n in range(50)
    ]
    assert sorted(await asyncio.gather(*calls)) == [False] * 49 + [True]
    found = await store.get(login.id)
    assert found is not None
    assert found.generation == 1


async def test_what_was_removed_is_not_brought_back(store: TokenStore, place: Place) -> None:
    login, other = make_login("ann"), make_login("ann")
    await store.add(login)
    await store.add(other)
    assert await store.remove(login.id)
    assert not await store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)
    assert await store.get(login.id) is None
    assert await store.remove_all("ann") == 1
    assert not await store.advance(other.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)
    assert await store.get(other.id) is None
    left = dump(place, store)
    assert login.nonce_hash not in left
    assert other.nonce_hash not in left


Operation = Callable[[TokenStore, Login], Coroutine[Any, Any, None]]


async def by_id(store: TokenStore, login: Login) -> None:
    await store.remove(login.id)


async def by_subject(store: TokenStore, login: Login) -> None:
    await store.remove_all(login.subject)


@pytest.mark.parametrize("removal", [by_id, by_subject])
async def test_a_removal_beats_what_happens_at_the_same_time(
    store: TokenStore, place: Place, removal: Operation
) -> None:
    for round_ in range(10):
        login = make_login()
        await store.add(login)
        calls: list[Awaitable[object]] = [
            store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=5000.0)
            for _ in range(3)
        ]
        calls.insert(round_ % 4, removal(store, login))
        await asyncio.gather(*calls)
        assert await store.get(login.id) is None
        assert login.nonce_hash not in dump(place, store)


async def test_a_login_that_goes_on_is_still_found_by_its_subject(store: TokenStore) -> None:
    """It outlives what was known when it began."""
    login = make_login(expires_at=1060.0)
    await store.add(login)
    for generation in range(5):
        now = 1050.0 * (generation + 1)
        assert await store.advance(
            login.id, generation, stamp="new", used_at=now, expires_at=now + 1060.0
        )
        # Prunes what has expired.
        await store.add(make_login("bob", now=now))
        await store.add(make_login("ann", now=now, expires_at=now + 1.0))
    assert await store.remove_all("ann") >= 1
    assert await store.get(login.id) is None


async def test_a_dump_has_the_hash_of_the_nonce_and_no_more(
    store: TokenStore, place: Place
) -> None:
    login = make_login(nonce_hash="f00d" * 16)
    await store.add(login)
    assert "f00d" * 16 in dump(place, store)


# What is kept.


LOGINS = [
    make_login(),
    make_login("", scopes=(), stamp=""),
    make_login("Å🦄 \"'\\{}%s\n", scopes=("two words", "é", '"', ""), stamp="ß" * 300),
    make_login("x" * 300, generation=2_000_000_000, used_at=1764000000.123457, expires_at=2**40),
    make_login("1e3", used_at=0.1 + 0.2, expires_at=math.nextafter(1000.0, math.inf)),
]


@pytest.mark.parametrize("login", LOGINS, ids=range(len(LOGINS)))
async def test_a_login_comes_back_as_it_was(store: TokenStore, login: Login) -> None:
    await store.add(login)
    assert await store.get(login.id) == login


async def test_an_advance_changes_what_it_says(store: TokenStore) -> None:
    login = make_login()
    await store.add(login)
    assert await store.advance(
        login.id, 0, stamp="new", used_at=1764000000.123457, expires_at=1764000001.5
    )
    advanced = replace(
        login, generation=1, stamp="new", used_at=1764000000.123457, expires_at=1764000001.5
    )
    assert await store.get(login.id) == advanced
    for generation in (0, 2, -1):
        assert not await store.advance(
            login.id, generation, stamp="new", used_at=1.0, expires_at=2.0
        )
    assert await store.get(login.id) == advanced
    assert await store.advance(login.id, 1, stamp="new", used_at=3.0, expires_at=4.0)


async def test_what_is_not_there(store: TokenStore) -> None:
    for login_id in ("0" * 32, "", "*", "é", "0" * 1000):
        assert await store.get(login_id) is None
        assert not await store.advance(login_id, 0, stamp="new", used_at=1.0, expires_at=2.0)
        assert not await store.remove(login_id)
        assert await store.remove_all(login_id) == 0


async def test_a_removal_takes_what_it_names(store: TokenStore) -> None:
    ann, again, bob = make_login("ann"), make_login("ann"), make_login("bob")
    for login in (ann, again, bob):
        await store.add(login)
    assert await store.remove(ann.id)
    assert not await store.remove(ann.id)
    assert await store.get(again.id) == again
    third = make_login("ann")
    await store.add(third)
    assert await store.remove_all("ann") == 2
    assert await store.remove_all("ann") == 0
    assert await store.get(again.id) is None
    assert await store.get(third.id) is None
    assert await store.get(bob.id) == bob


async def test_logins_that_begin_while_all_are_removed_are_found_the_next_time(
    store: TokenStore,
) -> None:
    logins = [make_login() for _ in range(20)]
    removed = await asyncio.gather(
        *(store.add(login) for login in logins[:10]),
        store.remove_all("ann"),
        *(store.add(login) for login in logins[10:]),
    )
    assert removed[10] == 20 - sum([await store.get(login.id) is not None for login in logins])
    await store.remove_all("ann")
    assert [await store.get(login.id) for login in logins] == [None] * 20


# Expired ones.


@on("memory", *SQL_KINDS)
async def test_what_has_expired_is_dropped_bit_by_bit(store: TokenStore, place: Place) -> None:
    count = 2 * PRUNED_AT_ONCE + 1
    for n in range(count):
        await store.add(make_login(expires_at=1000.0 + n))
    living = make_login(expires_at=5000.0)
    await store.add(living)

    def left() -> int:
        return dump(place, store).count(living.stamp) - 1

    assert left() == count
    await store.add(make_login("bob", now=2000.0))
    assert left() == count - PRUNED_AT_ONCE + 1
    await store.add(make_login("bob", now=2000.0))
    await store.add(make_login("bob", now=2000.0))
    assert left() == 3
    assert await store.get(living.id) == living
    assert await store.remove_all("ann") == 1


async def test_what_expires_in_this_moment_is_kept(store: TokenStore) -> None:
    login = make_login(expires_at=2000.0)
    await store.add(login)
    await store.add(make_login("bob", now=2000.0))
    assert await store.get(login.id) == login


# Cancelled.


async def add(store: TokenStore, login: Login) -> None:
    await store.add(login)


async def get(store: TokenStore, login: Login) -> None:
    await store.get(login.id)


async def advance(store: TokenStore, login: Login) -> None:
    await store.advance(login.id, 0, stamp="new", used_at=1001.0, expires_at=4602.0)


# aiosqlite drops a new connection when it is cancelled while it sets it up.
@pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning")
@pytest.mark.parametrize("repeatedly", [False, True])
@pytest.mark.parametrize("operation", [add, get, advance, by_id, by_subject])
async def test_cancelled_at_any_await_it_has_happened_or_not(
    place: Place, operation: Operation, repeatedly: bool
) -> None:
    if "sqlite" in place.kind:
        # SQLAlchemy's frames keep a read that was cancelled, and old ones of aiosqlite do for ever:
        # otherwise no write gets past it.
        with plain_engine(place) as engine, engine.connect() as connection:
            connection.execute(text("PRAGMA journal_mode = WAL"))
    async with open_store(place, connections=1) as store:
        for step in range(100):
            login = make_login()
            if operation is not add:
                await store.add(login)
            tasks = asyncio.all_tasks()
            reached = await cancelled_at(step, operation(store, login), repeatedly=repeatedly)
            await settle(asyncio.all_tasks() - tasks)
            # On the only connection, whose answers are to these questions.
            async with asyncio.timeout(20):
                found = await store.get(login.id)
                done = replace(login, generation=1, stamp="new", used_at=1001.0, expires_at=4602.0)
                possible: dict[Operation, tuple[Login | None, ...]] = {
                    get: (login,),
                    advance: (login, done),
                }
                assert found in possible.get(operation, (None, login))
                if not reached:
                    assert (found == login) is (operation in (add, get))
                assert await store.remove_all("ann") == (found is not None)
            assert login.nonce_hash not in dump(place, store)
            if not reached:
                return
        pytest.fail("the work does not end")
