"""Who may open a WebSocket, and how it is refused."""

import re
from collections.abc import Collection
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.exceptions import WebSocketException
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ("GONE", "check_origin", "plain_origin", "refusal")

# What sending raises, on one server or another, when the client has gone.
GONE = (RuntimeError, OSError, WebSocketDisconnect)

_ORIGIN = re.compile(r"https?://[^\s/?#@\\]+", re.IGNORECASE)
_PORTS = {"http": ":80", "https": ":443"}


def plain_origin(origin: str) -> str:
    """An origin as browsers write it (RFC 6454, section 6.2), with a given port left out if it is
    the scheme's.

    Raises:
        ValueError: It is no origin.
    """
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"origins has {origin!r}, which is no origin: write it as https://app.example.com, with"
            " a port if that is not the usual one, and nothing after."
        )
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(_PORTS[scheme])}"


def check_origin(websocket: WebSocket, allowed: Collection[str]) -> None:
    """Browsers send the origin of the page that opens a WebSocket, and CORS does not apply.

    Raises:
        WebSocketException: It is neither of this host nor one of `allowed`.
    """
    if not _is_allowed(websocket.headers, allowed):
        raise refusal(websocket, "The origin is not allowed.")


def refusal(
    websocket: WebSocket, reason: str, *, code: int = WS_1008_POLICY_VIOLATION
) -> WebSocketException:
    """What closes the WebSocket. That the client has left before is no error of the server's:
    whoever is not let in could have it logged as one, with a traceback each time."""
    send = websocket.send

    async def send_if_there(message: Message) -> None:
        with suppress(*GONE):
            await send(message)

    websocket.send = send_if_there  # type: ignore[method-assign]  # that of this one connection
    return WebSocketException(code, reason)


def _is_allowed(headers: Headers, allowed: Collection[str]) -> bool:
    origins = headers.getlist("origin")
    if not origins:
        return True
    if len(origins) > 1 or not _ORIGIN.fullmatch(origins[0]):
        return False
    origin = plain_origin(origins[0])
    scheme, _, host = origin.partition("://")
    return origin in allowed or headers.get("host", "").lower().removesuffix(_PORTS[scheme]) == host
