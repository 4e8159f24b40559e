"""Which problem answers an exception."""

import http.client
import inspect
import logging
from collections.abc import Awaitable, Callable
from itertools import takewhile
from secrets import token_hex
from traceback import walk_tb
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from fastkit.errors._json import plain
from fastkit.errors._problem import (
    MEMBERS,
    Problem,
    ProblemError,
    ProblemMap,
    bare_problem,
    phrase,
)
from fastkit.errors._validation import validation_problem

__all__ = ("ProblemHook", "Problems", "show", "single_leaf")

ProblemHook = Callable[[HTTPConnection, Exception, Problem], Awaitable[None] | None]
"""Called with the request (or WebSocket), the exception and the problem that is about to be
sent."""

_Factory = Callable[[Any], Problem | None]

_logger = logging.getLogger("fastkit.errors")


class Problems:
    """The exceptions that an app answers, and the answers.

    Starlette finds a handler by the exception's class, twice for one exception: around the route,
    and around the router. A handler that raises in the first place is therefore heard again in the
    second.
    """

    def __init__(
        self,
        app: FastAPI,
        maps: tuple[ProblemMap, ...],
        *,
        include_input: bool,
        on_problem: ProblemHook | None,
    ) -> None:
        def invalid(exc: RequestValidationError | WebSocketRequestValidationError) -> Problem:
            return validation_problem(exc.errors(), include_input=include_input)

        self.app: FastAPI = app
        self.on_problem: ProblemHook | None = on_problem
        self.factories: dict[type[Exception], _Factory] = {
            HTTPException: _http_problem,
            RequestValidationError: invalid,
            WebSocketRequestValidationError: invalid,
        }
        for entries in maps:
            for kind, answer in entries.items():
                self.factories[_checked_kind(kind)] = _checked_factory(kind, answer)

    def answer(self, scope: Scope, exc: Exception) -> tuple[Problem, Exception | None]:
        """The problem that answers `exc`, and what is to be raised after: None where `exc` is
        declared."""
        try:
            problem = self._problem_for(exc)
        except Exception as failure:
            problem, exc = None, failure
        if problem is not None:
            return problem, None
        return _unhandled_problem(scope, exc), exc

    def _problem_for(self, exc: Exception) -> Problem | None:
        leaf = single_leaf(exc)
        for kind in type(leaf).__mro__:
            factory = self.factories.get(kind)
            if factory is not None:
                problem = cast("object", factory(leaf))
                if isinstance(problem, Problem | None):
                    return problem
                raise TypeError(
                    f"{factory!r} answers {kind.__qualname__} with {problem!r}: "
                    "return a Problem, or None for what is not handled after all."
                )
        return _framework_problem(leaf)

    async def handle(self, connection: HTTPConnection, exc: Exception) -> Response:
        """The handler of what the framework raises."""
        problem = self._problem_for(exc) if connection.scope["type"] == "http" else None
        if problem is None:
            # The middleware is next: it knows how far a WebSocket has come, and what to do with an
            # unhandled exception.
            raise exc
        if self.on_problem is not None:
            await show(self.on_problem, connection, exc, problem)
        return problem.to_response()


async def show(
    on_problem: ProblemHook, connection: HTTPConnection, exc: Exception, problem: Problem
) -> None:
    """Let the hook see `problem`, which is sent all the same if it raises."""
    leaf = single_leaf(exc)
    try:
        seen = on_problem(connection, leaf, problem)
        if inspect.isawaitable(seen):
            await seen
    except Exception as failure:
        # Not with the exception of the request, whose text has what the client sent.
        if failure is not leaf:
            failure.__context__ = failure.__cause__ = None
        _logger.error(
            "on_problem=%r raised; the problem is sent all the same",
            on_problem,
            exc_info=failure is not leaf,
        )


def single_leaf(exc: Exception) -> Exception:
    """What a group (or group of groups) of a single exception counts as: that exception. Anything
    else is itself."""
    if isinstance(exc, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", exc)
        if len(group.exceptions) == 1:
            return single_leaf(group.exceptions[0])
        return group
    return exc


def _http_problem(exc: HTTPException) -> Problem:
    if isinstance(exc, ProblemError):
        return exc.problem
    # FastAPI lets `detail` be anything, whatever Starlette's annotation says.
    detail = exc.detail if type(exc.detail) is str else plain(exc.detail)
    if isinstance(detail, dict):
        return _problem_from_members(exc, cast("dict[str, Any]", detail))
    if isinstance(detail, list):
        return Problem(exc.status_code, extensions={"errors": detail}, headers=exc.headers)
    # The second is what Starlette says where no detail is given, which depends on the Python.
    default = detail in (phrase(exc.status_code), http.client.responses.get(exc.status_code))
    if default and not exc.headers:
        return bare_problem(exc.status_code)
    return Problem(exc.status_code, detail=None if default else str(detail), headers=exc.headers)


def _problem_from_members(exc: HTTPException, members: dict[str, Any]) -> Problem:
    """A dict as `detail` is the body's members: those of RFC 9457 where they are strings, the
    others as they are."""
    known = {
        name: members[name]
        for name in ("type", "title", "detail", "instance")
        if isinstance(members.get(name), str)
    }
    extensions = {name: value for name, value in members.items() if name not in MEMBERS}
    return Problem(exc.status_code, **known, extensions=extensions, headers=exc.headers)


def _checked_kind(kind: object) -> type[Exception]:
    if kind is Exception:
        raise TypeError(
            "Exception cannot be mapped to a problem: what nothing else handles is a 500 already. "
            "Use on_problem= to do something with it."
        )
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise TypeError(
            f"{kind!r} is no exception class: a map's keys are subclasses of Exception."
        )
    return kind


def _checked_factory(kind: type[Exception], answer: int | _Factory) -> _Factory:
    if not isinstance(answer, int):
        if callable(answer):
            return answer
        raise TypeError(
            f"{kind.__qualname__} is mapped to {answer!r}: "
            "use a status from 400 to 599, or a function that makes the Problem."
        )
    if not 400 <= answer <= 599:
        raise ValueError(
            f"{kind.__qualname__} is mapped to {answer!r}, which is no error status: "
            "use one from 400 to 599."
        )
    problem = bare_problem(answer)
    return lambda _: problem


def _framework_problem(exc: Exception) -> Problem | None:
    """The problem of a ValueError that the framework lets out, though the request is to blame."""
    if not isinstance(exc, ValueError):
        return None
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(exc.__traceback__)]
    if modules and modules[-1] == "starlette.convertors":
        return bare_problem(404)  # a number in the path, of more digits than int() takes
    framework = takewhile(
        lambda name: name.startswith(("fastapi.", "pydantic.")), reversed(modules)
    )
    if isinstance(exc, UnicodeEncodeError) and "fastapi.dependencies.utils" in framework:
        # A validator's message, with a lone surrogate of the body in it.
        error = {"type": "string_unicode", "loc": ("body",), "msg": "Input should be valid Unicode"}
        return validation_problem([error], include_input=False)
    return None


def _unhandled_problem(scope: Scope, exc: Exception) -> Problem:
    """The 500 for `exc`, which says nothing of it, and a line in the log that has the same id."""
    request_id = str(scope.get("state", {}).get("request_id") or token_hex(16))
    _logger.error("unhandled %s [request_id=%s]", type(exc).__qualname__, request_id)
    return Problem(500, extensions={"request_id": request_id})
