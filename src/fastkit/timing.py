"""Process times: the `X-Process-Time` header, and a record of each request for metrics and logs."""

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastkit._route import route_template

__all__ = ("Outcome", "RequestRecord", "TimingMiddleware")

Outcome: TypeAlias = Literal["ok", "error", "disconnected", "aborted"]

_logger = logging.getLogger(__name__)

# RFC 9110 section 9.3, RFC 5789 and QUERY: any other token is a client's to choose, without end.
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)

# RFC 6455 section 7.4.1: normal closure, going away, and a close frame without a code.
_NORMAL_CLOSURES = frozenset({1000, 1001, 1005})
_INTERNAL_ERROR = 1011

_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})
# Each of them is the last one of its kind unless it says `more_body`.
_ENDS = frozenset(
    {
        "http.response.body",
        "http.response.pathsend",
        "http.response.zerocopysend",
        "websocket.close",
        "websocket.http.response.body",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One finished request or WebSocket connection. All times are in seconds.

    `method` is one of CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY and TRACE,
    `"OTHER"` for any other, or `"WEBSOCKET"`. `route` is the template of the route which answered,
    as OpenTelemetry's `http.route` has it: `/v1/items/{id}`, with the prefixes of routers, mounts
    and the `root_path`. What a mount leaves to another application is `/files/{path}`, and a
    request that no route took (404, a redirect to or from a trailing slash, a CORS preflight) is
    `<unmatched>`. Both are bounded, so they can be labels of a metric.

    `status` is the status of the response, None when none was started. A WebSocket has 101 when it
    was accepted, 403 when it was closed before, or the status of its denial response.

    `outcome` is the first of these which applies:

    - `"disconnected"`: the client was seen to leave before the last byte of the body was sent. For
      a WebSocket: the connection ended other than by a close frame with 1000, 1001 or no code.
    - `"error"`: an exception left the application, a background task's included, or the status is
      500 or more. For a WebSocket also: the application closed it with 1011.
    - `"aborted"`: the application was cancelled, or it returned without a complete response.
    - `"ok"`: everything else, 4xx included.

    `time_to_first_byte` runs until the response started (a WebSocket: until it was accepted or
    denied), and is None when it did not. `duration` runs until the last byte of the body was handed
    to the server (a WebSocket: until it was closed), or the client was seen to leave, or the
    application ended. `background` is what the application took after that: background tasks, and
    what dependencies do after the response.
    """

    method: str
    route: str
    status: int | None
    outcome: Outcome
    time_to_first_byte: float | None
    duration: float
    background: float


class TimingMiddleware:
    """Tell clients how long each response took, and hand a record of it to the application.

    Every HTTP response which passes through gets `X-Process-Time`: the seconds from the request's
    arrival here to the start of the response. It replaces one that the application set.

    `on_finish` is called with a `RequestRecord` when the application has returned, so after the
    background tasks, for WebSockets too. It runs on the event loop: it has to be quick and must not
    be a coroutine function. When it raises, that is logged, and nothing else happens.

    `slow_after` is a number of seconds: a request whose response had not started by then is logged
    as a warning, with method, route, status and times, and without the path and the query, which
    may hold secrets.

    `server_timing` adds `app;dur=<milliseconds>` to the response's `Server-Timing` header (W3C
    Server Timing, section 3), after the metrics which the application set. Browsers show it to
    everybody, so think before you switch it on for the public.

    Raises ValueError for a `slow_after` which is negative, TypeError for an `on_finish` which is a
    coroutine function.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_finish: Callable[[RequestRecord], object] | None = None,
        slow_after: float | None = None,
        server_timing: bool = False,
    ) -> None:
        if slow_after is not None and not slow_after >= 0:
            raise ValueError(
                f"slow_after={slow_after!r} is not a time to wait for a response: it is a number of"
                " seconds, 0 or more. Pass one, such as slow_after=0.5, or None to log nothing."
            )
        if any(map(inspect.iscoroutinefunction, (on_finish, type(on_finish).__call__))):
            raise TypeError(
                f"on_finish={on_finish!r} is a coroutine function, which would never be awaited."
                " Pass a plain function; to do more than count, let it put the record in a queue."
            )
        self.app = app
        self.on_finish = on_finish
        self.slow_after = slow_after
        self.server_timing = server_timing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure one HTTP request or WebSocket; anything else passes through."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, server_timing=self.server_timing)
        if self.on_finish is not None or self.slow_after is not None:
            receive = exchange.receive
        try:
            await self.app(scope, receive, exchange.send)
        except BaseException as exc:
            self._finish(scope, exchange, exc)
            raise
        self._finish(scope, exchange, None)

    def _finish(self, scope: Scope, exchange: "_Exchange", exc: BaseException | None) -> None:
        if self.on_finish is None and self.slow_after is None:
            return
        try:
            record = exchange.record(scope, exc)
            if self.slow_after is not None:
                _log_slow(record, self.slow_after)
            if self.on_finish is not None:
                self.on_finish(record)
        except Exception:
            _logger.exception("A request could not be recorded; its response is not affected.")


