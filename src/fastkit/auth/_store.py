"""Logins, and where they are kept."""

from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

__all__ = ("PRUNED_AT_ONCE", "Login", "MemoryTokenStore", "TokenStore")

PRUNED_AT_ONCE = 100
"""How many expired logins `add` drops at most, so that no sign-in waits for a year's."""


@dataclass(frozen=True, slots=True)
class Login:
    """One sign-in of a user: the family of refresh tokens that came of it (RFC 9700, 4.14.2)."""

    id: str
    """32 hexadecimal digits."""
    subject: str
    scopes: tuple[str, ...]
    """What was granted; a refresh can ask for less."""
    stamp: str = field(repr=False)
    """Changes when the user's password hash does."""
    nonce_hash: str = field(repr=False)
    """SHA-256 of the secret part of its refresh tokens, in hexadecimal digits."""
    generation: int
    """How many times it was refreshed: that of the newest refresh token."""
    used_at: float
    """When it was last refreshed, or began, in seconds since 1970."""
    expires_at: float
    """When its newest refresh token expires, in seconds since 1970."""


class TokenStore(Protocol):
    """Keeps logins, for all processes that share it.

    It has no clock. An expired login may be returned or not; whoever asks looks at its times.
    """

    async def add(self, login: Login, /) -> None:
        """Keep a new login, and drop some of those that expired before its `used_at`."""
        ...

    async def get(self, login_id: str, /) -> Login | None:
        """The login, or None if there is none or it was removed."""
        ...

    async def advance(
        self, login_id: str, generation: int, /, *, stamp: str, used_at: float, expires_at: float
    ) -> bool:
        """Make the login's generation one more if it is `generation`, and set the rest, atomically.

        Returns:
            Whether it was: False where another refresh came first, or the login was removed.
        """
        ...

    async def remove(self, login_id: str, /) -> bool:
        """Remove the login; whether there was one."""
        ...

    async def remove_all(self, subject: str, /) -> int:
        """Remove all logins of a subject; how many there were."""
        ...


class MemoryTokenStore:
    """Logins in the memory of this process: they end with it, and no other process knows them.

    Several workers need a `SQLTokenStore` or `RedisTokenStore`: with this one, each would refuse
    the refresh tokens of the others.

    Args:
        max_logins: When there are more, the one that expires first ends.

    Raises:
        ValueError: `max_logins` is less than 1.
    """

    def __init__(self, *, max_logins: int = 100_000) -> None:
        if max_logins < 1:
            raise ValueError(f"max_logins is {max_logins}, which leaves no room for a login.")
        self._max_logins = max_logins
        self._logins: dict[str, Login] = {}
        self._by_subject: dict[str, set[str]] = {}
        # A heap, where what was advanced or removed is left until its time comes.
        self._expiries: list[tuple[float, str]] = []

    async def add(self, login: Login, /) -> None:
        """As `TokenStore` says."""
        for _ in range(PRUNED_AT_ONCE):
            if not self._expiries or self._expiries[0][0] >= login.used_at:
                break
            self._drop_first()
        while len(self._logins) >= self._max_logins:
            self._drop_first()
        self._by_subject.setdefault(login.subject, set()).add(login.id)
        self._keep(login)

    async def get(self, login_id: str, /) -> Login | None:
        """As `TokenStore` says."""
        return self._logins.get(login_id)

    async def advance(
        self, login_id: str, generation: int, /, *, stamp: str, used_at: float, expires_at: float
    ) -> bool:
        """As `TokenStore` says."""
        login = self._logins.get(login_id)
        if login is None or login.generation != generation:
            return False
        changes: dict[str, Any] = {"stamp": stamp, "used_at": used_at, "expires_at": expires_at}
        self._keep(replace(login, generation=generation + 1, **changes))
        return True

    async def remove(self, login_id: str, /) -> bool:
        """As `TokenStore` says."""
        return self._forget(login_id)

    async def remove_all(self, subject: str, /) -> int:
        """As `TokenStore` says."""
        return sum(map(self._forget, tuple(self._by_subject.get(subject, ()))))

    def _keep(self, login: Login) -> None:
        self._logins[login.id] = login
        heappush(self._expiries, (login.expires_at, login.id))
        if len(self._expiries) > 2 * len(self._logins) + PRUNED_AT_ONCE:
            self._expiries = [(kept.expires_at, kept.id) for kept in self._logins.values()]
            heapify(self._expiries)

    def _drop_first(self) -> None:
        expires_at, login_id = heappop(self._expiries)
        login = self._logins.get(login_id)
        if login is not None and login.expires_at == expires_at:
            self._forget(login_id)

    def _forget(self, login_id: str) -> bool:
        login = self._logins.pop(login_id, None)
        if login is None:
            return False
        ids = self._by_subject[login.subject]
        ids.remove(login_id)
        if not ids:
            del self._by_subject[login.subject]
        return True
