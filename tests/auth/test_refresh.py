"""Refresh tokens under attack, in races, and as they go by."""

import asyncio
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkit.auth._keys import Key, Keyring
from fastkit.auth._refresh import InvalidGrantError, Presented, RefreshTokens, ReusedTokenError
from fastkit.auth._store import Login, MemoryTokenStore, TokenStore
from tests.auth.stores import (
    SHARED_KINDS,
    Place,
    cancelled_at,
    dump,
    on,
    open_store,
)
from tests.db.stepping import settle

pytestmark = pytest.mark.anyio

OLD, NEW = Key("Rk3v0x9QmZ7tYb2LwJ5cHs8PnUa4DgEf"), Key("q8TzWc1XvK6mRj4BhNy0LdFs7Gp3Ua9e")
LIFETIME, GRACE = 3600.0, 10.0


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_764_000_000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_tokens(
    store: TokenStore,
    clock: Callable[[], float],
    *,
    keys: tuple[Key, ...] = (OLD,),
    issuer: str = "fastkit",
    audience: str = "fastkit",
    grace: float = GRACE,
) -> RefreshTokens:
    return RefreshTokens(
        Keyring(keys),
        store,
        issuer=issuer,
        audience=audience,
        lifetime=LIFETIME,
        grace=grace,
        clock=clock,
    )


@pytest.fixture
def tokens(clock: Clock) -> RefreshTokens:
    """On a store in memory, for what no store has a say in."""
    return make_tokens(MemoryTokenStore(), clock)


async def begin(tokens: RefreshTokens) -> tuple[Login, str]:
    return await tokens.start("ann", ["items:read", "items:write"], "a stamp")


async def exchange(tokens: RefreshTokens, token: str) -> str:
    return await tokens.rotate(await tokens.check(token), "a stamp")


async def is_refused(tokens: RefreshTokens, token: str) -> bool:
    """Whether a token is worth nothing, and was so before it was shown here."""
    try:
        await tokens.check(token)
    except InvalidGrantError as error:
        return not isinstance(error, ReusedTokenError)
    return False


# Races, on every store.


async def test_fifty_exchanges_at_once_make_one_rotation(store: TokenStore, clock: Clock) -> None:
    tokens = make_tokens(store, clock)
    login, token = await begin(tokens)
    for generation in (1, 2):
        successors = await asyncio.gather(*(exchange(tokens, token) for _ in range(50)))
        assert len(set(successors)) == 1
        assert successors[0] != token
        found = await store.get(login.id)
        assert found is not None
        assert found.generation == generation
        token = successors[0]


async def test_so_do_fifty_that_all_found_the_token_to_be_the_newest(
    store: TokenStore, clock: Clock
) -> None:
    tokens = make_tokens(store, clock)
    login, token = await begin(tokens)
    presented = await asyncio.gather(*(tokens.check(token) for _ in range(50)))
    assert {shown.login for shown in presented} == {login}
    successors = await asyncio.gather(*(tokens.rotate(shown, "a stamp") for shown in presented))
    assert len(set(successors)) == 1
    assert (await tokens.check(successors[0])).login.generation == 1


async def test_without_grace_one_of_fifty_wins_and_the_login_goes_on(
    store: TokenStore, clock: Clock
) -> None:
    tokens = make_tokens(store, clock, grace=0.0)
    _, token = await begin(tokens)
    presented = await asyncio.gather(*(tokens.check(token) for _ in range(50)))
    results = await asyncio.gather(
        *(tokens.rotate(shown, "a stamp") for shown in presented), return_exceptions=True
    )
    successors = [result for result in results if isinstance(result, str)]
    assert len(successors) == 1
    assert {type(result) for result in results} == {str, InvalidGrantError}
    again = await exchange(tokens, successors[0])
    # Whoever comes now has found it used.
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, token)
    assert await is_refused(tokens, again)


End = Callable[[RefreshTokens, Login, str], Awaitable[object]]


async def by_replay(tokens: RefreshTokens, _: Login, stale: str) -> None:
    with pytest.raises(InvalidGrantError):
        await exchange(tokens, stale)


async def by_token(tokens: RefreshTokens, _: Login, stale: str) -> None:
    await tokens.revoke(stale)


async def by_login(tokens: RefreshTokens, login: Login, _: str) -> None:
    await tokens.revoke_login(login.id)


