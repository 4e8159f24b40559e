"""`Problem`, the value that becomes an error body, and the exceptions that carry one."""

import http.client
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii as quoted
from types import MappingProxyType
from typing import Any, ClassVar, cast

from fastapi import HTTPException
from starlette.responses import Response

from fastkit.errors._json import dump

__all__ = (
    "MEDIA_TYPE",
    "MEMBERS",
    "BadRequestError",
    "ConflictError",
    "ForbiddenError",
    "NotFoundError",
    "Problem",
    "ProblemError",
    "ProblemMap",
    "UnauthorizedError",
    "bare_problem",
    "phrase",
)

MEDIA_TYPE = "application/problem+json"
MEMBERS = frozenset({"type", "title", "status", "detail", "instance"})

# RFC 9110's names, which http.client has only from Python 3.13 on: a body must not change with the
# interpreter.
_RFC_9110_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_WITHOUT_BODY = frozenset({204, 205, 304})  # RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5
_CLASS_PHRASES = {4: "Client Error", 5: "Server Error"}

# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset({"content-encoding", "content-length", "content-type", "transfer-encoding"})


@cache
def phrase(status: int) -> str:
    """The name of `status` in RFC 9110, or that of its class."""
    return (
        _RFC_9110_PHRASES.get(status)
        or http.client.responses.get(status)
        or _CLASS_PHRASES.get(status // 100, "Error")
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """One error response, as RFC 9457 has it.

    Attributes:
        status: The HTTP status code (section 3.1.2).
        detail: What went wrong this time, for a person (3.1.4). Without one, the title is sent.
        title: What kind of problem this is (3.1.3). Without one, the status code's name.
        type: A URI that names the kind of problem (3.1.1).
        instance: A URI that names this occurrence (3.1.5); left out of the body when None.
        extensions: Further members of the body (3.2).
        headers: Headers of the response. What HTTP cannot carry is left out or replaced.

    Raises:
        ValueError: The status is not an integer from 200 to 599, which end a request, or an
            extension has the name of one of the members above.
    """

    status: int
    detail: str | None = None
    title: str | None = None
    type: str = "about:blank"
    instance: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=lambda: {})
    headers: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        status = cast("object", self.status)
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(
                f"{status!r} is no status that a response can end with: "
                "use an integer from 200 to 599."
            )
        if self.extensions and not MEMBERS.isdisjoint(self.extensions):
            name = sorted(MEMBERS.intersection(self.extensions))[0]
            raise ValueError(
                f"{name!r} is a member of every problem, not an extension: set it as {name} of the "
                "Problem, or in the class of a ProblemError."
            )

    def body(self) -> dict[str, Any]:
        """The members of the JSON body."""
        title = self.title or phrase(self.status)
        body: dict[str, Any] = {
            "type": self.type,
            "title": title,
            "status": self.status,
            "detail": self.detail or title,
        }
        if self.instance is not None:
            body["instance"] = self.instance
        body.update(self.extensions)
        return body

    def to_response(self) -> Response:
        """The response: `application/problem+json`, or no body for a status that may not have
        one."""
        headers = _sendable(self.headers) if self.headers else None
        if self.status in _WITHOUT_BODY:
            return Response(status_code=self.status, headers=headers)
        return Response(self._content(), self.status, headers, MEDIA_TYPE)

    def _content(self) -> bytes:
        """`body()` as JSON, in a fraction of the time where all of it are strings, as mostly."""
        title = self.title or phrase(self.status)
        try:
            text = _start(self.type, title, self.status) + quoted(self.detail or title)
            for name, value in self.extensions.items():
                text += f",{quoted(name)}:{quoted(value)}"
        except TypeError:  # something is no string
            text = ""
        if not text or self.instance is not None or "\\ud" in text:  # a surrogate, see dump()
            return dump(self.body())
        return f"{text}}}".encode("ascii")


@lru_cache
def _start(type_: str, title: str, status: int) -> str:
    """The JSON of a problem up to its detail: the same for all problems of a kind."""
    return f'{{"type":{quoted(type_)},"title":{quoted(title)},"status":{status:d},"detail":'


@lru_cache(typed=True)  # 404.0 is as good a key as 404, and no status
def bare_problem(status: int) -> Problem:
    """The problem that says what `status` does and no more, as the router's own 404: the same one
    for all requests, and so with extensions that no hook can add to."""
    return Problem(status, extensions=MappingProxyType({}))


ProblemMap = Mapping[type[Exception], int | Callable[[Any], Problem | None]]
"""An app's own exceptions: each with the status that answers it, or with a function from the
exception to its `Problem` (None: this one is not handled after all)."""


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may stand in a response (RFC 9110, sections 5.1 and 5.5).

    An error must be answered even where a header of it cannot be sent: a name that is no token is
    dropped, and a character that no server would write becomes a space or a question mark.
    """
    return {
        name: _CONTROL.sub(" ", str(value)).strip().encode("latin-1", "replace").decode("latin-1")
        for name, value in headers.items()
        if _TOKEN.fullmatch(name) and name.lower() not in _OURS
    }


class ProblemError(HTTPException):
    """Base of exceptions that are their own problem.

    Subclass it once for each kind of error and raise that:

        class OutOfStockError(ProblemError):
            status = 409
            type = "https://shop.example/problems/out-of-stock"
            title = "Out of stock"

        raise OutOfStockError("Only 3 left.", left=3)

    Args:
        detail: What went wrong this time, for the client to read.
        headers: Headers of the response.
        **extensions: Further members of the body.

    Raises:
        TypeError: A subclass has a `status` that is not an integer from 400 to 599 (when the class
            is made), or this class itself is raised.
    """

    status: ClassVar[int]
    type: ClassVar[str] = "about:blank"
    title: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _check_error_status(cls)

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **extensions: object,
    ) -> None:
        if not hasattr(self, "status"):
            _check_error_status(type(self))
        super().__init__(self.status, detail or self.title or phrase(self.status), headers)
        self.problem: Problem = Problem(
            self.status,
            detail=detail,
            title=self.title,
            type=self.type,
            extensions=extensions,
            headers=headers,
        )


def _check_error_status(cls: type[ProblemError]) -> None:
    status: object = getattr(cls, "status", None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        raise TypeError(
            f"{cls.__qualname__}.status is {status!r}, which is no error status: "
            "set it to an integer from 400 to 599."
        )


class BadRequestError(ProblemError):
    """400: the request makes no sense (RFC 9110, section 15.5.1)."""

    status = 400


class UnauthorizedError(ProblemError):
    """401: who is asking is not known (RFC 9110, section 15.5.2).

    Args:
        detail: What went wrong, for the client to read.
        challenge: The `WWW-Authenticate` header, which a 401 must have (section 11.6.1).
        headers: Further headers of the response.
        **extensions: Further members of the body.
    """

    status = 401

    def __init__(
        self,
        detail: str | None = None,
        *,
        challenge: str = "Bearer",
        headers: Mapping[str, str] | None = None,
        **extensions: object,
    ) -> None:
        challenged = {"WWW-Authenticate": challenge, **(headers or {})}
        super().__init__(detail, headers=challenged, **extensions)


class ForbiddenError(ProblemError):
    """403: who is asking may not do this (RFC 9110, section 15.5.4)."""

    status = 403


class NotFoundError(ProblemError):
    """404: there is no such thing here (RFC 9110, section 15.5.5)."""

    status = 404


class ConflictError(ProblemError):
    """409: the state of the thing does not allow it (RFC 9110, section 15.5.10)."""

    status = 409
