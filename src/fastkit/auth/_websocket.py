"""Who opens a WebSocket, and its end when the token expires."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, TypeVar

from anyio import move_on_after
from fastapi import WebSocket, WebSocketException, params
from starlette.datastructures import Headers
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from fastkit.auth._access import InvalidTokenError
from fastkit.auth._bearer import LACKS_SCOPE, Bearer, Principal, bearer_token
from fastkit.auth._users import Find

__all__ = ("websocket_user",)

_U = TypeVar("_U")

_logger = logging.getLogger("fastkit.auth")

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_EXPIRED = 4001  # section 7.4.2: one of those that are left to applications
_FIRST_MESSAGE_SECONDS = 10

# What sending raises, on one server or another, when the client was faster.
_GONE = (RuntimeError, OSError, WebSocketDisconnect)

_ORIGIN = re.compile(r"https?://[^\s/?#@\\]+", re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}


def websocket_user(
    bearer: Bearer[_U],
    find: Find,
    scopes: Collection[str],
    *,
    origins: Collection[str],
    first_message: bool,
    query_parameter: str | None,
    clock: Callable[[], float],
) -> Callable[..., AsyncGenerator[_U]]:
    """The dependency of `Auth.websocket_user`."""
    allowed = {_plain_origin(origin) for origin in origins}

    async def user(
        websocket: WebSocket,
        stand_in: Annotated[Principal[_U] | None, params.Depends(bearer.nobody)],
    ) -> AsyncGenerator[_U]:
        if not _is_allowed(websocket.headers, allowed):
            raise _refusal(websocket, "The origin is not allowed.")
        if first_message:
            await websocket.accept()
        if stand_in is not None:
            _check(websocket, stand_in, scopes)
            yield stand_in.account.user
            return
        token = bearer_token(websocket.headers)
        if token is None and query_parameter is not None:
            token = websocket.query_params.get(query_parameter)
        if token is None and first_message:
            token = await _received(websocket)
        if token is None:
            raise _refusal(websocket, "Not authenticated.")
        try:
            principal, expires_at = await bearer.verify(token, find)
        except InvalidTokenError as error:
            _logger.debug("an access token is refused: %s", error.reason)
            raise _refusal(websocket, str(error)) from None
        _check(websocket, principal, scopes)
        async with _closed_after(websocket, expires_at - clock()):
            yield principal.account.user

    return user


def _check(websocket: WebSocket, principal: Principal[Any], scopes: Collection[str]) -> None:
    if not principal.scopes.issuperset(scopes):
        raise _refusal(websocket, LACKS_SCOPE)


def _refusal(websocket: WebSocket, reason: str) -> WebSocketException:
    """What closes the WebSocket. That the client has left before is no error of the server's:
    whoever has no token could have it logged as one, with a traceback each time."""
    send = websocket.send

    async def send_if_there(message: Message) -> None:
        with suppress(*_GONE):
            await send(message)

    websocket.send = send_if_there  # type: ignore[method-assign]  # that of this one connection
    return WebSocketException(_POLICY_VIOLATION, reason)


async def _received(websocket: WebSocket) -> str | None:
    """The first message, if it is a text and comes in time, before the client leaves."""
    with move_on_after(_FIRST_MESSAGE_SECONDS):
        message = await websocket.receive()
        text: str | None = message.get("text")
        return text
    return None


@asynccontextmanager
async def _closed_after(websocket: WebSocket, seconds: float) -> AsyncGenerator[None]:
    """Close the WebSocket after that time; to whoever uses it, the client has gone then.

    It is not cancelled: that would cut off what an endpoint does when a client has gone.
    """
    send = websocket.send
    expired = False

    async def close() -> None:
        nonlocal expired
        await asyncio.sleep(seconds)
        expired = True
        states = (websocket.client_state, websocket.application_state)
        if WebSocketState.DISCONNECTED not in states:
            with suppress(*_GONE):
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


def _plain_origin(origin: str) -> str:
    """An origin as browsers write it (RFC 6454, section 6.2), with a given port left out if it is
    the scheme's."""
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"origins has {origin!r}, which is no origin: write it as https://app.example.com, with"
            " a port if that is not the usual one, and nothing after."
        )
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(_PORTS[scheme])}"


def _is_allowed(headers: Headers, allowed: Collection[str]) -> bool:
    """Whether the page that opens the WebSocket, if it is one, is of this host or of `allowed`."""
    origins = headers.getlist("origin")
    if not origins:
        return True
    if len(origins) > 1 or not _ORIGIN.fullmatch(origins[0]):
        return False
    origin = _plain_origin(origins[0])
    scheme, _, host = origin.partition("://")
    return origin in allowed or headers.get("host", "").lower().removesuffix(_PORTS[scheme]) == host