async def by_subject(tokens: RefreshTokens, login: Login, _: str) -> None:
    await tokens.revoke_all(login.subject)


every_end = pytest.mark.parametrize("end", [by_replay, by_token, by_login, by_subject])


@every_end
async def test_an_end_beats_an_exchange_at_the_same_time(
    store: TokenStore, place: Place, clock: Clock, end: End
) -> None:
    tokens = make_tokens(store, clock)
    for round_ in range(8):
        login, stale = await begin(tokens)
        newest = await exchange(tokens, await exchange(tokens, stale))
        calls: list[Awaitable[Any]] = [exchange(tokens, newest) for _ in range(4)]
        calls.insert(round_ % 5, end(tokens, login, stale))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert await store.get(login.id) is None
        assert login.nonce_hash not in dump(place, store)
        for result in results:
            if isinstance(result, str):
                assert await is_refused(tokens, result)
            else:
                assert result is None or type(result) is InvalidGrantError
        assert await is_refused(tokens, newest)


# A login ends when a token comes back.


@pytest.mark.parametrize("thief_is_first", [True, False])
async def test_a_stolen_token_ends_the_login_for_thief_and_victim(
    store: TokenStore, clock: Clock, thief_is_first: bool
) -> None:
    tokens = make_tokens(store, clock)
    login, stolen = await begin(tokens)
    other_login, other = await begin(tokens)
    first = await exchange(tokens, stolen)
    if thief_is_first:
        first = await exchange(tokens, first)
    clock.now += GRACE + 60
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, stolen)
    assert await store.get(login.id) is None
    assert await is_refused(tokens, first)
    assert await is_refused(tokens, stolen)
    # Only this login.
    assert (await tokens.check(other)).login == other_login


@pytest.mark.parametrize(
    ("later", "accepted"), [(0.0, True), (GRACE - 0.001, True), (GRACE, False), (GRACE + 1, False)]
)
async def test_the_grace_is_over_when_it_says(
    tokens: RefreshTokens, clock: Clock, later: float, accepted: bool
) -> None:
    _, token = await begin(tokens)
    successor = await exchange(tokens, token)
    clock.now += later
    if accepted:
        assert await exchange(tokens, token) == successor
        assert await exchange(tokens, successor)
    else:
        with pytest.raises(ReusedTokenError):
            await exchange(tokens, token)
        assert await is_refused(tokens, successor)


@pytest.mark.parametrize("later", [GRACE - 0.001, GRACE + 60])
async def test_whoever_waits_for_the_store_meanwhile_is_no_thief(
    clock: Clock, later: float
) -> None:
    """It was the newest when it was shown. All connections to the store were taken for a while."""
    store = Meddling()
    tokens = make_tokens(store, clock)
    _, token = await begin(tokens)

    async def meanwhile() -> None:
        clock.now += GRACE + 60
        await exchange(tokens, token)
        clock.now += later

    store.before["get"] = meanwhile
    presented = await tokens.check(token)
    successor = await tokens.rotate(presented, "a stamp")
    assert (await tokens.check(successor)).generation == 1


async def test_the_grace_does_not_start_again_when_it_is_used(
    tokens: RefreshTokens, clock: Clock
) -> None:
    _, token = await begin(tokens)
    await exchange(tokens, token)
    clock.now += GRACE - 1
    await exchange(tokens, token)
    clock.now += GRACE - 1
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, token)


async def test_the_last_but_one_has_no_grace(tokens: RefreshTokens) -> None:
    _, token = await begin(tokens)
    newest = await exchange(tokens, await exchange(tokens, token))
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, token)
    assert await is_refused(tokens, newest)


async def test_without_grace_a_token_that_was_used_ends_the_login_at_once(clock: Clock) -> None:
    tokens = make_tokens(MemoryTokenStore(), clock, grace=0.0)
    _, token = await begin(tokens)
    successor = await exchange(tokens, token)
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, token)
    assert await is_refused(tokens, successor)


