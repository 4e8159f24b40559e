"""What the token endpoint does: a password or a refresh token for an access token (RFC 6749)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Generic, TypeVar

from fastkit.auth._access import InvalidTokenError, check_scopes
from fastkit.auth._bearer import Principal
from fastkit.auth._events import AuthEvent, EventHook, Kind, Reason, tell
from fastkit.auth._passwords import RETRY_AFTER, Passwords, TooManyLoginsError
from fastkit.auth._refresh import InvalidGrantError, ReusedTokenError
from fastkit.auth._throttle import Throttle
from fastkit.auth._tokens import Tokens
from fastkit.auth._users import Account, Find, Users

__all__ = ("Granted", "Grants", "Issue", "OAuthError")

_U = TypeVar("_U")

# In characters. Nobody's name is longer, and so nobody is looked for.
_MAX_NAME = 1000


class OAuthError(Exception):
    """An error of RFC 6749, section 5.2. Its texts are ours, with nothing in them that was sent."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, retry_after: float | None = None
    ) -> None:
        super().__init__(description)
        self.error: str = error
        self.description: str = description
        self.status: int = status
        self.retry_after: int | None = None if retry_after is None else max(1, ceil(retry_after))


@dataclass(frozen=True, slots=True, repr=False)
class Granted:
    """What is granted (RFC 6749, section 5.1). Its `repr` shows no token."""

    access_token: str
    refresh_token: str
    scopes: tuple[str, ...]


Issue = Callable[[], Awaitable[Granted]]
"""Issues the tokens. Called when the request's session has ended, since it writes to the store."""


