"""Refresh tokens: each is used once, and one that comes back ends its login (RFC 9700, 4.14.2)."""

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from hmac import compare_digest
from struct import Struct

from fastkit import _base64url
from fastkit.auth._keys import Key, Keyring
from fastkit.auth._store import Login, TokenStore

__all__ = ("InvalidGrantError", "Presented", "RefreshTokens", "ReusedTokenError")

_VERSION = 1
_BODY = Struct(">B16sI16s")  # version, login, generation, nonce
_MAC = 32
_LENGTH = 92  # of the text for these and the MAC


class InvalidGrantError(Exception):
    """A refresh token is refused. The text is for logs; a client learns `invalid_grant` alone."""


class ReusedTokenError(InvalidGrantError):
    """A refresh token came back after its time, as a stolen one does: its login has ended."""

    def __init__(self, login: Login) -> None:
        super().__init__("the refresh token was used before: its login has been ended")
        self.login = login
        """As it was."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token that somebody has shown and may exchange, and its login as it was then."""

    login: Login
    generation: int
    """The token's: the login's while it is the newest, and one less in the grace."""
    nonce: bytes = field(repr=False)


class RefreshTokens:
    """Makes refresh tokens and exchanges each for its successor.

    A token says which login and generation it is, with a nonce that it shares with its successors
    and a MAC. So a forged one costs no look at the store, which has nothing that is a token or
    makes one: it knows the hash of the nonce, and the MAC takes the key. The successor of a token
    follows from the token and the key: whoever has lost a race gets what the winner got.

    Args:
        keyring: Its first key makes tokens, those of all are accepted.
        store: Where the logins are.
        issuer: Tokens are good for one issuer and audience, as access tokens are: Auths that share
            their key and store do not take each other's.
        audience: See `issuer`.
        lifetime: Seconds until a token that is not used expires; its successor starts anew.
        grace: Seconds in which a token that was used gives its successor again: for a second tab,
            or a client that the answer did not reach. With 0, a token gives a successor once. Who
            shows the same token while it is being exchanged is refused, and the login goes on: that
            is who found it to be the newest, and came second. Whoever finds it used is a thief.
        clock: Gives seconds since 1970.
    """

    def __init__(
        self,
        keyring: Keyring,
        store: TokenStore,
        /,
        *,
        issuer: str,
        audience: str,
        lifetime: float,
        grace: float,
        clock: Callable[[], float],
    ) -> None:
        context = json.dumps([issuer, audience]).encode()
        self._macs = [_mac_of(key, context) for key in keyring.keys]
        self._store = store
        self._lifetime = lifetime
        self._grace = grace
        self._clock = clock

    async def start(self, subject: str, scopes: Iterable[str], stamp: str, /) -> tuple[Login, str]:
        """Begin a login; its first refresh token."""
        now = self._clock()
        nonce = secrets.token_bytes(16)
        login = Login(
            id=secrets.token_hex(16),
            subject=subject,
            scopes=tuple(scopes),
            stamp=stamp,
            nonce_hash=_hashed(nonce),
            generation=0,
            used_at=now,
            expires_at=now + self._lifetime,
        )
        await self._store.add(login)
        return login, self._token(login.id, 0, nonce)

    async def check(self, token: str, /) -> Presented:
        """Look at a token that is shown to be exchanged, and end its login if it was used before.

        That has to be done at once: whatever else is wrong with the request, it may be all that is
        ever seen of a theft.

        Raises:
            ReusedTokenError: It was used before, and longer ago than the grace. (Or the store has
                gone back to an older state, and would take older tokens.) Its login has ended.
            InvalidGrantError: It is none of ours, or its login has ended.
        """
        asked = self._clock()
        login, generation, nonce = await self._found(token, asked)
        if generation != login.generation:
            answered = self._clock()
            # A token that was used while the store was asked was the newest when it was shown. And
            # clocks of two machines differ, in both directions.
            distance = max(0.0, asked - login.used_at, login.used_at - answered)
            if generation + 1 != login.generation or distance >= self._grace:
                await self._store.remove(login.id)
                raise ReusedTokenError(login)
        return Presented(login, generation, nonce)

    async def rotate(self, presented: Presented, stamp: str, /) -> str:
        """Exchange a token for its successor. Who has lost a race is no thief, however slow.

        Args:
            presented: The token.
            stamp: What the login's stamp is from now on.

        Raises:
            InvalidGrantError: Its login has ended meanwhile, or another exchange came first that
                leaves nothing to this one.
        """
        login, generation = presented.login, presented.generation
        successor = self._token(login.id, generation + 1, presented.nonce)
        now = self._clock()
        if generation == login.generation and await self._store.advance(
            login.id, generation, stamp=stamp, used_at=now, expires_at=now + self._lifetime
        ):
            return successor
        newest = await self._store.get(login.id)
        if newest is None:
            raise InvalidGrantError("the login of the refresh token has ended meanwhile")
        if self._grace and generation + 1 == newest.generation:
            return successor
        raise InvalidGrantError("another exchange of the refresh token came first")

    async def revoke(self, token: str, /) -> Login | None:
        """End the login of a token, which need not be the newest; the login, if there was one."""
        try:
            login, *_ = await self._found(token, self._clock())
        except InvalidGrantError:
            return None
        return login if await self._store.remove(login.id) else None

    async def revoke_login(self, login_id: str, /) -> bool:
        """End a login; whether there was one."""
        return await self._store.remove(login_id)

    async def revoke_all(self, subject: str, /) -> int:
        """End all logins of a subject; how many there were."""
        return await self._store.remove_all(subject)

    async def _found(self, token: str, now: float) -> tuple[Login, int, bytes]:
        """The login of a token, the token's generation and its nonce."""
        login_id, generation, nonce = self._parsed(token)
        login = await self._store.get(login_id)
        if login is None or not compare_digest(login.nonce_hash, _hashed(nonce)):
            raise InvalidGrantError("the login of the refresh token has ended")
        if login.expires_at <= now:
            raise InvalidGrantError("the refresh token has expired")
        return login, generation, nonce

    def _token(self, login_id: str, generation: int, nonce: bytes) -> str:
        body = _BODY.pack(_VERSION, bytes.fromhex(login_id), generation, nonce)
        return _base64url.encode(body + _digest(self._macs[0], body))

    def _parsed(self, token: str) -> tuple[str, int, bytes]:
        """The login's id, the generation and the nonce."""
        refusal = InvalidGrantError("not a refresh token of this app")
        if len(token) != _LENGTH:
            raise refusal
        try:
            raw = _base64url.decode(token)
        except ValueError:
            raise refusal from None
        body, mac = raw[:-_MAC], raw[-_MAC:]
        if not any(compare_digest(mac, _digest(started, body)) for started in self._macs):
            raise refusal
        version, login_id, generation, nonce = _BODY.unpack(body)
        if version != _VERSION:
            raise refusal
        return login_id.hex(), generation, nonce


def _mac_of(key: Key, context: bytes) -> blake2b:
    return blake2b(context, key=key.derive(b"refresh"), digest_size=_MAC, person=b"fastkit.refresh")


def _digest(started: blake2b, body: bytes) -> bytes:
    mac = started.copy()
    mac.update(body)
    return mac.digest()


def _hashed(nonce: bytes) -> str:
    return sha256(nonce).hexdigest()
