"""Who makes a request: the bearer token's user, looked up each time (RFC 6750)."""

import logging
from collections.abc import Iterable
from typing import Annotated, Generic, NamedTuple, TypeVar, cast

from fastapi import params
from fastapi.security import SecurityScopes
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from fastkit.auth._access import InvalidTokenError
from fastkit.auth._scheme import BearerScheme
from fastkit.auth._tokens import Tokens
from fastkit.auth._users import Account, Find, Users
from fastkit.errors import ForbiddenError, UnauthorizedError

__all__ = ("LACKS_SCOPE", "Bearer", "Principal", "bearer_token")

_U = TypeVar("_U")

_logger = logging.getLogger("fastkit.auth")

LACKS_SCOPE = "The access token lacks a scope that this needs."


def bearer_token(headers: Headers) -> str | None:
    """The token of an `Authorization` header (RFC 6750, section 2.1), which may be any text at all.

    None where there is no such header, or one for another scheme.
    """
    values = headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1:
        return ""  # two: nobody knows which one others looked at, so it is refused
    return token.strip(" ") if scheme.lower() == "bearer" else None


class Principal(NamedTuple, Generic[_U]):
    """Who makes a request, and what the request may do."""

    account: Account[_U]
    scopes: frozenset[str]
    """What the token is good for and the user may still do."""
    login_id: str | None = None
    """None where a test says who it is."""


class Bearer(Generic[_U]):
    """Authenticates requests and WebSockets by bearer token (RFC 6750).

    Args:
        tokens: Verifies tokens.
        users: Reads the user.
        checks_store: Whether each request asks the store if its login has ended.
    """

    def __init__(self, tokens: Tokens, users: Users[_U], /, *, checks_store: bool) -> None:
        self._tokens = tokens
        self._users = users
        self._checks_store = checks_store
        self.challenge: str = f'Bearer realm="{tokens.issuer}"'
        self.scheme = BearerScheme(tokens.audience)
        plain = users.plain_by_subject

        async def with_dependency(
            connection: HTTPConnection, find: Annotated[Find, users.by_subject]
        ) -> Principal[_U] | None:
            return await self._authenticate(connection, find)

        async def without_dependency(connection: HTTPConnection) -> Principal[_U] | None:
            return await self._authenticate(connection, cast("Find", plain))

        # Each dependency takes time in every request: there is none for what needs none.
        authenticate = with_dependency if plain is None else without_dependency
        authenticated = params.Depends(authenticate)
        # Beside what looks up the user, and not below it: FastAPI would run that anew for each
        # other set of scopes that a request's dependencies ask for.
        in_openapi = params.Depends(self.scheme)

        async def current_principal(
            found: Annotated[Principal[_U] | None, authenticated], _: Annotated[None, in_openapi]
        ) -> Principal[_U]:
            return self._authorize(found, ())

        async def current_user(
            found: Annotated[Principal[_U] | None, authenticated],
            needed: SecurityScopes,
            _: Annotated[None, in_openapi],
        ) -> _U:
            return self._authorize(found, needed.scopes).account.user

        async def optional_user(
            found: Annotated[Principal[_U] | None, authenticated], _: Annotated[None, in_openapi]
        ) -> _U | None:
            return None if found is None else found.account.user

        async def nobody() -> Principal[_U] | None:
            return None

        self.authenticate = authenticate
        self.nobody = nobody
        """What a test puts somebody in the place of, as in that of `authenticate`."""
        self.current_principal = current_principal
        self.current_user = current_user
        self.optional_user = optional_user

    async def verify(self, token: str, find: Find) -> tuple[Principal[_U], float]:
        """Whose token it is, and when it expires.

        Raises:
            InvalidTokenError: The token, its login or its user is not accepted.
        """
        tokens = self._tokens
        verified = tokens.access.verify(token)
        # Before the look-up, for whose session there may be but one connection.
        if self._checks_store:
            login = await tokens.store.get(verified.login_id)
            if login is None or login.expires_at <= tokens.clock():
                raise InvalidTokenError("its login has ended")
        user: _U | None = await find(verified.subject)
        if user is None:
            raise InvalidTokenError("there is no such user")
        account = self._users.read(user)
        if account.is_disabled:
            raise InvalidTokenError("the user is disabled")
        if not tokens.stamps.fits(verified.stamp, account.password_hash):
            raise InvalidTokenError("the user has another password")
        scopes = verified.scopes.intersection(account.scopes)
        return Principal(account, scopes, verified.login_id), verified.expires_at

    async def _authenticate(self, connection: HTTPConnection, find: Find) -> Principal[_U] | None:
        token = bearer_token(connection.headers)
        if token is None:
            return None
        try:
            return (await self.verify(token, find))[0]
        except InvalidTokenError as error:
            _logger.debug("an access token is refused: %s", error.reason)
            challenge = f'{self.challenge}, error="invalid_token", error_description="{error}"'
            raise UnauthorizedError(str(error), challenge=challenge) from None

    def _authorize(self, found: Principal[_U] | None, needed: Iterable[str]) -> Principal[_U]:
        if found is None:
            # RFC 6750, section 3.1: without a token there is no error to tell of.
            raise UnauthorizedError("Not authenticated.", challenge=self.challenge)
        if not found.scopes.issuperset(needed):
            scope = " ".join(needed)
            challenge = f'{self.challenge}, error="insufficient_scope", scope="{scope}"'
            raise ForbiddenError(LACKS_SCOPE, headers={"WWW-Authenticate": challenge})
        return found
