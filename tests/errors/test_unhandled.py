"""What nobody handles is a 500 that says nothing, in full dress, and is seen once by everybody."""

import gzip
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import permutations
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import ResponseValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from fastkit.errors import install_exception_handlers
from fastkit.request_id import RequestIdMiddleware
from fastkit.timing import TimingMiddleware
from tests.errors.failing_app import MappedError, Reporter, inner
from tests.errors.support import SENTINEL, Exchange, client, exchange, problem

pytestmark = pytest.mark.anyio

BROWSER = ((b"origin", b"https://shop.example"), (b"accept-encoding", b"gzip"))


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastkit.errors"]


async def sent_to_inner(target: bytes) -> tuple[Exchange, list[Exception]]:
    reporter = Reporter(inner)
    answer = await exchange(reporter, target, headers=[(b"origin", b"https://shop.example")])
    return answer, reporter.seen


def test_the_body_says_nothing_of_the_exception() -> None:
    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/")
    async def crash() -> None:
        raise RuntimeError(SENTINEL)

    answer = client(app).get("/")
    body = problem(answer, 500)
    request_id = body.pop("request_id")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert body == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "Internal Server Error",
    }
    assert problem(client(app).get("/"))["request_id"] != request_id
    with pytest.raises(RuntimeError, match=SENTINEL):
        TestClient(app).get("/")


