"""The innermost middleware: it answers what no handler did, and speaks for all of them on a
WebSocket."""

import contextlib

from fastapi import FastAPI
from starlette.exceptions import WebSocketException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose, WebSocketDisconnect

from fastkit.errors._handlers import Problems, unhandled_problem
from fastkit.errors._problem import Problem

__all__ = ("ErrorMiddleware", "refuse_rival_handler")

# Bytes: a control frame carries 125, of which the close code takes 2 (RFC 6455, section 5.5).
_MAX_REASON = 123


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        send_failures: list[Exception] = []

        async def tracked_send(message: Message) -> None:
            nonlocal started
            started = True
            try:
                await send(message)
            except Exception as exc:
                send_failures.append(exc)
                raise

        try:
            await self.app(scope, receive, tracked_send)
        except Exception as exc:
            if exc in send_failures or isinstance(exc, ClientDisconnect):
                raise  # nobody is there to be told
            request = Request(scope, receive)
            problem = self.problems.problem_for(exc) or _path_problem(exc)
            answer = problem or unhandled_problem(request, exc)
            if not started:
                response = await self.problems.response(request, exc, answer)
                await response(scope, receive, send)
            if started or problem is None:
                raise

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted = closed = False

        async def tracked_receive() -> Message:
            nonlocal closed
            message = await receive()
            closed = closed or message["type"] == "websocket.disconnect"
            return message

        async def tracked_send(message: Message) -> None:
            nonlocal accepted, closed
            if message["type"] == "websocket.accept":
                accepted = True
            elif message["type"] != "websocket.send":
                closed = True
            await send(message)

        try:
            await self.app(scope, tracked_receive, tracked_send)
        except WebSocketDisconnect:
            raise
        except WebSocketException as exc:
            if not closed:
                await _close(exc.code, exc.reason, scope, receive, send)
        except Exception as exc:
            websocket = WebSocket(scope, receive, send)
            problem = self.problems.problem_for(exc)
            answer = problem or unhandled_problem(websocket, exc)
            if not closed:
                response = await self.problems.response(websocket, exc, answer)
                if not accepted and "websocket.http.response" in scope.get("extensions", ()):
                    await response(scope, receive, send)
                else:
                    await _close(
                        1008 if answer.status < 500 else 1011,
                        answer.body()["detail"],
                        scope,
                        receive,
                        send,
                    )
            if problem is None:
                raise


async def _close(code: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    short = reason.encode()[:_MAX_REASON].decode(errors="ignore")
    with contextlib.suppress(OSError):  # the client has gone in the meantime
        await WebSocketClose(code, short)(scope, receive, send)


def _path_problem(exc: Exception) -> Problem | None:
    """404 for a path whose number has more digits than `int()` takes: Starlette lets that
    ValueError out of its router."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if (
        isinstance(exc, ValueError)
        and frame is not None
        and frame.tb_frame.f_globals.get("__name__") == "starlette.convertors"
    ):
        return Problem(404)
    return None
