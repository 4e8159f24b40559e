"""Slowing down whoever guesses passwords."""

import unicodedata
from dataclasses import dataclass, fields
from hashlib import blake2b
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import isfinite
from secrets import token_bytes
from time import monotonic_ns
from typing import Protocol

__all__ = ("LoginLimits", "MemoryThrottle", "Throttle", "counter_keys")

_MAX_COUNTERS = 100_000
_MAX_NAME = 256


class Throttle(Protocol):
    """Counts attempts to log in, for all processes that share it."""

    async def hit(self, account: str, address: str, /) -> float | None:
        """Count an attempt, atomically, before the password is looked at.

        Args:
            account: The name that was sent, whether there is such an account or not.
            address: Where the client is, as the server saw it and no header says.

        Returns:
            None; or the seconds to wait, where there were too many, and then it is not counted.
        """
        ...

    async def clear(self, account: str, address: str, /) -> None:
        """Take back all attempts at an account from an address, since its password was right.

        Of what is counted of the address and of the account together with others, it is the last.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoginLimits:
    """How many failed logins are too many, as pairs of attempts and seconds.

    So many attempts can be made at once, and as many again in so many seconds, one at a time. By
    default nobody guesses at an account more than 100 times in an hour (OWASP ASVS 4.0, 2.2.1), and
    to keep its owner out a stranger needs ten addresses. Nobody is ever kept out for good.

    Raises:
        ValueError: There is no such limit, since a number is not positive or has no end.
    """

    account_at_address: tuple[int, float] = (5, 600)
    """Of an account from one address."""
    address: tuple[int, float] = (100, 600)
    """Of all accounts from one address, which may be that of an office. An IPv6 address stands for
    its /64 network: one customer has no less."""
    account: tuple[int, float] = (50, 3600)
    """Of an account from all addresses."""

    def __post_init__(self) -> None:
        for field in fields(self):
            attempts, seconds = getattr(self, field.name)
            if attempts < 1 or not (isfinite(seconds) and seconds > 0):
                raise ValueError(
                    f"{field.name}={(attempts, seconds)!r} is no limit: use a positive number of"
                    " attempts and one of seconds, such as (5, 600)."
                )

    def paces(self) -> list[tuple[int, int]]:
        """For each: in how many microseconds an attempt comes back, and in how many all do."""
        limits: list[tuple[int, float]] = [self.account_at_address, self.address, self.account]
        intervals = [max(1, round(seconds * 1e6 / attempts)) for attempts, seconds in limits]
        return [(each, each * limit[0]) for each, limit in zip(intervals, limits, strict=True)]


def counter_keys(account: str, address: str, *, key: bytes = b"") -> list[bytes]:
    """What is counted, in the order of the limits: digests, so that no name can be read there.

    Names that a database may take for one are one, or each spelling would have attempts of its own:
    case, accents, invisible characters and the spaces around are ignored.
    """
    letters = unicodedata.normalize("NFKD", account.strip()[:_MAX_NAME]).casefold()
    name = "".join(each for each in letters if unicodedata.category(each)[0] not in "CM")
    network = _network(address)
    return [
        blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=16, key=key).digest()
        for parts in (
            ("account_at_address", name, network),
            ("address", network),
            ("account", name),
        )
    ]


def _network(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address  # of a socket in the file system or of a test client
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or IPv6Network((int(found), 64), strict=False))


class MemoryThrottle:
    """Counts in this process: a server with several processes lets through more.

    It takes 20 MB at most: beyond that it forgets whoever has used up the least.

    Args:
        limits: How many failed logins are too many; `LoginLimits()` unless they are given.
    """

    # The package `limits` has no hit that counts for three limits or for none of them, keeps each
    # key until its time is over, 300 bytes for one limit, and its Redis part wants redis before 8.

    def __init__(self, *, limits: LoginLimits | None = None) -> None:
        self._paces = (limits or LoginLimits()).paces()
        self._key = token_bytes()
        # When a counter will have back all that it used up, in microseconds: an attempt puts that
        # off by an interval (the generic cell rate algorithm).
        self._due: dict[bytes, int] = {}

    async def hit(self, account: str, address: str, /) -> float | None:
        """As `Throttle` says."""
        now = _now()
        wait = 0
        due: dict[bytes, int] = {}
        for subject, (interval, most) in self._counter_keys(account, address):
            due[subject] = max(now, self._due.get(subject, now)) + interval
            wait = max(wait, due[subject] - now - most)
        if wait:
            return wait / 1e6
        self._due.update(due)
        if len(self._due) > _MAX_COUNTERS:
            self._forget(now)
        return None

    async def clear(self, account: str, address: str, /) -> None:
        """As `Throttle` says."""
        (both, _), *others = self._counter_keys(account, address)
        self._due.pop(both, None)
        for subject, (interval, _) in others:
            if subject in self._due:
                self._due[subject] -= interval

    def _counter_keys(self, account: str, address: str) -> list[tuple[bytes, tuple[int, int]]]:
        return list(zip(counter_keys(account, address, key=self._key), self._paces, strict=True))

    def _forget(self, now: int) -> None:
        middle = max(now, sorted(self._due.values())[len(self._due) // 2])
        self._due = {subject: due for subject, due in self._due.items() if due > middle}


def _now() -> int:
    return monotonic_ns() // 1000