def test_the_log_has_one_line_with_the_id_of_the_body(caplog: pytest.LogCaptureFixture) -> None:
    answer = client(inner).get("/crash", headers={"Accept-Encoding": "identity"})
    request_id = problem(answer, 500)["request_id"]
    assert lines_of(caplog) == [f"unhandled RuntimeError [request_id={request_id}]"]
    (record,) = (record for record in caplog.records if record.name == "fastkit.errors")
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert answer.headers["x-request-id"] == request_id


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/crash", RuntimeError),
        ("/crash-in-a-thread", RuntimeError),
        ("/invalid-response", ResponseValidationError),
        ("/dependency-before", RuntimeError),
        ("/dependency-between", RuntimeError),
    ],
)
async def test_before_the_response_it_is_a_500_in_full_dress_and_is_raised_once(
    path: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    answer, seen = await sent_to_inner(path.encode())
    assert SENTINEL not in str(problem(answer, 500))
    for header in ("access-control-allow-origin", "x-request-id", "x-process-time", "x-tutorial"):
        assert header in answer.headers
    assert [type(exc) for exc in seen] == [error]
    assert len(lines_of(caplog)) == 1
    assert SENTINEL not in lines_of(caplog)[0]


@pytest.mark.parametrize(
    ("path", "error", "content"),
    [
        ("/stream", RuntimeError, b"first piece, "),
        ("/stream-from-a-thread", RuntimeError, b"first piece, "),
        ("/stream-http", RuntimeError, b"first piece, "),
        ("/stream-mapped", MappedError, b"first piece, "),
        ("/background", RuntimeError, b'"answered"'),
        ("/background-mapped", MappedError, b'"answered"'),
        ("/dependency-after", RuntimeError, b'"answered"'),
    ],
)
async def test_after_the_start_nothing_more_is_sent_and_it_is_raised_once(
    path: str, error: type[Exception], content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer, seen = await sent_to_inner(path.encode())
    assert answer.status_code == 200
    assert answer.content == content
    assert [type(exc) for exc in seen] == [error]
    assert len(lines_of(caplog)) == (error is RuntimeError)


@pytest.mark.parametrize("path", ["/mapped", "/dependency-turns"])
async def test_a_declared_exception_is_answered_and_not_raised(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, seen = await sent_to_inner(path.encode())
    assert problem(answer, 409)["detail"] == "Conflict"
    assert "access-control-allow-origin" in answer.headers
    assert seen == []
    assert lines_of(caplog) == []


async def base_http(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["X-Base"] = "yes"
    return response


ADD: dict[str, Callable[[FastAPI], object]] = {
    "cors": lambda app: app.add_middleware(CORSMiddleware, allow_origins=["*"]),
    "gzip": lambda app: app.add_middleware(GZipMiddleware, minimum_size=10),
    "base": lambda app: app.middleware("http")(base_http),
    "timing": lambda app: app.add_middleware(TimingMiddleware),
    "request id": lambda app: app.add_middleware(RequestIdMiddleware),
}
ORDERS = list(permutations([*ADD, "errors"], len(ADD) + 1))


def make_app(order: tuple[str, ...], error: Exception) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/before")
    async def before() -> None:
        raise error

    @app.get("/midway")
    async def midway() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first piece, " * 10
            raise error

        return StreamingResponse(pieces())

    for name in order:
        if name == "errors":
            install_exception_handlers(app)
        else:
            ADD[name](app)
    return app


async def test_in_every_order_a_crash_has_one_response_with_every_header() -> None:
    assert len(ORDERS) == 720
    for order in ORDERS:
        error = RuntimeError(SENTINEL)
        answer = await exchange(make_app(order, error), b"/before", headers=BROWSER)
        assert answer.error is error, order
        assert answer.status_code == 500, order
        assert answer.headers["access-control-allow-origin"] == "*", order
        assert answer.headers["x-base"] == "yes", order
        assert answer.headers["content-encoding"] == "gzip", order
        assert float(answer.headers["x-process-time"]) >= 0, order
        content = gzip.decompress(answer.content)
        assert answer.headers["x-request-id"].encode() in content, order
        assert SENTINEL.encode() not in content, order


async def test_in_every_order_a_crash_midway_has_one_start_and_is_raised() -> None:
    for order in ORDERS:
        error = RuntimeError(SENTINEL)
        answer = await exchange(make_app(order, error), b"/midway", headers=BROWSER)
        assert answer.error is error, order
        assert answer.status_code == 200, order
        assert "x-request-id" in answer.headers, order


async def test_in_every_order_an_http_exception_is_answered_and_not_raised() -> None:
    for order in ORDERS:
        answer = await exchange(
            make_app(order, HTTPException(404, "gone")), b"/before", headers=BROWSER
        )
        assert answer.error is None, order
        assert answer.status_code == 404, order
        assert answer.headers["access-control-allow-origin"] == "*", order
        assert b'"gone"' in gzip.decompress(answer.content), order


async def test_what_a_middleware_raises_is_the_servers_to_answer() -> None:
    app = FastAPI()
    install_exception_handlers(app)

    class Raising:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            raise HTTPException(401, "not answered as such")

    app.add_middleware(Raising)
    answer = await exchange(app)
    assert isinstance(answer.error, HTTPException)
    assert (answer.status_code, answer.content) == (500, b"Internal Server Error")


async def test_what_a_middleware_raises_while_it_sends_hides_no_exception() -> None:
    app = FastAPI()
    install_exception_handlers(app)
    error = RuntimeError("the app's")

    @app.get("/")
    async def crash() -> None:
        raise error

    class Raising:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def send_or_raise(message: Any) -> None:
                raise ValueError("the middleware's")

            await self.app(scope, receive, send_or_raise)

    app.add_middleware(Raising)
    answer = await exchange(app)
    assert answer.error is error
    assert str(error.__context__) == "the middleware's"
    assert answer.status_code == 500


async def test_in_debug_mode_the_problem_is_sent_and_not_the_traceback() -> None:
    app = FastAPI(debug=True)
    install_exception_handlers(app)

    @app.get("/")
    async def crash() -> None:
        raise RuntimeError(SENTINEL)

    answer = await exchange(app, headers=[(b"accept", b"text/html")])
    problem(answer, 500)
    assert isinstance(answer.error, RuntimeError)


async def test_a_message_that_starts_nothing_does_not_count_as_the_start() -> None:
    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/")
    async def hint(request: Request) -> Response:
        class Hinting(Response):
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await send({"type": "http.response.debug", "info": {}})
                raise RuntimeError(SENTINEL)

        return Hinting()

    answer = await exchange(app)
    assert [message["type"] for message in answer.sent] == [
        "http.response.debug",
        "http.response.start",
        "http.response.body",
    ]
    assert answer.sent[1]["status"] == 500


async def test_the_id_is_that_of_the_request_however_it_was_set() -> None:
    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/")
    async def crash(request: Request) -> None:
        request.state.request_id = 7
        raise RuntimeError(SENTINEL)

    assert problem(await exchange(app), 500)["request_id"] == "7"


async def test_an_error_response_that_fails_midway_is_raised() -> None:
    app = FastAPI()
    install_exception_handlers(app)

    @app.exception_handler(404)
    async def streaming(request: Request, exc: Exception) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first piece, "
            raise HTTPException(400, "too late")

        return StreamingResponse(pieces(), status_code=404)

    answer = await exchange(app, b"/nowhere")
    assert (answer.status_code, answer.content) == (404, b"first piece, ")
    assert isinstance(answer.error, HTTPException)
