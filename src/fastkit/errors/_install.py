"""`install_exception_handlers`."""

from typing import cast

from fastapi import FastAPI
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from fastapi.exceptions import HTTPException as FastAPIHTTPException
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware import Middleware

from fastkit.errors._handlers import ProblemHook, Problems
from fastkit.errors._middleware import ErrorMiddleware, refuse_rival_handler
from fastkit.errors._openapi import document_problems
from fastkit.errors._problem import ProblemMap

__all__ = ("install_exception_handlers",)

# What FastAPI and Starlette would answer themselves, with the handlers that a new app has for it.
# The exceptions in maps need no handler: they come to the middleware, and Starlette would replace
# one that has a handler with a RuntimeError where the response has started.
_DEFAULT_HANDLERS: dict[type[Exception], object] = {
    HTTPException: http_exception_handler,
    RequestValidationError: request_validation_exception_handler,
    WebSocketException: None,
    WebSocketRequestValidationError: websocket_request_validation_exception_handler,
}


def install_exception_handlers(
    app: FastAPI,
    *maps: ProblemMap,
    include_input: bool = False,
    on_problem: ProblemHook | None = None,
) -> None:
    """Answer every error of `app` with a problem (RFC 9457, `application/problem+json`).

    Handled are `HTTPException` (the router's 404 and 405 too), validation errors, the exceptions in
    `maps`, and any other exception: that one is a 500 which says nothing of it but the request's
    id, sent through the app's middleware, and is then raised again for the server to log.

    Args:
        app: The app. Its middleware may be added before or after.
        *maps: The app's own exceptions, each with the status that answers it or a function that
            makes the `Problem`. Of two entries for one exception the later counts.
        include_input: Let validation errors tell what the client had sent. Passwords are sent back,
            too.
        on_problem: Called before a problem is sent, to count or to log it. An exception it raises
            is logged.

    Raises:
        RuntimeError: The app has served already, has fastkit's handlers already, or has a handler
            of its own where one of these would go.
        TypeError: A key of `maps` is no exception class, or is `Exception` itself, or a value is
            neither a status nor a function.
        ValueError: A status in `maps` is not from 400 to 599.
    """
    if app.middleware_stack is not None:
        raise RuntimeError(
            f"The middleware of {app!r} is built already, because it has served: "
            "call install_exception_handlers() right after making the app."
        )
    if ErrorMiddleware in [cast("object", middleware.cls) for middleware in app.user_middleware]:
        raise RuntimeError(
            f"{app!r} has fastkit's handlers already: call install_exception_handlers() once, "
            "with all the maps."
        )
    problems = Problems(app, maps, include_input=include_input, on_problem=on_problem)
    refuse_rival_handler(app)
    for kind in (*_DEFAULT_HANDLERS, FastAPIHTTPException, *problems.factories):
        # A handler for a base would answer in place of the map.
        for base in kind.__mro__:
            existing = app.exception_handlers.get(base)
            if existing is not None and existing is not _DEFAULT_HANDLERS.get(base):
                raise RuntimeError(
                    f"{app!r} has a handler for {base.__qualname__} already, {existing!r}: remove "
                    "it, or add it after install_exception_handlers() to use it in place of "
                    "fastkit's."
                )
    for kind in _DEFAULT_HANDLERS:
        app.add_exception_handler(kind, problems.handle)
    # Appended, so that it is the innermost: what it sends passes through every middleware of the
    # app, added before or after, and the exceptions of none of them reach it.
    app.user_middleware.append(Middleware(ErrorMiddleware, problems=problems))
    document_problems(app)
