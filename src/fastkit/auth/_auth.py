"""`Auth`: who may log in, and who makes a request."""

import time
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar, Unpack, overload

from fastapi import FastAPI, WebSocket, params

from fastkit.auth._access import check_scopes
from fastkit.auth._bearer import Bearer, Principal
from fastkit.auth._events import AuthEvent, EventHook
from fastkit.auth._grants import Grants
from fastkit.auth._keys import Key, Keyring
from fastkit.auth._passwords import BcryptHasher, PasswordHasher, Passwords
from fastkit.auth._scheme import ReadyDependency
from fastkit.auth._store import MemoryTokenStore, TokenStore
from fastkit.auth._throttle import MemoryThrottle, Throttle
from fastkit.auth._tokens import Tokens
from fastkit.auth._users import GetUser, Users, as_async, check_callable
from fastkit.auth._websocket import Renewals, websocket_user

__all__ = ("Auth", "AuthOptions", "Parts")

_U = TypeVar("_U")


class AuthOptions(TypedDict, Generic[_U], total=False):
    """The options of `Auth`, which says what they are."""

    get_user_by_subject: Callable[[str], Awaitable[_U | None] | _U | None] | params.Depends
    secret: str | bytes
    keys: Sequence[Key]
    subject: Callable[[_U], str]
    hashed_password: Callable[[_U], str | None]
    disabled: Callable[[_U], bool]
    scopes: Callable[[_U], Iterable[str]]
    hasher: PasswordHasher
    save_password_hash: Callable[[_U, str], Awaitable[object] | object]
    store: TokenStore
    throttle: Throttle
    issuer: str
    audience: str
    access_lifetime: timedelta
    refresh_lifetime: timedelta
    grace: timedelta
    revoke_access_at_once: bool
    on_event: Callable[[AuthEvent[_U]], Awaitable[None] | None]
    clock: Callable[[], float]


class Parts(NamedTuple):
    """What an `Auth` is made of, for its router."""

    tokens: Tokens
    users: Users[Any]
    bearer: Bearer[Any]
    grants: Grants[Any]


