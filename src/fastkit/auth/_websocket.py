"""Who opens a WebSocket, and its end when the token expires."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated, Any, TypeAlias, TypeVar

from anyio import move_on_after
from fastapi import WebSocket, params
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from fastkit._handshake import GONE, check_origin, plain_origin, refusal
from fastkit.auth._access import InvalidTokenError
from fastkit.auth._bearer import LACKS_SCOPE, Bearer, Principal, bearer_token
from fastkit.auth._users import Find

__all__ = ("Renewals", "websocket_user")

_U = TypeVar("_U")

Renewals: TypeAlias = dict[WebSocket, list[Callable[[str], Awaitable[_U]]]]
"""What takes newer tokens, by open WebSocket: one for each dependency that it has."""

_logger = logging.getLogger("fastkit.auth")

_EXPIRED = 4001  # of those left to applications (RFC 6455, section 7.4.2)
_FIRST_MESSAGE_SECONDS = 10


def websocket_user(
    bearer: Bearer[_U],
    find: Find,
    scopes: Collection[str],
    *,
    origins: Collection[str],
    first_message: bool,
    query_parameter: str | None,
    clock: Callable[[], float],
    renewals: Renewals[_U],
) -> Callable[..., AsyncGenerator[_U]]:
    """The dependency of `Auth.websocket_user`; how to put off its end it leaves in `renewals`."""
    allowed = {plain_origin(origin) for origin in origins}
    verified = _verifier(bearer, find, scopes, clock)

    async def user(
        websocket: WebSocket,
        stand_in: Annotated[Principal[_U] | None, params.Depends(bearer.nobody)],
    ) -> AsyncGenerator[_U]:
        check_origin(websocket, allowed)
        if first_message:
            await websocket.accept()
        if stand_in is not None:
            _check(websocket, stand_in, scopes)

            async def stay(token: str) -> _U:
                return stand_in.account.user

            with _renewed_by(websocket, stay, renewals):
                yield stand_in.account.user
            return
        token = await _token(websocket, query_parameter, first_message=first_message)
        principal, seconds = await verified(websocket, token)
        deadline = time.monotonic() + seconds

        async def renew(token: str) -> _U:
            nonlocal deadline
            newer, seconds = await verified(websocket, token)
            if newer.account.subject != principal.account.subject:
                raise refusal(websocket, "The access token is of another user.")
            deadline = max(deadline, time.monotonic() + seconds)
            return newer.account.user

        async with _closed_at(websocket, lambda: deadline):
            with _renewed_by(websocket, renew, renewals):
                yield principal.account.user

    return user


def _verifier(
    bearer: Bearer[_U], find: Find, scopes: Collection[str], clock: Callable[[], float]
) -> Callable[[WebSocket, str], Awaitable[tuple[Principal[_U], float]]]:
    async def verified(websocket: WebSocket, token: str) -> tuple[Principal[_U], float]:
        """Whose token it is, and for how many seconds it is good."""
        try:
            principal, expires_at = await bearer.verify(token, find)
        except InvalidTokenError as error:
            _logger.debug("an access token is refused: %s", error.reason)
            raise refusal(websocket, str(error)) from None
        _check(websocket, principal, scopes)
        return principal, expires_at - clock()

    return verified


@contextmanager
def _renewed_by(
    websocket: WebSocket, renew: Callable[[str], Awaitable[_U]], renewals: Renewals[_U]
) -> Generator[None]:
    of_this = renewals.setdefault(websocket, [])
    of_this.append(renew)
    try:
        yield
    finally:
        of_this.remove(renew)
        if not of_this:
            del renewals[websocket]


def _check(websocket: WebSocket, principal: Principal[Any], scopes: Collection[str]) -> None:
    if not principal.scopes.issuperset(scopes):
        raise refusal(websocket, LACKS_SCOPE)


async def _token(websocket: WebSocket, query_parameter: str | None, *, first_message: bool) -> str:
    token = bearer_token(websocket.headers)
    if token is None and query_parameter is not None:
        token = websocket.query_params.get(query_parameter)
    if token is None and first_message:
        token = await _received(websocket)
    if token is None:
        raise refusal(websocket, "Not authenticated.")
    return token


async def _received(websocket: WebSocket) -> str | None:
    """The first message, if it is a text and comes in time, before the client leaves."""
    with move_on_after(_FIRST_MESSAGE_SECONDS):
        message = await websocket.receive()
        text: str | None = message.get("text")
        return text
    return None


@asynccontextmanager
async def _closed_at(websocket: WebSocket, deadline: Callable[[], float]) -> AsyncGenerator[None]:
    """Close the WebSocket at that time, which may be put off; to whoever uses it, the client has
    gone then.

    It is not cancelled: that would cut off what an endpoint does when a client has gone.
    """
    send = websocket.send
    expired = False

    async def close() -> None:
        nonlocal expired
        while (seconds := deadline() - time.monotonic()) > 0:  # noqa: ASYNC110  # it may move
            await asyncio.sleep(seconds)
        expired = True
        states = (websocket.client_state, websocket.application_state)
        if WebSocketState.DISCONNECTED not in states:
            with suppress(*GONE):
                await send({"type": "websocket.close", "code": _EXPIRED, "reason": "expired"})
            # A receive waits for the end of the connection, as before, and has no error of its own.
            websocket.application_state = states[1]

    async def send_in_time(message: Message) -> None:
        if not expired:
            await send(message)
        elif message["type"] != "websocket.close":
            raise WebSocketDisconnect(_EXPIRED, "expired")

    websocket.send = send_in_time  # type: ignore[method-assign]  # that of this one connection
    closing = asyncio.create_task(close())
    try:
        yield
    except WebSocketDisconnect:
        if not expired:
            raise
    finally:
        closing.cancel()
        await asyncio.wait([closing])
