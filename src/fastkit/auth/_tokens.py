"""All that is signed with the keys of an `Auth`."""

import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from hmac import compare_digest

from fastkit.auth._access import AccessTokens
from fastkit.auth._keys import Keyring
from fastkit.auth._refresh import RefreshTokens
from fastkit.auth._store import TokenStore

__all__ = ("Stamps", "Tokens")

# What stands between the double quotes of a challenge as it is (RFC 9110, section 5.6.4).
_QUOTABLE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+( [\x21\x23-\x5B\x5D-\x7E]+)*")


class Stamps:
    """Tell whether a user's password hash is still what it was, and nothing else of it."""

    def __init__(self, keyring: Keyring, /) -> None:
        self._keys = [key.derive(b"stamp") for key in keyring.keys]

    def of(self, password_hash: str | None, /) -> str:
        """The stamp of a password hash."""
        return _stamp(self._keys[0], password_hash)

    def fits(self, stamp: str, password_hash: str | None, /) -> bool:
        """Whether `stamp` is of that hash, by any of the keys."""
        return any(compare_digest(_stamp(key, password_hash), stamp) for key in self._keys)


def _stamp(key: bytes, password_hash: str | None) -> str:
    data = b"" if password_hash is None else b"=" + password_hash.encode(errors="surrogatepass")
    return blake2b(data, key=key, digest_size=16).hexdigest()


class Tokens:
    """Tokens of one issuer for one audience.

    Raises:
        TypeError: A lifetime is no timedelta.
        ValueError: A lifetime is not positive, or a name is not printable ASCII.
    """

    def __init__(
        self,
        keyring: Keyring,
        store: TokenStore,
        /,
        *,
        issuer: str,
        audience: str,
        access_lifetime: timedelta,
        refresh_lifetime: timedelta,
        grace: timedelta,
        clock: Callable[[], float],
    ) -> None:
        for option, name in {"issuer": issuer, "audience": audience}.items():
            if not _QUOTABLE.fullmatch(name):
                raise ValueError(
                    f"{option}={name!r} is no name of a server: use printable ASCII characters "
                    "without double quotes and backslashes, such as https://api.example.com."
                )
        self.keyring = keyring
        self.store = store
        self.issuer = issuer
        self.audience = audience
        self.clock = clock
        self.stamps = Stamps(keyring)
        self.access = AccessTokens(
            keyring,
            issuer=issuer,
            audience=audience,
            lifetime=_seconds("access_lifetime", access_lifetime),
            clock=clock,
        )
        self.refresh = RefreshTokens(
            keyring,
            store,
            issuer=issuer,
            audience=audience,
            lifetime=_seconds("refresh_lifetime", refresh_lifetime),
            grace=_seconds("grace", grace, may_be_zero=True),
            clock=clock,
        )


def _seconds(option: str, duration: object, *, may_be_zero: bool = False) -> float:
    if not isinstance(duration, timedelta):
        raise TypeError(f"{option}={duration!r} is no timedelta: write timedelta(minutes=15).")
    seconds = duration.total_seconds()
    if seconds < 0 or (seconds == 0 and not may_be_zero):
        raise ValueError(f"{option}={duration!r} is no time to live: use a longer one.")
    return seconds
