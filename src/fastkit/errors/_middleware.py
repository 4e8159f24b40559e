"""The innermost middleware: it answers what no handler did, and speaks for all of them on a
WebSocket."""

import contextlib
from collections.abc import Awaitable
from typing import cast

from fastapi import FastAPI
from starlette.exceptions import WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose, WebSocketDisconnect

from fastkit.errors._handlers import Problems, show, single_leaf
from fastkit.errors._problem import Problem

__all__ = ("ErrorMiddleware", "refuse_rival_handler")

# Bytes: a control frame carries 125, of which the close code takes 2 (RFC 6455, section 5.5).
_MAX_REASON = 123

_GONE = (ClientDisconnect, WebSocketDisconnect)
_WEBSOCKET_ENDS = frozenset({"websocket.close", "websocket.http.response.start"})


def refuse_rival_handler(app: FastAPI) -> None:
    """Raise RuntimeError if `app` has a handler for any exception, which fastkit's answer would
    silence."""
    for key in (500, Exception):
        if key in app.exception_handlers:
            raise RuntimeError(
                f"{app!r} has a handler for {key!r}, {app.exception_handlers[key]!r}, beside "
                "fastkit's, which answers unhandled exceptions: remove it, and use on_problem= to "
                "do something with them."
            )


class ErrorMiddleware:
    """Sends a problem for an exception that no handler answered, and raises it again if nothing
    declares it."""

    def __init__(self, app: ASGIApp, *, problems: Problems) -> None:
        # The stack is built when the app starts: the last chance to see a handler that was added
        # after ours.
        refuse_rival_handler(problems.app)
        self.app: ASGIApp = app
        self.problems: Problems = problems

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own, which each exception would have to pass through.
        if scope["type"] == "http":
            return self._http(scope, receive, send)
        if scope["type"] == "websocket":
            return self._websocket(scope, receive, send)
        return self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = _Sender(send)
        try:
            try:
                await self.app(scope, receive, sender)
            except ExceptionGroup as group:
                await self._answer_as_leaf(cast("Exception", group), scope, receive, sender)
        except Exception as exc:
            if sender.is_cut_off(exc):
                raise
            problem, unhandled = self.problems.answer(scope, exc)
            if "http.response.start" in sender.sent:
                raise
            try:
                if self.problems.on_problem is not None:
                    request = Request(scope, receive)
                    await show(self.problems.on_problem, request, unhandled or exc, problem)
                await problem.to_response()(scope, receive, send)
            finally:
                if unhandled is not None:
                    try:
                        raise unhandled
                    finally:
                        # Its traceback holds this frame: together they would wait for the garbage
                        # collector, with all that the request had.
                        del unhandled

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = _Sender(send)
        disconnected = False

        async def tracked_receive() -> Message:
            nonlocal disconnected
            message = await receive()
            disconnected = disconnected or message["type"] == "websocket.disconnect"
            return message

        try:
            try:
                await self.app(scope, tracked_receive, sender)
            except ExceptionGroup as group:
                await self._answer_as_leaf(cast("Exception", group), scope, tracked_receive, sender)
        except Exception as exc:
            if sender.is_cut_off(exc):
                raise
            is_open = not disconnected and sender.sent.isdisjoint(_WEBSOCKET_ENDS)
            leaf = single_leaf(exc)
            if isinstance(leaf, WebSocketException):
                if is_open:
                    await _close(leaf.code, leaf.reason, scope, receive, send)
                return
            problem, unhandled = self.problems.answer(scope, exc)
            try:
                if is_open:
                    websocket = WebSocket(scope, receive, send)
                    await self._deny_or_close(websocket, sender, unhandled or exc, problem)
            finally:
                if unhandled is not None:
                    try:
                        raise unhandled
                    finally:
                        del unhandled  # as above

    async def _answer_as_leaf(
        self, group: Exception, scope: Scope, receive: Receive, sender: "_Sender"
    ) -> None:
        """Let the app's handlers hear a group of one exception as that one; else raise it again."""
        leaf = single_leaf(group)
        if "http.response.start" in sender.sent or isinstance(leaf, ExceptionGroup):
            raise group

        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            raise leaf

        handlers = self.problems.app.exception_handlers
        try:
            await ExceptionMiddleware(fail, handlers=handlers)(scope, receive, sender)
        except Exception as exc:
            if exc is leaf:
                raise group from None
            raise

    async def _deny_or_close(
        self, websocket: WebSocket, sender: "_Sender", exc: Exception, problem: Problem
    ) -> None:
        scope, receive, send = websocket.scope, websocket.receive, sender.send
        if self.problems.on_problem is not None:
            await show(self.problems.on_problem, websocket, exc, problem)
        can_deny = "websocket.http.response" in (scope.get("extensions") or ())
        if can_deny and "websocket.accept" not in sender.sent:
            with contextlib.suppress(OSError):
                await problem.to_response()(scope, receive, send)
        else:
            code = 1008 if problem.status < 500 else 1011
            await _close(code, problem.body()["detail"], scope, receive, send)


class _Sender:
    """Sends, and remembers what was sent and what could not be."""

    __slots__ = ("failures", "send", "sent")

    def __init__(self, send: Send) -> None:
        self.send: Send = send
        self.sent: set[str] = set()
        self.failures: dict[int, Exception] = {}  # by their id

    async def __call__(self, message: Message) -> None:
        self.sent.add(message["type"])
        try:
            await self.send(message)
        except Exception as exc:
            self.failures[id(exc)] = exc
            raise

    def is_cut_off(self, exc: Exception) -> bool:
        """Whether `exc` says only that the client has gone, or that nothing more can be sent."""
        if isinstance(exc, _GONE) or id(exc) in self.failures:
            return True
        if not isinstance(exc, ExceptionGroup):
            return False
        group = cast("ExceptionGroup[Exception]", exc)
        return all(self.is_cut_off(part) for part in group.exceptions)


async def _close(code: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    short = reason.encode(errors="replace")[:_MAX_REASON].decode(errors="ignore")
    with contextlib.suppress(OSError):  # the client has gone in the meantime
        await WebSocketClose(code, short)(scope, receive, send)
