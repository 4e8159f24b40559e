"""`on_problem`: something is done first, and then the default goes on."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketException
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from fastkit.errors import ConflictError, Problem, ProblemHook, install_exception_handlers
from tests.errors.support import SENTINEL, call, client, problem

Seen = list[tuple[str, Exception, Problem]]


class ShopError(Exception):
    pass


def make_app(hook: ProblemHook) -> FastAPI:
    app = FastAPI()
    install_exception_handlers(app, {ShopError: 409}, on_problem=hook)
    raised: dict[str, Exception] = {
        "http": HTTPException(404, "gone"),
        "problem": ConflictError("taken"),
        "mapped": ShopError(SENTINEL),
        "crash": RuntimeError(SENTINEL),
        "group": ExceptionGroup("one", [ShopError(SENTINEL)]),
    }

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise raised[name]

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> None: ...

    @app.get("/midway")
    async def midway() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first piece"
            raise RuntimeError(SENTINEL)

        return StreamingResponse(pieces())

    @app.websocket("/ws/{name}")
    async def socket(websocket: WebSocket, name: str, n: int = 0) -> None:
        if n:
            await websocket.accept()
        raise raised[name]

    @app.websocket("/policy")
    async def policy(websocket: WebSocket) -> None:
        raise WebSocketException(1008, "said")

    return app


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_hook_sees_every_problem_before_it_is_sent(kind: str) -> None:
    seen: Seen = []

    def sync_hook(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
        seen.append((connection.url.path, exc, problem))

    async def async_hook(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
        await asyncio.sleep(0)
        seen.append((connection.url.path, exc, problem))

    app = make_app(sync_hook if kind == "sync" else async_hook)
    for path, raised, status in (
        ("/raise/http", HTTPException, 404),
        ("/raise/problem", ConflictError, 409),
        ("/raise/mapped", ShopError, 409),
        ("/raise/group", ShopError, 409),
        ("/raise/crash", RuntimeError, 500),
        ("/nowhere", StarletteHTTPException, 404),
        ("/items/x", RequestValidationError, 422),
    ):
        problem(call(app, path.encode()), status)
        (found,) = seen
        assert found[0] == path
        assert type(found[1]) is raised
        assert found[2].status == status
        seen.clear()


def test_the_hook_sees_the_problems_of_websockets() -> None:
    seen: Seen = []
    app = make_app(
        lambda connection, exc, problem: seen.append((connection.url.path, exc, problem))
    )
    sockets = TestClient(app, raise_server_exceptions=False)
    for path, raised, status in (
        ("/ws/http", HTTPException, 404),
        ("/ws/mapped?n=1", ShopError, 409),
        ("/ws/crash", RuntimeError, 500),
        ("/ws/http?n=x", WebSocketRequestValidationError, 422),
    ):
        with (
            pytest.raises((WebSocketDenialResponse, WebSocketDisconnect, RuntimeError)),
            sockets.websocket_connect(path) as websocket,
        ):
            websocket.receive_text()
        (found,) = seen
        assert found[0] == path.partition("?")[0]
        assert type(found[1]) is raised
        assert found[2].status == status
        seen.clear()


def test_the_hook_does_not_see_what_is_no_problem() -> None:
    seen: Seen = []
    app = make_app(
        lambda connection, exc, problem: seen.append((connection.url.path, exc, problem))
    )
    call(app, b"/midway")
    with (
        pytest.raises(WebSocketDisconnect),
        TestClient(app).websocket_connect("/policy"),
    ):
        pass
    assert seen == []


def test_the_notes_pattern_of_doing_something_first_is_one_argument(
    caplog: pytest.LogCaptureFixture,
) -> None:
    audit = logging.getLogger("audit")
    app = FastAPI()
    install_exception_handlers(
        app, on_problem=lambda connection, exc, _: audit.warning("%s: %r", connection.url.path, exc)
    )

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> None:
        if item_id == 3:
            raise HTTPException(418, "Nope! I don't like 3.")

    assert problem(client(app).get("/items/3"), 418)["detail"] == "Nope! I don't like 3."
    problem(client(app).get("/items/x"), 422)
    lines = [record.getMessage() for record in caplog.records if record.name == "audit"]
    assert lines[0] == '/items/3: HTTPException(status_code=418, detail="Nope! I don\'t like 3.")'
    assert lines[1].startswith("/items/x: RequestValidationError")


class HookError(Exception):
    pass


def raises(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
    raise HookError("the hook's own")


async def raises_async(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
    raise HookError("the hook's own") from exc


def raises_deeper(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
    try:
        raise exc
    except Exception as same:
        raise HookError("the hook's own") from same


@pytest.mark.parametrize("hook", [raises, raises_async, raises_deeper])
@pytest.mark.parametrize(
    ("path", "status"), [("/items/SENTINEL-hunter2", 422), ("/raise/crash", 500)]
)
def test_a_hook_that_raises_is_logged_without_what_the_client_sent(
    hook: ProblemHook, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = call(make_app(hook), path.encode())
    problem(answer, status)
    record = caplog.records[-1]
    assert record.name == "fastkit.errors"
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("on_problem=<function raises")
    assert record.getMessage().endswith("raised; the problem is sent all the same")
    assert "HookError: the hook's own" in caplog.text
    assert SENTINEL not in caplog.text


def test_a_hook_that_raises_the_same_exception_is_logged_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def reraises(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
        raise exc

    problem(call(make_app(reraises), b"/items/SENTINEL-hunter2"), 422)
    problem(call(make_app(reraises), b"/raise/group"), 409)
    assert "raised; the problem is sent all the same" in caplog.text
    assert SENTINEL not in caplog.text
    error = RuntimeError(SENTINEL)
    error.__cause__ = cause = ValueError("why")
    app = FastAPI()
    install_exception_handlers(app, on_problem=reraises)

    @app.get("/")
    async def fail() -> None:
        raise error

    assert call(app).error is error
    assert error.__cause__ is cause


def test_a_hook_sees_the_app_and_its_state() -> None:
    def count(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
        connection.app.state.count += 1

    app = make_app(count)
    app.state.count = 0
    call(app, b"/nowhere")
    call(app, b"/raise/crash")
    assert app.state.count == 2


def test_a_handler_of_the_apps_own_is_not_shown_to_the_hook() -> None:
    seen: Seen = []
    app = make_app(
        lambda connection, exc, problem: seen.append((connection.url.path, exc, problem))
    )

    @app.exception_handler(ShopError)
    async def own(*_: Any) -> PlainTextResponse:
        return PlainTextResponse("own")

    assert client(app).get("/raise/mapped").text == "own"
    assert seen == []


@pytest.mark.parametrize("path", ["/raise/mapped", "/nowhere"])
def test_what_a_hook_adds_to_a_problem_is_in_no_later_one(path: str) -> None:
    async def add(connection: HTTPConnection, exc: Exception, problem: Problem) -> None:
        extensions: Any = problem.extensions
        extensions["secret"] = SENTINEL

    def look(connection: HTTPConnection, exc: Exception, problem: Problem) -> None: ...

    bare = client(make_app(look)).get(path).content
    adding = client(make_app(add))
    assert adding.get(path).content == bare
    assert client(make_app(look)).get(path).content == bare
    assert SENTINEL not in adding.get(path).text
