"""What happens to logins, told to the app: for audit and metrics."""

import logging
from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Generic, Literal, TypeVar

__all__ = ("AuthEvent", "EventHook", "Kind", "Reason", "tell")

_U = TypeVar("_U")

_logger = logging.getLogger("fastkit.auth")


Kind = Literal["login", "login_failed", "refresh", "reuse", "logout", "revoke"]
Reason = Literal["throttled", "busy", "unknown user", "wrong password", "disabled", "invalid scope"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AuthEvent(Generic[_U]):
    """One thing that happened. There is no password and no token in it.

    The session that `get_user` had may have ended by then: what the user's attributes load later
    is not there any more.
    """

    kind: Kind
    """`reuse` is a refresh token that came back after it was exchanged, as a stolen one does: its
    login has been ended. `logout` was asked for by the user, `revoke` by a client or the app."""
    username: str | None = None
    """What was entered, with `login` and `login_failed`; None for what cannot be a name. Now and
    then somebody enters a password there."""
    subject: str | None = None
    """Who it is about; None where nobody has logged in."""
    user: _U | None = field(default=None, repr=False)
    """The same, as `get_user` gave it, where it was asked."""
    address: str | None = None
    """The client's, as the server reports it; None where the app acts itself."""
    login_id: str | None = None
    """Which login; None for all of the subject's."""
    reason: Reason | None = None
    """Why a login failed: `throttled`, `busy`, `unknown user`, `wrong password`, `disabled`, or
    `invalid scope`, where the password was right."""


EventHook = Callable[[AuthEvent[_U]], Awaitable[None] | None]
"""Called with each event, on the event loop."""


async def tell(on_event: EventHook[_U] | None, event: AuthEvent[_U]) -> None:
    """Call the hook. An exception that it raises is logged and changes nothing."""
    if on_event is None:
        return
    try:
        told = on_event(event)
        if isawaitable(told):
            await told
    except (Exception, CancelledError) as error:
        # A task that the hook awaited may have been cancelled, or this one, which has to end then.
        task = current_task()
        if isinstance(error, CancelledError) and task is not None and task.cancelling():
            raise
        _logger.exception("on_event=%r raised at %s; all goes on", on_event, event.kind)
