"""How far the handlers reach: streams and events, body limits, mounted apps."""

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from fastkit.errors import ConflictError, install_exception_handlers
from tests.errors.support import SENTINEL, Exchange, call, client, exchange, problem

pytestmark = pytest.mark.anyio

limits_bodies = pytest.mark.skipif(
    "max_body_size" not in inspect.signature(FastAPI).parameters,
    reason="this FastAPI has no max_body_size",
)


class MappedError(Exception):
    pass


def make_app(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    install_exception_handlers(app, {MappedError: 409})
    return app


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastkit.errors"]


def event_app(first: Exception | None, later: Exception) -> FastAPI:
    sse = pytest.importorskip("fastapi.sse", reason="this FastAPI has no server-sent events")
    app = make_app()

    def fails() -> None:
        if first is not None:
            raise first

    async def events() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(0.1)  # an event is sent by a task of its own
        raise later

    app.get("/events", response_class=sse.EventSourceResponse, dependencies=[Depends(fails)])(
        events
    )
    app.get("/lines", dependencies=[Depends(fails)])(events)

    def events_in_a_thread() -> Iterator[int]:
        yield 1
        raise later

    app.get("/threaded", dependencies=[Depends(fails)])(events_in_a_thread)
    return app


@pytest.mark.parametrize("path", [b"/events", b"/lines", b"/threaded"])
@pytest.mark.parametrize(
    ("first", "status"), [(MappedError(), 409), (HTTPException(403), 403), (RuntimeError(), 500)]
)
def test_a_stream_that_does_not_begin_is_a_problem(
    path: bytes, first: Exception, status: int
) -> None:
    answer = call(event_app(first, RuntimeError()), path)
    problem(answer, status)
    assert answer.error is (first if status == 500 else None)


@pytest.mark.parametrize("path", [b"/events", b"/lines", b"/threaded"])
@pytest.mark.parametrize("later", [RuntimeError(SENTINEL), MappedError(), HTTPException(404)])
def test_a_stream_that_breaks_off_is_raised_and_has_one_start(
    path: bytes, later: Exception
) -> None:
    answer = call(event_app(None, later), path)
    assert answer.status_code == 200
    assert b"1" in answer.content
    assert b"problem" not in answer.content
    assert answer.error is not None


@pytest.mark.parametrize("path", [b"/events", b"/lines"])
def test_a_client_that_leaves_a_stream_of_events_is_not_called_unhandled(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = call(event_app(None, HTTPException(404)), path, fail_at="http.response.body")
    assert [message["type"] for message in answer.sent] == ["http.response.start"]
    assert answer.error is not None
    assert lines_of(caplog) == []


@pytest.mark.parametrize("spec_version", ["2.0", "2.4"])
@pytest.mark.parametrize("fail_at", ["http.response.start", "http.response.body"])
async def test_a_client_that_leaves_is_not_called_unhandled(
    fail_at: str, spec_version: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces())

    @app.get("/whole")
    async def whole() -> str:
        return "whole"

    @app.get("/error")
    async def error() -> None:
        raise MappedError

    for path in (b"/stream", b"/whole", b"/nowhere"):
        asgi = {"version": "3.0", "spec_version": spec_version}
        answer = await exchange(app, path, fail_at=fail_at, asgi=asgi)
        assert len(answer.of_type("http.response.start")) <= 1
        assert lines_of(caplog) == []


async def test_a_client_that_leaves_before_an_unhandled_error_hides_it_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app()
    error = RuntimeError(SENTINEL)

    @app.get("/")
    async def crash() -> None:
        raise error

    answer = await exchange(app, fail_at="http.response.start")
    assert answer.error is error
    assert len(lines_of(caplog)) == 1


async def test_a_body_that_does_not_end_is_no_error_of_the_app(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app()

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    answer = await Exchange([{"type": "http.disconnect"}]).run(
        app,
        {
            "type": "http",
            "method": "POST",
            "path": "/raw",
            "raw_path": b"/raw",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-length", b"9")],
        },
    )
    assert isinstance(answer.error, ClientDisconnect)
    assert lines_of(caplog) == []


@limits_bodies
@pytest.mark.parametrize("level", ["app", "route"])
@pytest.mark.parametrize("path", [b"/json", b"/raw"])
def test_a_body_found_to_be_too_long_is_a_problem(level: str, path: bytes) -> None:
    app = limited_app(level)
    answer = sent_long_body(app, path, announced=False)
    assert problem(answer, 413)["detail"] == "Content Too Large"


@limits_bodies
@pytest.mark.parametrize("level", ["app", "route"])
@pytest.mark.parametrize("path", [b"/json", b"/raw", b"/unread"])
def test_a_body_announced_to_be_too_long_is_refused_in_the_frameworks_words(
    level: str, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = sent_long_body(limited_app(level), path, announced=True)
    assert (answer.status_code, answer.content) == (413, b"Content Too Large")
    assert answer.error is None
    assert lines_of(caplog) == []


@limits_bodies
@pytest.mark.parametrize("level", ["app", "route"])
def test_a_body_too_long_hides_no_unhandled_exception(level: str) -> None:
    answer = sent_long_body(limited_app(level), b"/crash", announced=True)
    assert answer.status_code == (413 if level == "app" else 500)
    assert isinstance(answer.error, RuntimeError)


def limited_app(level: str) -> FastAPI:
    limit: dict[str, Any] = {"max_body_size": 10}
    app = make_app(**limit if level == "app" else {})
    options: dict[str, Any] = limit if level == "route" else {}

    @app.post("/json", **options)
    async def json(body: Annotated[Any, Body()]) -> None: ...

    @app.post("/raw", **options)
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.post("/unread", **options)
    async def unread() -> None: ...

    @app.post("/crash", **options)
    async def crash() -> None:
        raise RuntimeError(SENTINEL)

    return app


def sent_long_body(app: FastAPI, path: bytes, *, announced: bool) -> Exchange:
    headers = [(b"content-type", b"application/json")]
    if announced:
        headers.append((b"content-length", b"20"))
    return call(app, path, method="POST", headers=headers, body=b'"' + b"x" * 18 + b'"')


def mounting(mounted: Any) -> FastAPI:
    app = make_app()
    app.mount("/sub", mounted)
    return app


def failing(app: FastAPI) -> FastAPI:
    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError(SENTINEL)

    @app.get("/taken")
    async def taken() -> None:
        raise ConflictError("taken", by=7)

    @app.get("/mapped")
    async def mapped() -> None:
        raise MappedError

    return app


def test_a_mounted_fastapi_answers_as_itself_unless_it_has_the_handlers_too() -> None:
    app = mounting(failing(FastAPI()))
    assert client(app).get("/sub/taken").json() == {"detail": "taken"}
    assert client(app).get("/sub/nowhere").json() == {"detail": "Not Found"}
    assert client(app).get("/sub/crash").text == "Internal Server Error"
    assert client(app).get("/sub/mapped").text == "Internal Server Error"
    app = mounting(failing(make_app()))
    assert problem(client(app).get("/sub/taken"), 409)["by"] == 7
    problem(client(app).get("/sub/nowhere"), 404)
    problem(client(app).get("/sub/mapped"), 409)


def test_what_a_mounted_app_does_not_handle_has_one_start_and_is_raised_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = call(mounting(failing(FastAPI())), b"/sub/crash")
    assert (answer.status_code, answer.content) == (500, b"Internal Server Error")
    assert isinstance(answer.error, RuntimeError)
    assert len(lines_of(caplog)) == 1


def test_an_exception_of_a_mounted_app_that_has_the_handlers_is_logged_with_one_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = call(mounting(failing(make_app())), b"/sub/crash")
    request_id = problem(answer, 500)["request_id"]
    assert isinstance(answer.error, RuntimeError)
    assert lines_of(caplog)
    assert f"[request_id={request_id}]" in lines_of(caplog)[0]


def test_mounted_files_are_answered_with_problems(tmp_path: Any) -> None:
    (tmp_path / "there.txt").write_text("there")
    app = mounting(StaticFiles(directory=tmp_path))
    assert client(app).get("/sub/there.txt").text == "there"
    problem(client(app).get("/sub/nowhere.txt"), 404)
    problem(client(app).post("/sub/there.txt"), 405)


def test_a_mounted_starlette_answers_as_itself() -> None:
    async def taken(request: Request) -> PlainTextResponse:
        raise ConflictError("taken")

    app = mounting(Starlette(routes=[Route("/taken", taken)]))
    answer = client(app).get("/sub/taken")
    assert (answer.status_code, answer.text) == (409, "taken")


def test_the_lifespan_passes() -> None:
    with client(make_app()) as running:
        problem(running.get("/nowhere"), 404)