class Auth(Generic[_U]):
    """Logins by password, with access tokens and refresh tokens; and who makes a request.

        auth = Auth(secret=settings.secret, get_user=find_user)
        app.include_router(auth_router(auth), prefix="/auth")
        CurrentUser = Annotated[User, auth.current_user]

    Args:
        get_user: Finds a user by name, and gives None where there is none. One without `async` runs
            in a thread, which takes longer. May be a `Depends(...)` that gives such a function, on
            the session of the request.
        get_user_by_subject: Finds a user by what `subject` gives.
        secret: Signs the tokens: at least 32 random bytes. Either this or `keys`.
        keys: Keys, of which the first signs and all verify.
        subject: A user's identifier in tokens (`sub`), by default the `username`. It must never
            change or pass to another user: where usernames can, give the primary key.
        hashed_password: The hash of a user's password, or None. By default `hashed_password`.
        disabled: Whether a user may not log in and use tokens. By default `disabled`, if there is
            such an attribute.
        scopes: What a user may do. By default `scopes`, if there is such an attribute.
        hasher: Hashes passwords and verifies them. By default `BcryptHasher()`.
        save_password_hash: Keeps a user's new hash of the same password, when the old one is
            outdated. The other logins of the user end by that.
        store: Keeps the logins. By default in the memory of this process.
        throttle: Counts failed logins. By default in the memory of this process.
        issuer: Who makes the tokens, and the realm that a 401 names.
        audience: Whom they are for: by default the issuer. Each `Auth` of an app needs one of its
            own, by which OpenAPI names it, too.
        access_lifetime: How long an access token is good for.
        refresh_lifetime: How long an unused refresh token is good for.
        grace: For how long a used refresh token still gives the same successor.
        revoke_access_at_once: Ask the store with each request, so that a logout ends the access
            tokens as well. Otherwise these are good until they expire.
        on_event: Is called with each `AuthEvent`.
        clock: Gives seconds since 1970.

    Raises:
        TypeError: An option is of another type.
        ValueError: An option is no good, such as a secret that can be guessed.
    """

    # From one union a type checker could take the coroutine for the user.
    @overload
    def __init__(
        self, *, get_user: Callable[[str], Awaitable[_U | None]], **options: Unpack[AuthOptions[_U]]
    ) -> None: ...
    @overload
    def __init__(
        self, *, get_user: Callable[[str], _U | None], **options: Unpack[AuthOptions[_U]]
    ) -> None: ...
    @overload
    def __init__(self, *, get_user: params.Depends, **options: Unpack[AuthOptions[_U]]) -> None: ...
    def __init__(
        self,
        *,
        get_user: GetUser,
        get_user_by_subject: GetUser | None = None,
        secret: str | bytes | None = None,
        keys: Sequence[Key] | None = None,
        subject: Callable[[_U], str] | None = None,
        hashed_password: Callable[[_U], str | None] | None = None,
        disabled: Callable[[_U], bool] | None = None,
        scopes: Callable[[_U], Iterable[str]] | None = None,
        hasher: PasswordHasher | None = None,
        save_password_hash: Callable[[_U, str], Awaitable[object] | object] | None = None,
        store: TokenStore | None = None,
        throttle: Throttle | None = None,
        issuer: str = "fastkit",
        audience: str | None = None,
        access_lifetime: timedelta = timedelta(minutes=15),
        refresh_lifetime: timedelta = timedelta(days=30),
        grace: timedelta = timedelta(seconds=10),
        revoke_access_at_once: bool = False,
        on_event: EventHook[_U] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        users = Users(
            get_user,
            get_user_by_subject,
            subject=subject,
            hashed_password=hashed_password,
            disabled=disabled,
            scopes=scopes,
            save_password_hash=save_password_hash,
        )
        tokens = Tokens(
            Keyring(_keys_of(secret, keys)),
            MemoryTokenStore() if store is None else store,
            issuer=issuer,
            audience=issuer if audience is None else audience,
            access_lifetime=access_lifetime,
            refresh_lifetime=refresh_lifetime,
            grace=grace,
            clock=clock,
        )
        bearer = Bearer(tokens, users, checks_store=revoke_access_at_once)
        self._passwords = Passwords(BcryptHasher() if hasher is None else hasher)
        grants = Grants(
            tokens,
            users,
            passwords=self._passwords,
            throttle=MemoryThrottle() if throttle is None else throttle,
            on_event=on_event,
        )
        self._parts = Parts(tokens, users, bearer, grants)
        self._renewals: Renewals[_U] = {}
        self.current_user: params.Depends = ReadyDependency(bearer.current_user)
        """Who makes the request, as `Annotated[User, auth.current_user]`. Nobody is a 401."""
        self.optional_user: params.Depends = ReadyDependency(bearer.optional_user)
        """The same, or None for a request without a token. A bad token is a 401 here, too."""

    def require(self, *scopes: str) -> params.Depends:
        """Who makes the request, if the token is good for all of `scopes`; otherwise 403.

            @app.delete("/items/{item_id}", dependencies=[auth.require("items:write")])

        A token is good for what was granted and its user may still do.

        Raises:
            ValueError: No scope is given, or one is malformed (RFC 6749, section 3.3).
        """
        if not scopes:
            raise ValueError("require() names no scope: use auth.current_user for any user.")
        check_scopes(scopes)
        self._parts.bearer.scheme.add_scopes(scopes)
        return ReadyDependency(self._parts.bearer.current_user, scopes=scopes)

    def websocket_user(
        self,
        *scopes: str,
        origins: Collection[str] = (),
        first_message: bool = False,
        query_parameter: str | None = None,
        get_user_by_subject: Callable[[str], Awaitable[_U | None] | _U | None] | None = None,
    ) -> params.Depends:
        """Who opens a WebSocket, by the token in its `Authorization` header; otherwise 403.

            SocketUser = Annotated[User, auth.websocket_user("chat", first_message=True)]

        The WebSocket is closed with 4001 when the token expires: to the endpoint, the client has
        gone then. `renew_websocket` puts that off.

        Args:
            *scopes: What the token has to be good for, as with `require`.
            origins: From where pages may open it, beside those of its own host.
            first_message: Accept it here, and take the token from the first message where there is
                none in the header, since a browser cannot set that. It has 10 seconds to come.
            query_parameter: Take the token from that parameter of the URL, where it ends up in
                logs.
            get_user_by_subject: Finds the user, where `Auth` has a `Depends(...)` for that: a
                WebSocket lasts longer than the session of a request should.

        Raises:
            TypeError: It is that way, and no such function is given.
            ValueError: An origin or a scope is malformed.
        """
        check_scopes(scopes)
        find = self._parts.users.plain_by_subject
        if get_user_by_subject is not None:
            find = as_async(check_callable("get_user_by_subject", get_user_by_subject))
        if find is None:
            raise TypeError(
                "A WebSocket lasts longer than a session should, and users are found by subject "
                "through a Depends(...) of the request: give websocket_user(get_user_by_subject="
                "...) a function that opens a session of its own."
            )
        return ReadyDependency(
            websocket_user(
                self._parts.bearer,
                find,
                scopes,
                origins=origins,
                first_message=first_message,
                query_parameter=query_parameter,
                clock=self._parts.tokens.clock,
                renewals=self._renewals,
            )
        )

    async def renew_websocket(self, websocket: WebSocket, token: str, /) -> _U:
        """Let a WebSocket of `websocket_user` last until a newer access token expires, and return
        the user, looked up anew.

        The token is the same user's, good for the same scopes; how the client brings it, in a
        message, is the endpoint's.

        Raises:
            WebSocketException: It is not accepted (1008), which closes the WebSocket.
            LookupError: The WebSocket has no `websocket_user`.
        """
        if websocket not in self._renewals:
            raise LookupError(
                "renew_websocket() is for a WebSocket whose endpoint depends on websocket_user()."
            )
        *others, last = self._renewals[websocket]
        for renew in others:
            await renew(token)
        return await last(token)

    async def hash_password(self, password: str, /) -> str:
        """Hash a new password, without blocking the event loop.

        Raises:
            PasswordError: `BcryptHasher` refuses it, as `NewPassword` in a model does. Another
                hasher raises errors of its own.
            TooManyLoginsError: 100 others wait already.
        """
        return await self._passwords.hash(password)

    async def revoke_all(self, user: _U, /) -> int:
        """End all logins of `user`, and return how many there were.

        Refresh tokens are refused at once. Access tokens go on until they expire, unless
        `revoke_access_at_once`. A store in the database needs a connection beside that of a session
        here: call it after the session's end, or see that the pool has two.
        """
        return await self._parts.grants.revoke_all(user)

    @contextmanager
    def override(self, app: FastAPI, user: _U, /) -> Generator[None]:
        """Let `user` make all of `app`'s requests and open its WebSockets: for tests.

            with auth.override(app, User(username="alice", scopes=["items:write"])):
                ...

        What the user may not do is still refused. No first message is waited for.
        """
        account = self._parts.users.read(user)
        principal = Principal(account, frozenset(account.scopes))

        async def stand_in() -> Principal[_U]:
            return principal

        overrides = app.dependency_overrides
        keys = (self._parts.bearer.authenticate, self._parts.bearer.nobody)
        before = {key: overrides[key] for key in keys if key in overrides}
        overrides.update(dict.fromkeys(keys, stand_in))
        try:
            yield
        finally:
            for key in keys:
                overrides.pop(key, None)  # a test may have cleared them
            overrides.update(before)


def _keys_of(secret: str | bytes | None, keys: Sequence[Key] | None) -> Sequence[Key]:
    if (secret is None) == (keys is None):
        raise ValueError("Auth signs with either a secret or keys: give one of secret= and keys=.")
    return [Key(secret)] if secret is not None else keys or ()
