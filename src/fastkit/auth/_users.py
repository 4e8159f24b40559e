"""The app's users: how they are found, and what is read of them."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, cast

from anyio.to_thread import run_sync
from fastapi import params

__all__ = ("Account", "Find", "GetUser", "Users", "as_async", "check_callable")

_U = TypeVar("_U")

Find = Callable[[str], Awaitable[Any]]
"""Finds a user by name or subject; None where there is none."""

GetUser = Callable[[str], Any] | params.Depends

_NEEDED = object()


class Account(NamedTuple, Generic[_U]):
    """A user, with what was read of it while the request's session was there."""

    user: _U
    subject: str
    password_hash: str | None
    """None for who has no password, and cannot log in with one."""
    is_disabled: bool
    scopes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Account(subject={self.subject!r})"  # without the hash, and what a user may show


class Users(Generic[_U]):
    """Finds users and reads them, in the way that the options of `Auth` say.

    Raises:
        TypeError: An option cannot be called, or is a Depends() without a function.
        ValueError: Only one of `subject` and `get_user_by_subject` is given.
    """

    def __init__(
        self,
        get_user: GetUser,
        get_user_by_subject: GetUser | None,
        /,
        *,
        subject: Callable[[_U], str] | None,
        hashed_password: Callable[[_U], str | None] | None,
        disabled: Callable[[_U], bool] | None,
        scopes: Callable[[_U], Iterable[str]] | None,
        save_password_hash: Callable[[_U, str], Any] | None,
    ) -> None:
        if (subject is None) != (get_user_by_subject is None):
            raise ValueError(
                "subject= and get_user_by_subject= go together: the one gives what a token says of "
                "a user, the other finds the user by it."
            )
        self.by_name: params.Depends = _dependency("get_user", get_user)
        self.by_subject: params.Depends = self.by_name
        self.plain_by_subject: Find | None = _plain(get_user)
        """Finds a user by subject, unless that takes a request."""
        if get_user_by_subject is not None:
            self.by_subject = _dependency("get_user_by_subject", get_user_by_subject)
            self.plain_by_subject = _plain(get_user_by_subject)
        self._subject = _reader("subject", subject, "username")
        self._hash = _reader("hashed_password", hashed_password, "hashed_password")
        self._disabled = _reader("disabled", disabled, "disabled", default=False)
        self._scopes = _reader("scopes", scopes, "scopes", default=())
        self._save = (
            None
            if save_password_hash is None
            else as_async(check_callable("save_password_hash", save_password_hash))
        )

    def read(self, user: _U) -> Account[_U]:
        """What `user` says of itself.

        Raises:
            AttributeError: It lacks what no option names.
            TypeError: The subject or the hash is no text.
        """
        subject, password_hash = self._subject(user), self._hash(user)
        if not isinstance(subject, str):
            raise _no_text("subject", subject)
        if password_hash is not None and not isinstance(password_hash, str):
            raise _no_text("hashed_password", password_hash)
        scopes = self._scopes(user)
        return Account(
            user,
            subject=subject,
            password_hash=password_hash,
            is_disabled=bool(self._disabled(user)),
            scopes=tuple(scopes.split() if isinstance(scopes, str) else scopes or ()),
        )

    async def upgrade(self, account: Account[_U], new_hash: str) -> Account[_U]:
        """Let the app keep a new hash of the same password, if it likes to; the account after."""
        if self._save is None:
            return account
        await self._save(account.user, new_hash)
        return account._replace(password_hash=new_hash)


def as_async(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """`function`, to be awaited: one without `async` runs in a thread, for it may wait there."""
    call = getattr(function, "__call__", None)  # noqa: B004  # of an object, as of functions
    if iscoroutinefunction(function) or iscoroutinefunction(call):
        return cast("Callable[..., Awaitable[Any]]", function)

    async def called(*args: Any) -> Any:
        result = await run_sync(partial(function, *args))
        return await result if isawaitable(result) else result

    return called


def check_callable(option: str, function: object) -> Callable[..., Any]:
    """`function`, if it is one.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(function):
        raise TypeError(f"{option}={function!r} cannot be called: pass a function.")
    return function


def _plain(find: GetUser) -> Find | None:
    return None if isinstance(find, params.Depends) else as_async(find)


def _dependency(option: str, find: GetUser) -> params.Depends:
    """The dependency that gives the look-up to await."""
    if not isinstance(find, params.Depends):
        plain = as_async(check_callable(option, find))

        async def given() -> Find:
            return plain

        return params.Depends(given)
    if find.dependency is None:
        raise TypeError(f"{option}=Depends() names no function: pass one that gives the look-up.")

    async def of_request(lookup: Annotated[Any, find]) -> Find:
        if not callable(lookup):
            raise TypeError(
                f"The dependency {option}={find.dependency!r} gives a {type(lookup).__name__}: let "
                "it return the function that finds a user."
            )
        return as_async(lookup)

    return params.Depends(of_request)


def _reader(
    option: str, given: Callable[[Any], Any] | None, name: str, *, default: object = _NEEDED
) -> Callable[[Any], Any]:
    if given is not None:
        return check_callable(option, given)
    if default is not _NEEDED:
        return lambda user: getattr(user, name, default)

    def read(user: object) -> Any:
        try:
            return getattr(user, name)
        except AttributeError:
            raise AttributeError(
                f"A user of type {type(user).__qualname__} has no attribute {name!r}: say what is "
                f"in its place with {option}=lambda user: ..."
            ) from None

    return read


def _no_text(option: str, value: object) -> TypeError:
    return TypeError(
        f"{option} of a user is of type {type(value).__name__}: let {option}= return a str."
    )