@pytest.mark.parametrize("grace", [0.0, GRACE])
@pytest.mark.parametrize("skew", [-3600.0, -GRACE, GRACE, 3600.0])
async def test_a_clock_that_is_wrong_does_not_stretch_the_grace(
    clock: Clock, grace: float, skew: float
) -> None:
    """That of another machine, or this one's that was set."""
    store = MemoryTokenStore()
    tokens = make_tokens(store, clock, grace=grace)
    login, token = await begin(tokens)
    assert await store.advance(
        login.id, 0, stamp="", used_at=clock.now + skew, expires_at=clock.now + LIFETIME
    )
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, token)


async def test_a_store_that_has_gone_back_takes_no_older_token(clock: Clock) -> None:
    """One that lost what it wrote last: the token that it takes for the newest may be a thief's."""
    store = MemoryTokenStore()
    tokens = make_tokens(store, clock)
    login, token = await begin(tokens)
    successor = await exchange(tokens, token)
    await store.remove(login.id)
    await store.add(login)
    with pytest.raises(ReusedTokenError):
        await exchange(tokens, successor)
    assert await is_refused(tokens, token)


# What happens between the look and the exchange.


class Meddling(MemoryTokenStore):
    """Something happens before the next call of a method."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}

    async def _happens(self, method: str) -> None:
        if method in self.before:
            await self.before.pop(method)()

    async def get(self, login_id: str, /) -> Login | None:
        await self._happens("get")
        return await super().get(login_id)

    async def advance(self, login_id: str, generation: int, /, **changes: Any) -> bool:
        await self._happens("advance")
        return await super().advance(login_id, generation, **changes)


@pytest.mark.parametrize("grace", [0.0, GRACE])
async def test_a_login_that_ends_before_the_exchange(clock: Clock, grace: float) -> None:
    store = Meddling()
    tokens = make_tokens(store, clock, grace=grace)
    login, token = await begin(tokens)
    presented = await tokens.check(token)
    store.before["advance"] = lambda: tokens.revoke_login(login.id)
    with pytest.raises(InvalidGrantError, match="ended meanwhile"):
        await tokens.rotate(presented, "a stamp")
    assert await store.get(login.id) is None


@pytest.mark.parametrize("in_grace", [True, False])
async def test_a_login_that_ends_between_the_winner_and_the_loser(
    clock: Clock, in_grace: bool
) -> None:
    store = Meddling()
    tokens = make_tokens(store, clock)
    login, token = await begin(tokens)
    presented = await tokens.check(token)
    successor = await exchange(tokens, token)
    if in_grace:
        presented = await tokens.check(token)
    store.before["get"] = lambda: tokens.revoke_login(login.id)
    with pytest.raises(InvalidGrantError, match="ended meanwhile"):
        await tokens.rotate(presented, "a stamp")
    assert await is_refused(tokens, successor)


async def test_whoever_has_lost_is_no_thief_however_slow(
    tokens: RefreshTokens, clock: Clock
) -> None:
    """It was the newest when it was shown: looking up the user took a minute."""
    _, token = await begin(tokens)
    presented = await tokens.check(token)
    clock.now += 60
    successor = await exchange(tokens, token)
    clock.now += 60
    assert await tokens.rotate(presented, "a stamp") == successor


@pytest.mark.parametrize("in_grace", [True, False])
async def test_nor_when_the_winner_has_gone_on(tokens: RefreshTokens, in_grace: bool) -> None:
    """Its successor would end the login when it is used."""
    _, token = await begin(tokens)
    presented = await tokens.check(token)
    newest = await exchange(tokens, token)
    if in_grace:
        presented = await tokens.check(token)
    newest = await exchange(tokens, newest)
    with pytest.raises(InvalidGrantError, match="came first") as caught:
        await tokens.rotate(presented, "a stamp")
    assert type(caught.value) is InvalidGrantError
    assert await exchange(tokens, newest)


async def test_the_grace_counts_until_the_token_is_shown(
    tokens: RefreshTokens, clock: Clock
) -> None:
    _, token = await begin(tokens)
    successor = await exchange(tokens, token)
    clock.now += GRACE / 2
    presented = await tokens.check(token)
    clock.now += GRACE
    assert await tokens.rotate(presented, "a stamp") == successor


@pytest.mark.parametrize("error", [asyncio.CancelledError, ConnectionError])
async def test_a_client_that_the_answer_did_not_reach_gets_it_the_next_time(
    clock: Clock, error: type[BaseException]
) -> None:
    """The request was cancelled, or the connection to the store lost, when all was written."""

    class Interrupted(MemoryTokenStore):
        async def advance(self, login_id: str, generation: int, /, **changes: Any) -> bool:
            assert await super().advance(login_id, generation, **changes)
            raise error

    store = Interrupted()
    login, token = await begin(make_tokens(store, clock))
    with pytest.raises(error):
        await exchange(make_tokens(store, clock), token)
    clock.now += GRACE / 2
    successor = await exchange(make_tokens(store, clock), token)
    found = await store.get(login.id)
    assert found is not None
    assert found.generation == 1
    assert successor != token
    assert (await make_tokens(store, clock).check(successor)).generation == 1


# aiosqlite drops a new connection when it is cancelled while it sets it up.
@pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning")
@on("memory", "postgresql+asyncpg", "sync postgresql+psycopg", "sync sqlite+pysqlite", "redis")
async def test_cancelled_at_any_await_the_token_still_gives_its_successor(
    place: Place, clock: Clock
) -> None:
    async with open_store(place, connections=1) as store:
        tokens = make_tokens(store, clock)
        for step in range(100):
            login, token = await begin(tokens)
            tasks = asyncio.all_tasks()
            reached = await cancelled_at(step, exchange(tokens, token), repeatedly=False)
            await settle(asyncio.all_tasks() - tasks)
            clock.now += GRACE / 2
            successor = await exchange(tokens, token)
            found = (await tokens.check(successor)).login
            assert (found.id, found.generation) == (login.id, 1)
            assert await exchange(tokens, successor)
            if not reached:
                return
        pytest.fail("the exchange does not end")


# Forgeries.


class Untouched(MemoryTokenStore):
    """Nobody may look here."""

    async def get(self, login_id: str, /) -> Login | None:
        raise AssertionError(login_id)

    async def remove(self, login_id: str, /) -> bool:
        raise AssertionError(login_id)


def mutations(token: str, count: int) -> list[str]:
    chance = random.Random(1)  # noqa: S311
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    odd = alphabet + "+/=.~ \n\0é\ud800🦄"
    raw = urlsafe_b64decode(token)

    def changed() -> str:
        at = chance.randrange(len(token))
        match chance.randrange(6):
            case 0:
                return token[:at] + chance.choice(odd) + token[at + 1 :]
            case 1:
                return token[:at] + chance.choice(odd) + token[at:]
            case 2:
                return token[:at] + token[at + chance.randrange(1, 5) :]
            case 3:
                bit = chance.randrange(8 * len(raw))
                flipped = int.from_bytes(raw, "big") ^ (1 << bit)
                return urlsafe_b64encode(flipped.to_bytes(len(raw), "big")).decode()
            case 4:
                # The next generation, as the owner of a token would like it.
                number = int.from_bytes(raw[17:21], "big") + chance.choice([1, 2, 255])
                forged = raw[:17] + number.to_bytes(4, "big") + raw[21:]
                return urlsafe_b64encode(forged).decode()
            case _:
                return urlsafe_b64encode(chance.randbytes(len(raw))).decode()

    return [mutation for mutation in (changed() for _ in range(count)) if mutation != token]


async def test_ten_thousand_forgeries_cost_no_look_at_the_store(clock: Clock) -> None:
    _, token = await begin(make_tokens(MemoryTokenStore(), clock))
    tokens = make_tokens(Untouched(), clock, keys=(NEW, OLD))
    forged = mutations(token, 10_200)
    assert len(forged) >= 10_000
    for text in forged:
        with pytest.raises(InvalidGrantError, match="not a refresh token of this app"):
            await tokens.check(text)
        assert await tokens.revoke(text) is None
    with pytest.raises(AssertionError):  # this one is genuine
        await tokens.check(token)


@given(st.one_of(st.text(), st.text(min_size=92, max_size=92), st.binary(min_size=69, max_size=69)))
def test_no_text_is_anything_but_refused(text: str | bytes) -> None:
    if isinstance(text, bytes):
        text = urlsafe_b64encode(text).decode()
    tokens = make_tokens(Untouched(), Clock())
    with pytest.raises(InvalidGrantError):
        tokens.check(text).send(None)


async def test_tokens_of_another_key_issuer_or_audience_are_none_here(clock: Clock) -> None:
    store = MemoryTokenStore()
    token = (await begin(make_tokens(store, clock, issuer="a", audience="b")))[1]
    for others in (
        make_tokens(store, clock, issuer="a", audience="b", keys=(NEW,)),
        make_tokens(store, clock, issuer="b", audience="b"),
        make_tokens(store, clock, issuer="a", audience="a"),
        make_tokens(store, clock, issuer="ab", audience=""),
        make_tokens(store, clock, issuer='a", "b', audience=""),
    ):
        with pytest.raises(InvalidGrantError, match="not a refresh token of this app"):
            await others.check(token)
    assert await exchange(make_tokens(store, clock, issuer="a", audience="b"), token)


async def test_whoever_knows_the_key_and_the_store_lacks_the_nonce(clock: Clock) -> None:
    store, other_store = MemoryTokenStore(), MemoryTokenStore()
    tokens = make_tokens(store, clock)
    login, token = await begin(tokens)
    # The same login with another nonce, made by who can make every MAC.
    presented = await tokens.check(token)
    await other_store.add(login)
    forged = await make_tokens(other_store, clock).rotate(
        replace(presented, nonce=b"x" * 16), "a stamp"
    )
    with pytest.raises(InvalidGrantError, match="has ended"):
        await tokens.check(forged)
    assert await tokens.revoke(forged) is None
    assert await exchange(tokens, token)


async def test_a_token_of_a_later_version_is_refused(
    tokens: RefreshTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastkit.auth._refresh._VERSION", 2)
    _, token = await begin(tokens)
    monkeypatch.undo()
    with pytest.raises(InvalidGrantError, match="not a refresh token of this app"):
        await tokens.check(token)


async def test_a_dump_of_the_store_has_no_token_and_makes_none(
    store: TokenStore, place: Place, clock: Clock
) -> None:
    tokens = make_tokens(store, clock)
    _, first = await begin(tokens)
    second = await exchange(tokens, first)
    content = dump(place, store)
    nonce = urlsafe_b64decode(first)[21:37]
    secrets = [first, second, nonce.hex(), repr(nonce)[2:-1], OLD.derive(b"refresh").hex()]
    for raw in (nonce, urlsafe_b64decode(first)[37:], urlsafe_b64decode(second)[37:]):
        secrets += [raw.hex(), urlsafe_b64encode(raw).decode().rstrip("=")]
    assert [secret for secret in secrets if secret in content] == []
    # All that is there, with a key that is not ours.
    login = (await tokens.check(second)).login
    thief = make_tokens(store, clock, keys=(NEW,))
    for known in (login.nonce_hash, login.id):
        for nonce in (bytes.fromhex(known)[:16], bytes.fromhex(known)[-16:]):
            forged = await thief.rotate(Presented(login, login.generation, nonce), "a stamp")
            with pytest.raises(InvalidGrantError):
                await tokens.check(forged)


async def test_the_secret_part_is_in_no_repr_and_no_error(tokens: RefreshTokens) -> None:
    _, token = await begin(tokens)
    presented = await tokens.check(token)
    login = presented.login
    for hidden in (repr(presented.nonce), login.nonce_hash, login.stamp):
        assert hidden not in f"{presented!r}{login!r}{ReusedTokenError(login)!r}"
    await exchange(tokens, await exchange(tokens, token))
    with pytest.raises(ReusedTokenError) as caught:
        await exchange(tokens, token)
    with pytest.raises(InvalidGrantError) as refused:
        await tokens.check(token[:-1] + "é")
    for error in (caught.value, refused.value):
        assert token[:10] not in f"{error}{error!r}{error.__cause__!r}{error.__context__!r}"


# As they go by.


async def test_a_login_begins_with_all_that_was_granted(
    tokens: RefreshTokens, clock: Clock
) -> None:
    login, token = await begin(tokens)
    assert login.subject == "ann"
    assert login.scopes == ("items:read", "items:write")
    assert login.stamp == "a stamp"
    assert (login.generation, login.used_at) == (0, clock.now)
    assert login.expires_at == clock.now + LIFETIME
    assert (await tokens.check(token)).login == login
    other, other_token = await begin(tokens)
    assert login.id != other.id
    assert login.nonce_hash != other.nonce_hash
    assert token != other_token


async def test_a_look_changes_nothing(tokens: RefreshTokens, clock: Clock) -> None:
    login, token = await begin(tokens)
    for _ in range(3):
        clock.now += GRACE * 2
        presented = await tokens.check(token)
        assert (presented.login, presented.generation) == (login, 0)
    assert await exchange(tokens, token)


async def test_each_exchange_starts_the_lifetime_anew(tokens: RefreshTokens, clock: Clock) -> None:
    login, token = await begin(tokens)
    for _ in range(3):
        clock.now += LIFETIME - 1
        token = await exchange(tokens, token)
    presented = await tokens.check(token)
    assert presented.login.expires_at == clock.now + LIFETIME
    assert presented.login == replace(
        login, generation=3, used_at=clock.now, expires_at=clock.now + LIFETIME
    )
    clock.now += LIFETIME - 0.001
    assert (await tokens.check(token)).generation == 3
    clock.now += 0.001
    with pytest.raises(InvalidGrantError, match="expired"):
        await tokens.check(token)
    assert await tokens.revoke(token) is None


async def test_a_token_is_url_safe_and_no_longer_than_it_was(tokens: RefreshTokens) -> None:
    _, token = await begin(tokens)
    for _ in range(20):
        assert len(token) == 92
        assert token.replace("-", "").replace("_", "").isalnum()
        token = await exchange(tokens, token)


async def test_a_new_key_takes_the_tokens_of_the_old(clock: Clock) -> None:
    store = MemoryTokenStore()
    before = make_tokens(store, clock, keys=(OLD,))
    during = make_tokens(store, clock, keys=(NEW, OLD))
    after = make_tokens(store, clock, keys=(NEW,))
    login, first = await begin(before)
    second = await exchange(during, first)
    # Its successor is the new key's, also in the grace.
    assert await exchange(during, first) == second
    third = await exchange(after, second)
    assert await is_refused(after, first)
    assert (await after.check(third)).login.generation == 2
    # What the old key made is still recognised when it comes back.
    with pytest.raises(ReusedTokenError):
        await exchange(during, first)
    assert await store.get(login.id) is None


async def test_an_exchange_renews_the_stamp(store: TokenStore, clock: Clock) -> None:
    tokens = make_tokens(store, clock)
    _, token = await begin(tokens)
    presented = await tokens.check(token)
    successor = await tokens.rotate(presented, "another stamp")
    assert (await tokens.check(successor)).login.stamp == "another stamp"
    # Whoever has lost the race, or comes in the grace, has nothing to say.
    late = await tokens.check(token)
    assert await tokens.rotate(presented, "a third") == successor
    assert await tokens.rotate(late, "a third") == successor
    assert (await tokens.check(successor)).login.stamp == "another stamp"


async def test_a_login_is_revoked_by_any_token_of_it(tokens: RefreshTokens) -> None:
    login, first = await begin(tokens)
    second = await exchange(tokens, first)
    revoked = await tokens.revoke(first)
    assert revoked == replace(login, generation=1)
    assert await is_refused(tokens, second)
    assert await tokens.revoke(first) is None
    assert await tokens.revoke(second) is None
    assert await tokens.revoke("") is None


async def test_who_revokes_a_login_that_ends_meanwhile_has_not_ended_it(clock: Clock) -> None:
    class Ending(MemoryTokenStore):
        async def remove(self, login_id: str, /) -> bool:
            await super().remove(login_id)
            return await super().remove(login_id)

    tokens = make_tokens(Ending(), clock)
    _, token = await begin(tokens)
    assert await tokens.revoke(token) is None


async def test_logins_are_revoked_by_id_and_by_subject(tokens: RefreshTokens) -> None:
    (first, _), (_, second), (_, third) = [await begin(tokens) for _ in range(3)]
    assert await tokens.revoke_login(first.id)
    assert not await tokens.revoke_login(first.id)
    assert await tokens.revoke_all("ann") == 2
    assert await tokens.revoke_all("ann") == 0
    assert await is_refused(tokens, second)
    assert await is_refused(tokens, third)


@on(*SHARED_KINDS)
async def test_a_login_outlives_the_process(place: Place, clock: Clock) -> None:
    async with open_store(place) as store:
        _, token = await begin(make_tokens(store, clock))
    async with open_store(place) as store:
        tokens = make_tokens(store, clock)
        successor = await exchange(tokens, token)
        assert await exchange(tokens, token) == successor