class Grants(Generic[_U]):
    """Grants tokens, and takes them back."""

    def __init__(
        self,
        tokens: Tokens,
        users: Users[_U],
        /,
        *,
        passwords: Passwords,
        throttle: Throttle,
        on_event: EventHook[_U] | None,
    ) -> None:
        self._access = tokens.access
        self._refresh = tokens.refresh
        self._stamps = tokens.stamps
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._on_event = on_event

    async def by_password(self, form: Mapping[str, str], address: str | None, find: Find) -> Issue:
        """The password grant (section 4.3).

        Raises:
            OAuthError: The password is not the user's, was not looked at, or does not give what is
                asked for.
        """
        typed, password = _required(form, "username"), _required(form, "password")
        requested = _requested_scopes(form)
        username = typed if _is_name(typed) else None
        account = await self._logged_in(username, password, address, find)
        granted = account.scopes if requested is None else requested
        stamp = self._stamps.of(account.password_hash)

        async def begin() -> Granted:
            # The password was right, whatever becomes of the scopes: nothing was guessed.
            await self._throttle.clear(username or "", address or "")
            if not set(granted) <= set(account.scopes):
                await self._tell(
                    "login_failed", address, account, username=username, reason="invalid scope"
                )
                raise OAuthError("invalid_scope", "The user does not have all of these scopes.")
            check_scopes(granted)  # those of a user may be anything, and nothing is kept by then
            login, refresh_token = await self._refresh.start(account.subject, granted, stamp)
            access_token = self._access.issue(account.subject, granted, login.id, stamp)
            await self._tell("login", address, account, login_id=login.id, username=username)
            return Granted(access_token, refresh_token, granted)

        return begin

    async def _logged_in(
        self, username: str | None, password: str, address: str | None, find: Find
    ) -> Account[_U]:
        account: Account[_U] | None = None

        async def fail(reason: Reason) -> None:
            await self._tell("login_failed", address, account, username=username, reason=reason)

        wait = await self._throttle.hit(username or "", address or "")
        if wait is not None:
            await fail("throttled")
            raise OAuthError(
                "temporarily_unavailable",
                "There were too many attempts. Try again later.",
                status=429,
                retry_after=wait,
            )
        try:
            async with self._passwords.turn() as verify:
                user: _U | None = None if username is None else await find(username)
                account = None if user is None else self._users.read(user)
                known_hash = None if account is None else account.password_hash
                is_right, new_hash = await verify(password, known_hash)
        except TooManyLoginsError:
            await fail("busy")
            raise OAuthError(
                "temporarily_unavailable",
                "There are too many logins at once. Try again later.",
                status=503,
                retry_after=RETRY_AFTER,
            ) from None
        # One answer for all of them, which says nothing of who has an account here.
        if account is None or not is_right or account.is_disabled:
            wrong: Reason = "disabled" if is_right else "wrong password"
            await fail("unknown user" if account is None else wrong)
            raise OAuthError("invalid_grant", "The username or the password is wrong.", status=401)
        if new_hash is not None:
            account = await self._users.upgrade(account, new_hash)
        return account

    async def by_refresh_token(
        self, form: Mapping[str, str], address: str | None, find: Find
    ) -> Issue:
        """The refresh of an access token (section 6).

        Raises:
            OAuthError: The refresh token is not good any more, or not for what is asked for.
        """
        token = _required(form, "refresh_token")
        requested = _requested_scopes(form)
        refusal = OAuthError("invalid_grant", "The refresh token is not valid.", status=401)
        try:
            # Before the look-up, for whose session there may be but one connection.
            presented = await self._refresh.check(token)
        except ReusedTokenError as error:
            ended = error.login
            await self._tell("reuse", address, subject=ended.subject, login_id=ended.id)
            raise refusal from None
        except InvalidGrantError:
            raise refusal from None
        login = presented.login
        user: _U | None = await find(login.subject)
        account = None if user is None else self._users.read(user)
        if (
            account is None
            or account.is_disabled
            or not self._stamps.fits(login.stamp, account.password_hash)
        ):
            raise refusal
        granted = login.scopes if requested is None else requested
        if not set(granted) <= set(login.scopes):
            raise OAuthError("invalid_scope", "The login does not have all of these scopes.")
        scopes = tuple(scope for scope in granted if scope in account.scopes)
        stamp = self._stamps.of(account.password_hash)

        async def exchange() -> Granted:
            try:
                refresh_token = await self._refresh.rotate(presented, stamp)
            except InvalidGrantError:
                raise refusal from None
            access_token = self._access.issue(account.subject, scopes, login.id, stamp)
            await self._tell("refresh", address, account, login_id=login.id)
            return Granted(access_token, refresh_token, scopes)

        return exchange

    async def revoke(self, form: Mapping[str, str], address: str | None) -> None:
        """End the login of a token, be it for access or refresh (RFC 7009, section 2.1).

        Raises:
            OAuthError: There is no token.
        """
        token = _required(form, "token")
        login = await self._refresh.revoke(token)
        if login is not None:
            subject, login_id = login.subject, login.id
        else:
            try:
                verified = self._access.verify(token)
            except InvalidTokenError:
                return
            subject, login_id = verified.subject, verified.login_id
            if not await self._refresh.revoke_login(login_id):
                return
        await self._tell("revoke", address, subject=subject, login_id=login_id)

    async def log_out(
        self, principal: Principal[_U], address: str | None, *, everywhere: bool
    ) -> None:
        """End the login of a request, or all logins of its user."""
        account, login_id = principal.account, principal.login_id
        if everywhere:
            login_id = None
            await self._refresh.revoke_all(account.subject)
        elif login_id is not None:
            await self._refresh.revoke_login(login_id)
        await self._tell("logout", address, account, login_id=login_id)

    async def revoke_all(self, user: _U) -> int:
        """End all logins of a user; how many there were."""
        account = self._users.read(user)
        ended = await self._refresh.revoke_all(account.subject)
        await self._tell("revoke", None, account)
        return ended

    async def _tell(
        self,
        kind: Kind,
        address: str | None,
        account: Account[_U] | None = None,
        *,
        subject: str | None = None,
        username: str | None = None,
        login_id: str | None = None,
        reason: Reason | None = None,
    ) -> None:
        event = AuthEvent(
            kind=kind,
            address=address,
            subject=subject if account is None else account.subject,
            user=None if account is None else account.user,
            username=username,
            login_id=login_id,
            reason=reason,
        )
        await tell(self._on_event, event)


def _required(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if value is None:
        raise OAuthError("invalid_request", f"The parameter {name} is missing.")
    return value


def _requested_scopes(form: Mapping[str, str]) -> tuple[str, ...] | None:
    """What is asked for (section 3.3), or None: for whatever there is."""
    scopes = tuple(dict.fromkeys(form.get("scope", "").split(" ")))
    scopes = tuple(scope for scope in scopes if scope)
    try:
        check_scopes(scopes)
    except ValueError:
        raise OAuthError("invalid_scope", "The parameter scope is malformed.") from None
    return scopes or None


def _is_name(text: str) -> bool:
    """Whether somebody may have that name, and every database can look for it."""
    if len(text) > _MAX_NAME or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
