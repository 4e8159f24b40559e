"""Access tokens: JWTs (RFC 7519) in the profile of RFC 9068, which only this app accepts."""

import json
import re
from collections.abc import Callable, Iterable
from math import ceil
from secrets import token_urlsafe
from typing import Any, NamedTuple, cast

from fastkit._base64url import decode, encode
from fastkit.auth._keys import Key, Keyring

__all__ = ("AccessToken", "AccessTokens", "InvalidTokenError", "check_scopes")

_TYPE = "at+jwt"
_MAX_LENGTH = 8192
_SKEW = 60  # seconds by which the clock of another machine may be ahead
_MAX_TIME = 2**53  # what is less can be computed with as a float
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")  # RFC 6749, section 3.3

_TEXTS = ("iss", "sub", "aud", "jti", "sid", "scope", "stp")
_MAY_BE_EMPTY = ("scope", "stp")
_TIMES = ("exp", "iat")

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def check_scopes(scopes: Iterable[str]) -> None:
    """Raise ValueError for what is no scope (RFC 6749, section 3.3)."""
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(
                f"{scope!r} is no scope: use printable ASCII characters without spaces, double "
                "quotes and backslashes (RFC 6749, section 3.3)."
            )


class InvalidTokenError(Exception):
    """A token is not accepted. The text is the same for each, and may be shown to a client."""

    def __init__(self, reason: str) -> None:
        super().__init__("The access token is not valid.")
        self.reason = reason
        """Why, for logs: one of a few texts, with nothing of the token in it."""


class AccessToken(NamedTuple):
    """What an access token says that was issued here, and has not expired."""

    subject: str
    """Whose it is (`sub`)."""
    scopes: frozenset[str]
    """What it is good for (`scope`)."""
    login_id: str
    """The login it comes from (`sid`)."""
    stamp: str
    """What the user's stamp was (`stp`): it changes when the password does."""
    expires_at: int
    """In seconds since 1970 (`exp`)."""
    issued_at: int
    """In seconds since 1970 (`iat`)."""
    jti: str
    """Its own name, which no other token has."""

    def __repr__(self) -> str:
        return f"AccessToken(subject={self.subject!r}, jti={self.jti!r})"  # without the stamp


class AccessTokens:
    """Issues access tokens, and verifies them.

    Args:
        keyring: Its first key signs.
        issuer: The `iss` of the tokens.
        audience: The `aud` of the tokens.
        lifetime: Seconds until a token expires.
        clock: Gives seconds since 1970.
    """

    def __init__(
        self,
        keyring: Keyring,
        /,
        *,
        issuer: str,
        audience: str,
        lifetime: float,
        clock: Callable[[], float],
    ) -> None:
        self._signing = keyring.signing
        self._header = _header(keyring.signing)
        # By the header as it stands in a token. Nothing of a header is ever parsed: no member of
        # it is obeyed, not even looked at (RFC 8725, sections 3.1, 3.10 and 3.11).
        self._keys = {_header(key): key for key in keyring.keys}
        self._issuer = issuer
        self._audience = audience
        self.lifetime = lifetime
        self._clock = clock

    def issue(self, subject: str, scopes: Iterable[str], login_id: str, stamp: str) -> str:
        """A new token.

        Raises:
            ValueError: A scope is malformed (RFC 6749, section 3.3), another argument is empty or
                no text, or all of it is more than a token may hold.
        """
        granted = list(scopes)
        check_scopes(granted)
        now = self._clock()
        claims = {
            "iss": self._issuer,
            "sub": subject,
            "aud": self._audience,
            "exp": ceil(now + self.lifetime),
            "iat": int(now),
            "jti": token_urlsafe(16),
            "scope": " ".join(granted),
            "sid": login_id,
            "stp": stamp,
        }
        if fault := _find_fault(claims):
            raise ValueError(f"No access token can say this: {fault}.")
        message = f"{self._header}.{encode(_dump(claims).encode())}"
        token = f"{message}.{encode(self._signing.sign(message.encode()))}"
        if len(token) > _MAX_LENGTH:
            raise ValueError(
                f"The access token has {len(token)} characters and may have {_MAX_LENGTH}: use a "
                f"shorter subject, or fewer than {len(granted)} scopes."
            )
        return token

    def verify(self, token: str, /) -> AccessToken:
        """What the token says.

        Raises:
            InvalidTokenError: It was not issued here, or has expired. Nothing else is raised for
                any string.
        """
        if len(token) > _MAX_LENGTH:
            raise InvalidTokenError("it is too long")
        message, _, signature = token.rpartition(".")
        header, _, payload = message.partition(".")
        key = self._keys.get(header)
        if key is None:
            raise InvalidTokenError("it has no header of a key of ours (alg, kid, typ)")
        try:
            genuine = key.verify(message.encode("ascii"), decode(signature))
        except ValueError:
            genuine = False
        if not genuine:
            raise InvalidTokenError("its signature is wrong")
        # Nothing is parsed before this, and nothing but what someone with the key has written.
        claims = _parse(payload)
        if claims is None:
            raise InvalidTokenError("its claims are no JSON object")
        fault = _find_fault(claims) or self._find_refusal(claims)
        if fault:
            raise InvalidTokenError(fault)
        return AccessToken(
            subject=claims["sub"],
            scopes=frozenset(claims["scope"].split()),
            login_id=claims["sid"],
            stamp=claims["stp"],
            expires_at=claims["exp"],
            issued_at=claims["iat"],
            jti=claims["jti"],
        )

    def _find_refusal(self, claims: dict[str, Any]) -> str | None:
        if claims["iss"] != self._issuer:
            return "it has another issuer"
        if claims["aud"] != self._audience:
            return "it is for another audience"
        now = self._clock()
        if claims["exp"] <= now:
            return "it has expired"
        if claims["iat"] > now + _SKEW:
            return "it is from the future"
        return None


def _header(key: Key) -> str:
    """The first part of all tokens of a key."""
    header = {"alg": key.algorithm, "kid": key.kid, "typ": _TYPE}
    # As PyJWT writes it, so that what it makes with the same key is taken too.
    return encode(json.dumps(header, separators=(",", ":")).encode())


def _parse(payload: str) -> dict[str, Any] | None:
    try:
        claims = json.loads(decode(payload).decode())
    except (RecursionError, ValueError):
        return None
    return cast("dict[str, Any]", claims) if isinstance(claims, dict) else None


def _find_fault(claims: dict[str, Any]) -> str | None:
    """Which claim is missing or wrong in itself: in a token shown to us, or to be issued."""
    for name in _TEXTS:
        value = claims.get(name)
        if not isinstance(value, str) or not (value or name in _MAY_BE_EMPTY):
            return f"the claim {name} is missing, empty or no text"
    for name in _TIMES:
        value = claims.get(name)
        # No float: each comparison with NaN is False.
        if type(value) is not int or not 0 <= value < _MAX_TIME:
            return f"the claim {name} is {'no time' if name in claims else 'missing'}"
    if "nbf" in claims:
        return "it has a claim nbf"
    try:
        "".join([claims[name] for name in _TEXTS]).encode()
    except UnicodeEncodeError:  # JSON can write a lone surrogate
        return "a claim is no Unicode"
    return None