class _Exchange:
    """What can be seen of one request from its `receive` and `send`."""

    __slots__ = (
        "_receive",
        "_send",
        "_server_timing",
        "complete",
        "disconnected",
        "ended",
        "failed",
        "started",
        "status",
        "time_to_first_byte",
    )

    def __init__(self, receive: Receive, send: Send, *, server_timing: bool) -> None:
        self._receive = receive
        self._send = send
        self._server_timing = server_timing
        self.complete = False
        self.disconnected = False
        self.failed = False
        self.status: int | None = None
        self.time_to_first_byte: float | None = None
        self.ended: float | None = None
        self.started = perf_counter()

    async def receive(self) -> Message:
        message = await self._receive()
        # Servers report a disconnect after each complete response too.
        if not self.complete:
            if message["type"] == "http.disconnect":
                self._disconnect()
            elif message["type"] == "websocket.disconnect":
                if message.get("code", 1005) in _NORMAL_CLOSURES:
                    self.complete = True
                    self.ended = perf_counter()
                else:
                    self._disconnect()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        last = kind in _ENDS and not message.get("more_body", False)
        if last:
            # Said before it is sent: while a middleware further out is at it, a disconnect which
            # means "you are done" can already be received.
            self.complete = True
            if kind == "websocket.close":
                self.failed = message.get("code") == _INTERNAL_ERROR
                if self.status is None:
                    self._start(403)
        elif kind in _STARTS:
            seconds = self._start(message["status"])
            headers = _timed(message.get("headers", ()), seconds, self._server_timing)
            message = {**message, "headers": headers}
        elif kind == "websocket.accept":
            self._start(101)
        try:
            await self._send(message)
        except OSError:
            # What a server raises when the client is gone (ASGI HTTP and WebSocket, 2.4).
            self._disconnect()
            raise
        if last and self.ended is None:
            self.ended = perf_counter()

    def _start(self, status: int) -> float:
        self.status = status
        self.time_to_first_byte = seconds = perf_counter() - self.started
        return seconds

    def _disconnect(self) -> None:
        if self.ended is None:
            self.disconnected = True
            self.ended = perf_counter()

    def record(self, scope: Scope, exc: BaseException | None) -> RequestRecord:
        returned = perf_counter()
        ended = returned if self.ended is None else self.ended
        if scope["type"] == "websocket":
            method = "WEBSOCKET"
        else:
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        return RequestRecord(
            method=method,
            route=route_template(scope),
            status=self.status,
            outcome=self._outcome(exc),
            time_to_first_byte=self.time_to_first_byte,
            duration=ended - self.started,
            background=returned - ended,
        )

    def _outcome(self, exc: BaseException | None) -> Outcome:
        if self.complete and isinstance(exc, WebSocketDisconnect):
            # How an endpoint ends that receives until the client says goodbye.
            exc = None
        if self.disconnected:
            return "disconnected"
        if isinstance(exc, Exception) or self.failed or (self.status or 0) >= 500:
            return "error"
        if exc is not None or not (self.complete or self.status == 101):
            return "aborted"
        return "ok"


def _timed(
    headers: Iterable[tuple[bytes, bytes]], seconds: float, server_timing: bool
) -> list[tuple[bytes, bytes]]:
    # A new list: the application may send the same one again with its next response. The names in
    # it are in lower case (ASGI HTTP, response start).
    kept = [pair for pair in headers if pair[0] != b"x-process-time"]
    kept.append((b"x-process-time", b"%.6f" % seconds))
    if server_timing:
        metrics = [value for name, value in kept if name == b"server-timing" and value]
        metrics.append(b"app;dur=%.3f" % (seconds * 1000))
        kept = [pair for pair in kept if pair[0] != b"server-timing"]
        kept.append((b"server-timing", b", ".join(metrics)))
    return kept


def _log_slow(record: RequestRecord, slow_after: float) -> None:
    # Not the duration: event streams and WebSockets are long because they are meant to be.
    first = record.time_to_first_byte
    if (record.duration if first is None else first) < slow_after:
        return
    _logger.warning(
        "Slow request: %s %s, status %s (%s): %s, %.3f s in all, %.3f s in the background.",
        record.method,
        record.route,
        record.status,
        record.outcome,
        "no response" if first is None else f"{first:.3f} s to the first byte",
        record.duration,
        record.background,
    )
