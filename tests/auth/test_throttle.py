"""Both throttles obey the same rules; the one in Redis is tested with a Redis."""

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from fastkit.auth import _throttle
from fastkit.auth._redis_throttle import RedisThrottle
from fastkit.auth._throttle import LoginLimits, MemoryThrottle, Throttle, counter_keys
from tests.support import RedisServer

pytestmark = pytest.mark.anyio

HOME = "203.0.113.7"
# An attempt comes back in 1,000 seconds, which no test takes.
FEW = LoginLimits(
    account_at_address=(3, 3_000), address=(1_000, 1_000_000), account=(1_000, 1_000_000)
)
PER_ADDRESS = LoginLimits(
    account_at_address=(1_000, 1_000_000), address=(3, 3_000), account=(1_000, 1_000_000)
)
PER_ACCOUNT = LoginLimits(
    account_at_address=(2, 2_000), address=(1_000, 1_000_000), account=(3, 3_000)
)

REDIS_LATER = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
    local due = tonumber(redis.call('GET', key)) - ARGV[2] * 1000000
    redis.call('SET', key, string.format('%.0f', due), 'KEEPTTL')
end
"""


@dataclass
class Kind:
    """How a throttle is made, and how time goes by for all that were made so."""

    make: Callable[[LoginLimits], Throttle]
    later: Callable[[int], Awaitable[None]]


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncGenerator[Redis]:
    client = Redis.from_url(url, **options)  # pyright: ignore[reportUnknownMemberType]
    try:
        yield client
    finally:
        await client.aclose()


async def keys(client: Any, prefix: str) -> list[Any]:
    return [key async for key in client.scan_iter(f"{prefix}*")]


async def lives(client: Redis, prefix: str) -> list[int]:
    """In how many milliseconds the keys expire."""
    return sorted([await client.pttl(key) for key in await keys(client, prefix)])


@pytest.fixture
async def client(redis_server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    decodes: bool = getattr(request, "param", False)
    async with connected(redis_server.url, decode_responses=decodes) as client:
        yield client


@pytest.fixture
async def prefix(client: Redis) -> AsyncIterator[str]:
    prefix = f"fastkit-{uuid4().hex}:"
    yield prefix
    if made := await keys(client, prefix):
        await client.delete(*made)


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    return in_memory(monkeypatch) if request.param == "memory" else in_redis(request)


def in_memory(monkeypatch: pytest.MonkeyPatch) -> Kind:
    now = 10**18

    def clock() -> int:
        return now

    async def later(seconds: int) -> None:
        nonlocal now
        now += seconds * 10**9

    monkeypatch.setattr(_throttle, "monotonic_ns", clock)
    return Kind(lambda limits: MemoryThrottle(limits=limits), later)


def in_redis(request: pytest.FixtureRequest) -> Kind:
    client: Redis = request.getfixturevalue("client")
    prefix: str = request.getfixturevalue("prefix")

    async def later(seconds: int) -> None:
        await client.register_script(REDIS_LATER)([], [prefix, seconds])

    return Kind(lambda limits: RedisThrottle(client, limits=limits, prefix=prefix), later)


async def admitted(throttle: Throttle, *attempts: tuple[str, str]) -> int:
    return sum([await throttle.hit(*attempt) is None for attempt in attempts])


async def test_more_than_so_many_attempts_wait_until_one_comes_back(kind: Kind) -> None:
    throttle = kind.make(FEW)
    assert await admitted(throttle, *[("alice", HOME)] * 3) == 3
    assert await throttle.hit("alice", HOME) == pytest.approx(1_000, abs=100)


async def test_an_attempt_that_was_refused_is_not_counted(kind: Kind) -> None:
    throttle = kind.make(FEW)
    assert await admitted(throttle, *[("alice", HOME)] * 500) == 3
    assert await throttle.hit("alice", HOME) == pytest.approx(1_000, abs=100)
    await kind.later(1_000)
    assert await throttle.hit("alice", HOME) is None


async def test_attempts_come_back_one_at_a_time_and_never_more_than_all(kind: Kind) -> None:
    throttle = kind.make(FEW)
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 3
    await kind.later(2_000)
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 2
    await kind.later(1_000_000)
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 3


async def test_one_address_has_few_attempts_at_all_accounts_together(kind: Kind) -> None:
    throttle = kind.make(PER_ADDRESS)
    assert await admitted(throttle, *[(f"user{i}", HOME) for i in range(9)]) == 3
    assert await throttle.hit("alice", HOME) == pytest.approx(1_000, abs=100)
    assert await throttle.hit("alice", "203.0.113.8") is None


async def test_an_account_has_few_attempts_from_all_addresses_together(kind: Kind) -> None:
    throttle = kind.make(PER_ACCOUNT)
    assert await admitted(throttle, *[("alice", f"203.0.113.{i}") for i in range(9)]) == 3
    assert await throttle.hit("alice", HOME) == pytest.approx(1_000, abs=100)
    assert await throttle.hit("bob", HOME) is None


async def test_one_address_alone_keeps_nobody_out_elsewhere(kind: Kind) -> None:
    throttle = kind.make(LoginLimits())
    assert await admitted(throttle, *[("alice", HOME)] * 200) == 5
    assert await throttle.hit("alice", "203.0.113.8") is None


async def test_what_one_limit_refuses_counts_for_no_other(kind: Kind) -> None:
    limits = LoginLimits(
        account_at_address=(1_000, 1_000_000), address=(3, 3_000), account=(4, 4_000)
    )
    throttle = kind.make(limits)
    assert await admitted(throttle, *[("alice", HOME)] * 500) == 3
    assert await admitted(throttle, *[("alice", "203.0.113.8")] * 500) == 1


async def test_the_longest_wait_is_told(kind: Kind) -> None:
    limits = LoginLimits(account_at_address=(1, 10), address=(1, 5_000), account=(1, 100))
    throttle = kind.make(limits)
    assert await throttle.hit("alice", HOME) is None
    assert await throttle.hit("alice", HOME) == pytest.approx(5_000, abs=100)


async def test_a_right_password_gives_back_all_attempts_of_its_account_there(kind: Kind) -> None:
    throttle = kind.make(FEW)
    assert await admitted(throttle, *[("alice", HOME)] * 3, *[("bob", HOME)] * 3) == 6
    await throttle.clear("alice", HOME)
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 3
    assert await admitted(throttle, *[("bob", HOME)] * 9) == 0


async def test_a_right_password_gives_an_address_and_an_account_one_attempt_back(
    kind: Kind,
) -> None:
    # Else whoever has an account would guess at others' between logins of his own.
    by_address = kind.make(PER_ADDRESS)
    attempts = [("alice", HOME), ("bob", HOME), ("mallory", HOME)]
    assert await admitted(by_address, *attempts) == 3
    await by_address.clear("mallory", HOME)
    assert await admitted(by_address, *attempts) == 1


async def test_a_right_password_elsewhere_gives_an_account_one_attempt_back(kind: Kind) -> None:
    throttle = kind.make(PER_ACCOUNT)
    assert await admitted(throttle, *[("alice", f"203.0.113.{i}") for i in range(3)]) == 3
    await throttle.clear("alice", "203.0.113.1")
    assert await admitted(throttle, *[("alice", f"203.0.113.{i}") for i in range(10, 20)]) == 1


async def test_an_office_where_all_log_in_is_not_kept_out(kind: Kind) -> None:
    throttle = kind.make(PER_ADDRESS)
    for i in range(50):
        assert await throttle.hit(f"user{i}", HOME) is None
        await throttle.clear(f"user{i}", HOME)


async def test_clearing_what_was_not_counted_gives_no_attempts(kind: Kind) -> None:
    throttle = kind.make(PER_ADDRESS)
    for _ in range(9):
        await throttle.clear("alice", HOME)
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 3


async def test_attempts_at_the_same_time_are_counted_each(kind: Kind) -> None:
    throttles = [kind.make(FEW)] * 50
    waits = await asyncio.gather(*[throttle.hit("alice", HOME) for throttle in throttles])
    assert waits.count(None) == 3


@pytest.mark.parametrize(
    ("account", "address"),
    [
        ("", ""),
        ("\ud800", HOME),
        ("a\0b", HOME),
        ("a" * 1_000_000, HOME),
        ("\ufdfa" * 1_000, HOME),
        ("{fastkit}:*", "{fastkit}:*"),
        ("alice", "fe80::1%eth0"),
        ("alice", "/run/app.sock"),
        ("alice", "testclient"),
        ("alice", "\ud800\0é"),
    ],
)
async def test_any_text_is_an_account_and_any_an_address(
    kind: Kind, account: str, address: str
) -> None:
    throttle = kind.make(FEW)
    assert await admitted(throttle, *[(account, address)] * 9) == 3
    await throttle.clear(account, address)
    assert await throttle.hit(account, address) is None


SPELLINGS = [
    "ALICE",
    " alice\n",
    "\uff41lice",
    "alic\u00e9",
    "alice\u0301",
    "al\u200bice",
    "al\0ice",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_that_a_database_may_take_for_one_name_are_one(spelling: str) -> None:
    assert counter_keys(spelling, HOME) == counter_keys("alice", HOME)


@pytest.mark.parametrize(("one", "other"), [("alice", "alica"), ("a.b", "ab"), ("a b", "ab")])
def test_other_names_are_others(one: str, other: str) -> None:
    assert {*counter_keys(one, HOME)} & {*counter_keys(other, HOME)} == {counter_keys(one, HOME)[1]}


def test_an_account_and_an_address_are_never_mistaken_for_another_pair() -> None:
    assert len({*counter_keys("a", "bc"), *counter_keys("ab", "c"), *counter_keys("c", "a")}) == 9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
        ("2001:db8:0:1::1", "2001:0DB8:0000:0001::0001"),
        ("::1", "::2"),
        ("203.0.113.7", "::ffff:203.0.113.7"),
        ("fe80::1%eth0", "fe80::2"),
    ],
)
def test_addresses_of_one_customer_are_one(one: str, other: str) -> None:
    assert counter_keys("alice", one) == counter_keys("alice", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:2::1"),
        ("203.0.113.7", "203.0.113.8"),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8"),
        ("::1", "0.0.0.1"),
    ],
)
def test_addresses_of_others_are_others(one: str, other: str) -> None:
    assert {*counter_keys("alice", one)} & {*counter_keys("alice", other)} == {
        counter_keys("alice", one)[2]
    }


@pytest.mark.parametrize("name", ["account_at_address", "address", "account"])
@pytest.mark.parametrize(
    "limit", [(0, 60), (-1, 60), (5, 0), (5, -1), (5, float("inf")), (5, float("nan"))]
)
def test_what_is_no_limit_is_refused_at_once(name: str, limit: tuple[int, float]) -> None:
    limits: dict[str, Any] = {name: limit}
    with pytest.raises(ValueError, match=rf"^{name}=\({limit[0]}, {limit[1]}\) is no limit"):
        LoginLimits(**limits)


def run(coroutine: Coroutine[Any, Any, float | None]) -> float | None:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        answer: float | None = stop.value
        return answer
    raise AssertionError("it waits")


@given(st.lists(st.integers(0, 90), min_size=1, max_size=60))
def test_no_hour_has_more_attempts_than_the_limit_says(minutes: list[int]) -> None:
    now = 0
    times: list[int] = []
    throttle = MemoryThrottle(limits=LoginLimits(account_at_address=(4, 3600)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_throttle, "monotonic_ns", lambda: now * 60 * 10**9)
        for pause in minutes:
            now += pause
            wait = run(throttle.hit("alice", HOME))
            if wait is None:
                times.append(now)
            else:
                # It is enough to wait as long as it says, and to wait less is not.
                now += int(wait // 60) - 1
                assert run(throttle.hit("alice", HOME)) is not None
                now += 1
                assert run(throttle.hit("alice", HOME)) is None
                times.append(now)
    for start in times:
        assert len([time for time in times if start <= time < start + 60]) <= 8


async def test_memory_stays_bounded_whoever_asks() -> None:
    throttle = MemoryThrottle()
    tracemalloc.start()
    try:
        for i in range(40_000):
            await throttle.hit(f"user{i}", f"2001:db8:{i:x}::1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_million_keys_leave_no_more_than_there_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def numbered(account: str, address: str, *, key: bytes) -> list[bytes]:
        """As different as the digests, which take a minute."""
        return [f"{kind}{account}".encode() for kind in ("both", "address", "account")]

    monkeypatch.setattr(_throttle, "counter_keys", numbered)
    throttle = MemoryThrottle()
    most = 0
    for i in range(334_000):  # of which each is three
        await throttle.hit(str(i), HOME)
        most = max(most, len(vars(throttle)["_due"]))
    assert 90_000 < most <= 100_000


async def test_a_flood_of_others_does_not_make_a_throttle_forget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_throttle, "_MAX_COUNTERS", 300)
    throttle = MemoryThrottle()
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 5
    for i in range(10_000):
        await throttle.hit(f"user{i}", f"2001:db8:{i:x}::1")
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 0


async def test_names_are_not_kept_in_memory() -> None:
    throttle = MemoryThrottle()
    await throttle.hit("alice", HOME)
    kept = repr(vars(throttle))
    assert "alice" not in kept
    assert HOME not in kept
    # Nor digests that anybody could make of names, to see which of them it is.
    assert not any(repr(subject) in kept for subject in counter_keys("alice", HOME))


async def test_names_are_not_kept_in_redis(client: Redis, prefix: str) -> None:
    await RedisThrottle(client, prefix=prefix).hit("alice", HOME)
    kept = await keys(client, prefix)
    assert len(kept) == 3
    text = repr([*kept, *await client.mget(kept)])
    assert "alice" not in text
    assert HOME not in text


async def test_keys_in_redis_expire_when_all_attempts_are_back(client: Redis, prefix: str) -> None:
    throttle = RedisThrottle(client, limits=PER_ACCOUNT, prefix=prefix)
    assert await admitted(throttle, ("alice", HOME), ("alice", HOME), ("bob", HOME)) == 3
    assert await lives(client, prefix) == pytest.approx([1e6, 1e6, 2e6, 2e6, 3e6], rel=0.05)
    await throttle.clear("alice", HOME)
    assert await lives(client, prefix) == pytest.approx([1e6, 1e6, 1e6, 2e6], rel=0.05)
    await throttle.clear("bob", HOME)
    await throttle.clear("alice", HOME)
    assert await keys(client, prefix) == []


async def test_processes_share_the_counts_in_redis(redis_server: RedisServer, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(redis_server.url)) for _ in range(4)]
        throttles = [RedisThrottle(each, limits=FEW, prefix=prefix) for each in clients]
        hits = [throttle.hit("alice", HOME) for throttle in throttles for _ in range(10)]
        assert (await asyncio.gather(*hits)).count(None) == 3


@pytest.mark.parametrize("client", [True, False], indirect=True)
async def test_a_client_may_decode_responses_or_not(client: Redis, prefix: str) -> None:
    throttle = RedisThrottle(client, limits=FEW, prefix=prefix)
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 3
    assert await throttle.hit("alice", HOME) == pytest.approx(1_000, abs=100)


async def test_a_redis_that_forgot_the_scripts_is_given_them_again(
    client: Redis, prefix: str
) -> None:
    throttle = RedisThrottle(client, limits=FEW, prefix=prefix)
    assert await throttle.hit("alice", HOME) is None
    await client.script_flush()
    assert await admitted(throttle, *[("alice", HOME)] * 9) == 2


async def test_without_redis_nobody_guesses() -> None:
    async with connected("redis://127.0.0.1:1") as client:
        with pytest.raises(RedisConnectionError):
            await RedisThrottle(client).hit("alice", HOME)
