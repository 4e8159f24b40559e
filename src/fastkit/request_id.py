"""An id for each request: in the logs, in the response, and at hand wherever the request goes."""

import logging
import re
from contextvars import ContextVar
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ("RequestIdFilter", "RequestIdMiddleware", "get_request_id")

# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# What UUIDs, nginx, Envoy and HAProxy make. No quote, slash, space or control character: an id is
# written into logs, pages and queries by people who trust it.
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

# The messages that carry response headers.
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})

_SEEN = "fastkit.request_id"

_current: ContextVar[str | None] = ContextVar("fastkit_request_id", default=None)


def get_request_id() -> str | None:
    """Return the id of the request that is being handled, or None outside of one.

    It is known wherever the request's context is: in endpoints and dependencies, the ones that run
    in a thread included, in background tasks, and in tasks which these start.
    """
    return _current.get()


class RequestIdFilter(logging.Filter):
    """Give each log record a `request_id`: `"-"` outside of a request.

    Put it on a handler: filters of a logger do not see the records of the loggers below it. A
    record which has a `request_id` already, for it passed a `QueueHandler` with this filter, keeps
    it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `record.request_id`, and let through what `logging.Filter` does."""
        if not hasattr(record, "request_id"):
            record.request_id = _current.get() or "-"
        return super().filter(record)


class RequestIdMiddleware:
    """Give each HTTP request and each WebSocket an id of its own.

    The id is 128 random bits as 32 hexadecimal digits. It is in `request.state.request_id`,
    returned by `get_request_id()`, and sent in the response's `header`, in a WebSocket's accept and
    denial too, where it replaces one that the application set.

    With `trust_incoming`, a request's own `header` is its id when there is exactly one, of 1 to 128
    ASCII letters, digits and `. _ : -`; any other is ignored without a word. Set it only behind a
    proxy of yours which sets or removes the header: otherwise clients choose what is in your logs.

    A request has one id also where this middleware is mounted twice: the outer one's.

    Raises ValueError for a `header` that is not a field name (RFC 9110, section 5.1).
    """

    def __init__(
        self, app: ASGIApp, *, header: str = "X-Request-ID", trust_incoming: bool = False
    ) -> None:
        if _TOKEN.fullmatch(header) is None:
            raise ValueError(
                f"header={header!r} is not the name of an HTTP header: it is empty or has a"
                " character that names may not have. Use letters, digits and hyphens, as in"
                " 'X-Request-ID'."
            )
        self.app = app
        self.header = header
        self.trust_incoming = trust_incoming
        self._name = header.lower().encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give one request or WebSocket its id; anything else passes through."""
        if scope["type"] not in ("http", "websocket") or _SEEN in scope:
            await self.app(scope, receive, send)
            return
        request_id = (self._incoming(scope) if self.trust_incoming else None) or token_hex(16)
        scope[_SEEN] = request_id
        # Into the dictionary that is there: a middleware further out may hold it as request.state.
        scope.setdefault("state", {})["request_id"] = request_id
        name = self._name
        field = (name, request_id.encode("ascii"))

        async def send_with_id(message: Message) -> None:
            if message["type"] in _STARTS:
                # A new list: the application may send the same one again with its next response.
                # The names in it are in lower case (ASGI HTTP, response start).
                headers = [pair for pair in message.get("headers", ()) if pair[0] != name]
                headers.append(field)
                message = {**message, "headers": headers}
            await send(message)

        token = _current.set(request_id)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            _current.reset(token)

    def _incoming(self, scope: Scope) -> str | None:
        values = [value for name, value in scope["headers"] if name == self._name]
        if len(values) == 1 and _ID.fullmatch(values[0]):
            return str(values[0], "ascii")
        return None
