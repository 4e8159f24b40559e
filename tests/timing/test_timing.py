"""`TimingMiddleware` against a clock that moves when the test says so."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastkit.errors import install_exception_handlers
from fastkit.timing import RequestRecord, TimingMiddleware
from tests.timing.asgi import Exchange, body, http_scope, start, websocket_scope

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("fastkit.timing.perf_counter", clock)
    return clock


@pytest.fixture
def records() -> list[RequestRecord]:
    return []


def times(record: RequestRecord) -> tuple[float | None, float, float]:
    first = record.time_to_first_byte
    return (
        None if first is None else round(first, 6),
        round(record.duration, 6),
        round(record.background, 6),
    )


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200))
    await send(body(b"ok"))


# The header


async def test_the_header_is_the_seconds_to_the_start_of_the_response(clock: Clock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(0.25)
        await send(start(200))
        clock.pass_(8)
        await send(body())

    exchange = Exchange()
    await exchange.run(TimingMiddleware(app), http_scope())
    assert exchange.headers(b"x-process-time") == [b"0.250000"]


class Api:
    """An app with one route for each way to answer."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.add_api_route("/json", self.json)
        self.app.add_api_route("/items/{item_id}", self.item)
        self.app.add_api_route("/stream", self.stream)
        self.app.add_api_route("/teapot", self.teapot)
        self.app.add_api_route("/crash", self.crash)

    def json(self) -> str:
        return "json"

    def item(self, item_id: int) -> int:
        return item_id

    def stream(self) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    def teapot(self) -> None:
        raise HTTPException(418, headers={"X-Process-Time": "never"})

    def crash(self) -> None:
        raise RuntimeError("the app's own")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/json", 200),
        ("HEAD", "/docs", 200),
        ("GET", "/stream", 200),
        ("GET", "/json/", 307),
        ("GET", "/missing", 404),
        ("POST", "/json", 405),
        ("GET", "/teapot", 418),
        ("GET", "/items/x", 422),
    ],
)
def test_each_response_has_the_header_once(method: str, path: str, status: int) -> None:
    app = Api().app
    app.add_middleware(TimingMiddleware)
    response = TestClient(app, follow_redirects=False).request(method, path)
    assert response.status_code == status
    (value,) = response.headers.get_list("X-Process-Time")
    assert float(value) >= 0


@pytest.mark.parametrize("installed_first", [True, False])
def test_an_unhandled_500_has_the_header_with_fastkits_handlers(
    installed_first: bool, records: list[RequestRecord]
) -> None:
    app = Api().app
    if installed_first:
        install_exception_handlers(app)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    if not installed_first:
        install_exception_handlers(app)
    response = TestClient(app, raise_server_exceptions=False).get("/crash")
    assert response.status_code == 500
    assert float(response.headers["X-Process-Time"]) >= 0
    assert [(r.route, r.status, r.outcome) for r in records] == [("/crash", 500, "error")]
    with pytest.raises(RuntimeError, match="the app's own"):
        TestClient(app).get("/crash")


def test_an_unhandled_500_of_starlettes_own_is_made_outside_of_the_middleware(
    records: list[RequestRecord],
) -> None:
    app = Api().app
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    response = TestClient(app, raise_server_exceptions=False).get("/crash")
    assert response.status_code == 500
    assert "X-Process-Time" not in response.headers
    (record,) = records
    assert (record.route, record.status, record.outcome) == ("/crash", None, "error")
    assert record.time_to_first_byte is None


def test_an_error_with_a_handler_of_its_own_has_the_header(records: list[RequestRecord]) -> None:
    app = Api().app
    app.add_exception_handler(RuntimeError, lambda _request, _exc: PlainTextResponse("no", 500))
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    response = TestClient(app).get("/crash")
    assert (response.status_code, response.text) == (500, "no")
    assert "X-Process-Time" in response.headers
    assert [(r.status, r.outcome) for r in records] == [(500, "error")]


async def test_a_header_of_the_applications_own_is_replaced_and_its_list_is_left_alone() -> None:
    headers = [(b"x-process-time", b"never"), (b"x-other", b"1"), (b"x-other", b"2")]
    original = list(headers)
    message = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)
        await send(body())

    middleware = TimingMiddleware(app, server_timing=True)
    for _ in range(2):
        exchange = Exchange()
        await exchange.run(middleware, http_scope())
        (value,) = exchange.headers(b"x-process-time")
        assert float(value) >= 0
        assert exchange.headers(b"x-other") == [b"1", b"2"]
    assert headers == original
    assert message["headers"] is headers


async def test_a_response_without_headers_gets_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    exchange = Exchange()
    await exchange.run(TimingMiddleware(app), http_scope())
    assert [name for name, _ in exchange.sent[0]["headers"]] == [b"x-process-time"]


async def test_other_messages_pass_through_as_they_are() -> None:
    hint: Message = {"type": "http.response.early_hint", "links": []}
    chunk = body(b"x", more=True)
    trailers = {"type": "http.response.trailers", "headers": [(b"a", b"b")]}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(hint)
        await send(start(200, trailers=True))
        await send(chunk)
        await send(body())
        await send(trailers)

    exchange = Exchange()
    await exchange.run(TimingMiddleware(app), http_scope())
    assert exchange.sent[0] is hint
    assert exchange.sent[1]["trailers"] is True
    assert exchange.sent[2] is chunk
    assert exchange.sent[4] is trailers


async def test_lifespan_passes_through_untouched(records: list[RequestRecord]) -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None: ...

    scope: Scope = {"type": "lifespan", "state": {}}
    await TimingMiddleware(app, on_finish=records.append)(scope, receive, send)
    assert seen == [scope, receive, send]
    assert seen[0] is scope
    assert records == []


# Server-Timing


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([], b"app;dur=1500.000"),
        ([b'db;dur=12.5;desc="a, b"'], b'db;dur=12.5;desc="a, b", app;dur=1500.000'),
        ([b"db;dur=1", b"cache"], b"db;dur=1, cache, app;dur=1500.000"),
        ([b""], b"app;dur=1500.000"),
    ],
)
async def test_server_timing_comes_after_the_applications_metrics(
    clock: Clock, own: list[bytes], expected: bytes
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(1.5)
        await send(start(200, *[(b"server-timing", value) for value in own]))
        await send(body())

    exchange = Exchange()
    await exchange.run(TimingMiddleware(app, server_timing=True), http_scope())
    assert exchange.headers(b"server-timing") == [expected]
    assert exchange.headers(b"x-process-time") == [b"1.500000"]


async def test_without_the_option_server_timing_is_the_applications() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, (b"server-timing", b"db"), (b"server-timing", b"cache")))
        await send(body())

    exchange = Exchange()
    await exchange.run(TimingMiddleware(app), http_scope())
    assert exchange.headers(b"server-timing") == [b"db", b"cache"]
    exchange = Exchange()
    await exchange.run(TimingMiddleware(ok), http_scope())
    assert exchange.headers(b"server-timing") == []


# Times


async def test_a_slow_stream_is_not_a_slow_start(
    clock: Clock, records: list[RequestRecord]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(0.5)
        await send(start(200))
        for _ in range(3):
            clock.pass_(2)
            await send(body(b"x", more=True))
        await send(body())

    await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert [times(record) for record in records] == [(0.5, 6.5, 0.0)]
    assert records[0].outcome == "ok"


def test_a_background_task_is_counted_apart(clock: Clock, records: list[RequestRecord]) -> None:
    app = FastAPI()

    @app.get("/")
    def read(tasks: BackgroundTasks) -> None:
        clock.pass_(0.25)
        tasks.add_task(clock.pass_, 0.05)

    app.add_middleware(TimingMiddleware, on_finish=records.append)
    assert TestClient(app).get("/").headers["X-Process-Time"] == "0.250000"
    assert [times(record) for record in records] == [(0.25, 0.25, 0.05)]
    assert records[0].outcome == "ok"


async def test_a_client_that_reads_slowly_is_part_of_the_duration(
    clock: Clock, records: list[RequestRecord]
) -> None:
    async def send(message: Message) -> None:
        clock.pass_(1 if message["type"] == "http.response.body" else 0)

    middleware = TimingMiddleware(ok, on_finish=records.append)
    await middleware(http_scope(), Exchange().receive, send)
    assert [times(record) for record in records] == [(0.0, 1.0, 0.0)]


async def test_trailers_are_after_the_last_byte_of_the_body(
    clock: Clock, records: list[RequestRecord]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, trailers=True))
        await send(body(b"x"))
        clock.pass_(1)
        await send({"type": "http.response.trailers", "headers": []})

    await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert [(times(record), record.outcome) for record in records] == [((0.0, 0.0, 1.0), "ok")]


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.pathsend", "path": "/file"}],
        [
            {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
            {"type": "http.response.zerocopysend", "file": 3},
        ],
    ],
    ids=["pathsend", "zerocopysend"],
)
async def test_a_file_handed_to_the_server_completes_the_response(
    clock: Clock, records: list[RequestRecord], messages: list[Message]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        for message in messages:
            clock.pass_(1)
            await send(message)
        clock.pass_(10)

    await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    expected = ((0.0, float(len(messages)), 10.0), "ok")
    assert [(times(record), record.outcome) for record in records] == [expected]


# Outcomes


async def run_raising(
    middleware: TimingMiddleware, exchange: Exchange, scope: Scope
) -> BaseException | None:
    try:
        await exchange.run(middleware, scope)
    except BaseException as exc:
        return exc
    return None


Left = tuple[int | None, str]


def seen(records: list[RequestRecord]) -> Left:
    (record,) = records
    return record.status, record.outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (304, "ok"), (404, "ok"), (499, "ok"), (500, "error"), (503, "error")],
)
async def test_a_complete_response_is_ok_below_500(
    status: int, outcome: str, records: list[RequestRecord]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(status))
        await send(body())

    await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert seen(records) == (status, outcome)


@pytest.mark.parametrize(
    ("exc", "outcome"),
    [
        (RuntimeError("broken"), "error"),
        (ExceptionGroup("two", [ValueError(), KeyError()]), "error"),
        (asyncio.CancelledError(), "aborted"),
        (KeyboardInterrupt(), "aborted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], None),
        ([start(200)], 200),
        ([start(200), body(b"x", more=True)], 200),
        ([start(200), body(b"x")], 200),
    ],
    ids=["before the start", "after the start", "in the body", "in the background"],
)
async def test_an_exception_passes_through_and_is_never_ok(
    exc: BaseException,
    outcome: str,
    messages: list[Message],
    status: int | None,
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        raise exc

    middleware = TimingMiddleware(app, on_finish=records.append)
    exchange = Exchange()
    assert await run_raising(middleware, exchange, http_scope()) is exc
    assert exc.__cause__ is None
    assert exc.__context__ is None
    assert seen(records) == (status, outcome)
    assert len(exchange.sent) == len(messages)


def test_a_stream_that_fails_is_an_error_with_its_status(records: list[RequestRecord]) -> None:
    app = FastAPI()

    async def rows() -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("in the middle")

    app.add_api_route("/", lambda: StreamingResponse(rows()))
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    with pytest.raises(RuntimeError, match="in the middle"):
        TestClient(app).get("/")
    assert seen(records) == (200, "error")


def test_a_background_task_that_fails_is_an_error(records: list[RequestRecord]) -> None:
    app = FastAPI()

    def fail() -> None:
        raise RuntimeError("in the background")

    @app.get("/")
    def read(tasks: BackgroundTasks) -> None:
        tasks.add_task(fail)

    app.add_middleware(TimingMiddleware, on_finish=records.append)
    assert TestClient(app, raise_server_exceptions=False).get("/").status_code == 200
    assert seen(records) == (200, "error")


@pytest.mark.parametrize(
    ("messages", "status"),
    [([], None), ([start(200)], 200), ([start(200), body(b"x", more=True)], 200)],
    ids=["nothing", "a start", "half a body"],
)
async def test_an_application_that_stops_sending_is_aborted(
    messages: list[Message], status: int | None, clock: Clock, records: list[RequestRecord]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        clock.pass_(3)

    await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert seen(records) == (status, "aborted")
    assert times(records[0]) == (0.0 if messages else None, 3.0, 0.0)


@pytest.mark.parametrize("started", [False, True])
async def test_a_cancelled_task_is_aborted_and_stays_cancelled(
    started: bool, records: list[RequestRecord]
) -> None:
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send(start(200))
        waiting.set()
        await asyncio.Event().wait()

    middleware = TimingMiddleware(app, on_finish=records.append)
    task = asyncio.create_task(Exchange().run(middleware, http_scope()))
    await waiting.wait()
    task.cancel("the server stops")
    with pytest.raises(asyncio.CancelledError, match="the server stops"):
        await task
    assert seen(records) == (200 if started else None, "aborted")


async def test_a_cancelled_scope_is_aborted_and_ends(records: list[RequestRecord]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.01) as scope:
        await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert scope.cancelled_caught
    assert seen(records) == (None, "aborted")


@pytest.mark.parametrize("raised", [None, ClientDisconnect(), RuntimeError(), KeyboardInterrupt()])
@pytest.mark.parametrize("answered", [False, True])
async def test_a_client_that_left_is_disconnected_whatever_follows(
    raised: BaseException | None, answered: bool, clock: Clock, records: list[RequestRecord]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(1)
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        clock.pass_(2)
        if answered:
            await send(start(500))
            await send(body())
        if raised is not None:
            raise raised

    exchange = Exchange({"type": "http.request", "body": b""}, {"type": "http.disconnect"})
    middleware = TimingMiddleware(app, on_finish=records.append)
    assert await run_raising(middleware, exchange, http_scope()) is raised
    assert seen(records) == (500 if answered else None, "disconnected")
    assert times(records[0]) == (3.0 if answered else None, 1.0, 2.0)


async def test_a_disconnect_after_the_last_byte_is_the_usual_end(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    exchange = Exchange({"type": "http.disconnect"})
    await exchange.run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert seen(records) == (200, "ok")


async def test_a_disconnect_while_the_last_byte_is_handed_over_is_the_usual_end(
    records: list[RequestRecord],
) -> None:
    handed, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            await receive()
            told.set()

        listening = asyncio.create_task(listen())
        await ok(scope, receive, send)
        await listening

    async def receive() -> Message:
        await handed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            handed.set()
            await told.wait()

    await TimingMiddleware(app, on_finish=records.append)(http_scope(), receive, send)
    assert seen(records) == (200, "ok")


def test_streams_under_http_middleware_are_ok(records: list[RequestRecord]) -> None:
    async def dispatch(request: Request, call_next: Callable[[Request], Any]) -> Response:
        response: Response = await call_next(request)
        return response

    app = Api().app
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    assert TestClient(app).get("/stream").text == "ab"
    assert seen(records) == (200, "ok")


@pytest.mark.parametrize("at", ["http.response.start", "http.response.body"])
async def test_a_server_that_cannot_send_means_the_client_left(
    at: str, clock: Clock, records: list[RequestRecord]
) -> None:
    gone = OSError("gone")

    async def send(message: Message) -> None:
        clock.pass_(1)
        if message["type"] == at:
            raise gone

    middleware = TimingMiddleware(ok, on_finish=records.append)
    with pytest.raises(OSError, match="gone") as caught:
        await middleware(http_scope(), Exchange().receive, send)
    assert caught.value is gone
    assert seen(records) == (200, "disconnected")
    assert times(records[0]) == (0.0, 1.0 if at == "http.response.start" else 2.0, 0.0)


async def test_a_client_that_left_is_counted_from_the_first_sign(
    clock: Clock, records: list[RequestRecord]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(1)
        await receive()
        clock.pass_(1)
        await receive()
        clock.pass_(1)
        await send(start(200))

    async def send(message: Message) -> None:
        raise OSError("gone")

    exchange = Exchange({"type": "http.disconnect"}, {"type": "http.disconnect"})
    middleware = TimingMiddleware(app, on_finish=records.append)
    with pytest.raises(OSError, match="gone"):
        await middleware(http_scope(), exchange.receive, send)
    assert seen(records) == (200, "disconnected")
    assert times(records[0]) == (3.0, 1.0, 2.0)


async def test_trailers_that_cannot_be_sent_leave_a_complete_response_complete(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, trailers=True))
        await send(body())
        with suppress(OSError):
            await send({"type": "http.response.trailers", "headers": []})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.trailers":
            raise OSError("gone")

    middleware = TimingMiddleware(app, on_finish=records.append)
    await middleware(http_scope(), Exchange().receive, send)
    assert seen(records) == (200, "ok")


async def test_an_os_error_of_the_applications_own_is_an_error(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        await Exchange().run(TimingMiddleware(app, on_finish=records.append), http_scope())
    assert seen(records) == (None, "error")


# Methods


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", "GET"),
        ("QUERY", "QUERY"),
        ("TRACE", "TRACE"),
        ("BREW", "OTHER"),
        ("get", "OTHER"),
        ("WEBSOCKET", "OTHER"),
        ("A" * 4096, "OTHER"),
    ],
)
async def test_methods_are_a_bounded_set(
    method: str, expected: str, records: list[RequestRecord]
) -> None:
    middleware = TimingMiddleware(ok, on_finish=records.append)
    await Exchange().run(middleware, http_scope(method))
    assert [record.method for record in records] == [expected]


# The recorder


async def test_a_recorder_that_raises_is_logged_and_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(record: RequestRecord) -> None:
        raise ZeroDivisionError

    exchange = Exchange()
    await exchange.run(TimingMiddleware(ok, on_finish=broken, slow_after=0), http_scope())
    assert [message["type"] for message in exchange.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    slow, failure = caplog.records
    assert slow.getMessage().startswith("Slow request: GET <unmatched>, status 200 (ok)")
    assert failure.levelno == logging.ERROR
    assert failure.exc_info is not None
    assert failure.exc_info[0] is ZeroDivisionError


async def test_a_recorder_that_raises_does_not_replace_the_applications_exception() -> None:
    own = RuntimeError("the app's own")

    def broken(record: RequestRecord) -> None:
        raise ZeroDivisionError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise own

    middleware = TimingMiddleware(app, on_finish=broken)
    assert await run_raising(middleware, Exchange(), http_scope()) is own


def test_records_cannot_be_changed() -> None:
    record = RequestRecord(
        method="GET",
        route="/",
        status=200,
        outcome="ok",
        time_to_first_byte=0.1,
        duration=0.2,
        background=0.0,
    )
    with pytest.raises(FrozenInstanceError):
        record.status = 500  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # what is tested
    assert not hasattr(record, "__dict__")


def test_a_preflight_that_no_route_sees_is_unmatched(records: list[RequestRecord]) -> None:
    app = Api().app
    app.add_middleware(CORSMiddleware, allow_origins=["https://example.org"])
    app.add_middleware(TimingMiddleware, on_finish=records.append)
    origin = {"Origin": "https://example.org", "Access-Control-Request-Method": "GET"}
    assert TestClient(app).options("/json", headers=origin).status_code == 200
    assert [(r.method, r.route, r.outcome) for r in records] == [("OPTIONS", "<unmatched>", "ok")]


async def test_concurrent_requests_have_records_of_their_own(records: list[RequestRecord]) -> None:
    app = FastAPI()
    arrived = 0
    all_here = asyncio.Event()

    @app.get("/items/{item_id}")
    async def item(item_id: int, response: Response) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 50:
            all_here.set()
        await all_here.wait()
        response.status_code = 200 + item_id

    app.add_middleware(TimingMiddleware, on_finish=records.append)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        paths = [f"/items/{number}" for number in range(50)]
        responses = await asyncio.gather(*(client.get(path) for path in paths))
    assert [response.status_code for response in responses] == list(range(200, 250))
    assert sorted(record.status or 0 for record in records) == list(range(200, 250))
    assert {record.route for record in records} == {"/items/{item_id}"}


def test_it_works_on_bare_starlette(records: list[RequestRecord]) -> None:
    def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse("home")

    app = Starlette(
        routes=[Route("/{name}", home)],
        middleware=[Middleware(TimingMiddleware, on_finish=records.append)],
    )
    assert "X-Process-Time" in TestClient(app).get("/me").headers
    assert [(r.route, r.status, r.outcome) for r in records] == [("/{name}", 200, "ok")]


# The log of slow requests


async def slow_log(
    caplog: pytest.LogCaptureFixture, app: Any, slow_after: float, scope: Scope | None = None
) -> list[str]:
    await run_raising(
        TimingMiddleware(app, slow_after=slow_after), Exchange(), scope or http_scope()
    )
    assert {record.name for record in caplog.records} <= {"fastkit.timing"}
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    return [record.getMessage() for record in caplog.records]


async def test_a_slow_request_is_logged_without_its_path_and_query(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()

    @app.get("/reset/{token}")
    def reset(token: str, tasks: BackgroundTasks) -> None:
        clock.pass_(0.5)
        tasks.add_task(clock.pass_, 0.125)

    scope = http_scope(path="/reset/s3cret", query_string=b"password=s3cret")
    assert await slow_log(caplog, app, 0.5, scope) == [
        "Slow request: GET /reset/{token}, status 200 (ok): 0.500 s to the first byte,"
        " 0.500 s in all, 0.125 s in the background."
    ]
    assert "s3cret" not in repr([record.__dict__ for record in caplog.records])


async def test_a_request_that_starts_in_time_is_not_slow(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(0.49)
        await send(start(200))
        clock.pass_(3600)
        await send(body())
        clock.pass_(3600)

    assert await slow_log(caplog, app, 0.5) == []


async def test_a_request_without_a_response_is_slow_by_its_duration(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(0.5)
        raise RuntimeError

    assert await slow_log(caplog, app, 0.5) == [
        "Slow request: GET <unmatched>, status None (error): no response, 0.500 s in all,"
        " 0.000 s in the background."
    ]


async def test_a_quick_failure_is_not_slow(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    assert await slow_log(caplog, app, 0.5) == []


async def test_zero_logs_every_request(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert len(await slow_log(caplog, ok, 0)) == 1


# Options


@pytest.mark.parametrize("slow_after", [-1, -0.001, -math.inf, math.nan])
def test_a_negative_slow_after_is_refused(slow_after: float) -> None:
    with pytest.raises(ValueError, match=rf"slow_after={slow_after!r} is not .* Pass one"):
        TimingMiddleware(ok, slow_after=slow_after)


class AsyncObserver:
    async def __call__(self, record: RequestRecord) -> None: ...


def test_a_coroutine_function_as_on_finish_is_refused() -> None:
    async def observe(record: RequestRecord) -> None: ...

    for function in (observe, AsyncObserver()):
        with pytest.raises(TypeError, match=r"bserve.* is a coroutine function.* plain function"):
            TimingMiddleware(ok, on_finish=function)


def test_the_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        TimingMiddleware(ok, print)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # what is tested


# WebSockets


async def websocket_record(
    records: list[RequestRecord],
    app: Any,
    *received: Message,
    raises: type[BaseException] | None = None,
) -> tuple[int | None, str]:
    middleware = TimingMiddleware(app, on_finish=records.append)
    exchange = Exchange({"type": "websocket.connect"}, *received)
    raised = await run_raising(middleware, exchange, websocket_scope())
    assert (raised and type(raised)) is raises
    assert records[0].method == "WEBSOCKET"
    return seen(records)


def client_left(code: int) -> Message:
    return {"type": "websocket.disconnect", "code": code}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (1000, "ok"),
        (1001, "ok"),
        (1005, "ok"),
        (1006, "disconnected"),
        (1009, "disconnected"),
        (1012, "disconnected"),
    ],
)
async def test_a_websocket_that_its_client_closes_is_ok_by_the_code(
    code: int, outcome: str, records: list[RequestRecord]
) -> None:
    text: Message = {"type": "websocket.receive", "text": "hello"}
    found = await websocket_record(
        records, echo, text, client_left(code), raises=WebSocketDisconnect
    )
    assert found == (101, outcome)


async def test_a_websocket_has_its_times(clock: Clock, records: list[RequestRecord]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(0.5)
        await send({"type": "websocket.accept"})
        clock.pass_(60)
        await receive()
        await receive()
        clock.pass_(2)

    # Without a code: ASGI's default is 1005.
    assert await websocket_record(records, app, {"type": "websocket.disconnect"}) == (101, "ok")
    assert times(records[0]) == (0.5, 60.5, 2.0)


async def test_an_exception_after_the_clients_goodbye_is_an_error(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await echo(scope, receive, send)
        finally:
            raise RuntimeError("while cleaning up")

    found = await websocket_record(records, app, client_left(1000), raises=RuntimeError)
    assert found == (101, "error")


@pytest.mark.parametrize(
    ("sent", "status", "outcome"),
    [
        (["accept", {"type": "websocket.close", "code": 1000}], 101, "ok"),
        (["accept", {"type": "websocket.close", "code": 1008}], 101, "ok"),
        (["accept", {"type": "websocket.close", "code": 1011}], 101, "error"),
        (["accept", {"type": "websocket.close"}], 101, "ok"),
        (["accept"], 101, "ok"),
        ([{"type": "websocket.close"}], 403, "ok"),
        ([], None, "aborted"),
        (["deny 401", "body"], 401, "ok"),
        (["deny 503", "body"], 503, "error"),
        (["deny 401"], 401, "aborted"),
    ],
)
async def test_a_websocket_that_the_application_ends(
    sent: list[str | Message],
    status: int | None,
    outcome: str,
    clock: Clock,
    records: list[RequestRecord],
) -> None:
    messages: dict[str, Message] = {
        "accept": {"type": "websocket.accept"},
        "deny 401": {"type": "websocket.http.response.start", "status": 401, "headers": []},
        "deny 503": {"type": "websocket.http.response.start", "status": 503, "headers": []},
        "body": {"type": "websocket.http.response.body", "body": b"no"},
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        clock.pass_(1)
        for message in sent:
            await send(messages[message] if isinstance(message, str) else message)

    assert await websocket_record(records, app) == (status, outcome)
    assert records[0].time_to_first_byte == (None if status is None else 1.0)


async def test_a_websocket_whose_application_fails_is_an_error(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise RuntimeError

    assert await websocket_record(records, app, raises=RuntimeError) == (101, "error")


async def test_a_websocket_that_is_cancelled_is_aborted(records: list[RequestRecord]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise asyncio.CancelledError

    found = await websocket_record(records, app, raises=asyncio.CancelledError)
    assert found == (101, "aborted")


async def test_a_websocket_closed_by_both_ends_at_once_is_ok(records: list[RequestRecord]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        await receive()
        await receive()

    assert await websocket_record(records, app, client_left(1006)) == (101, "ok")


async def test_a_send_that_comes_after_the_clients_goodbye_is_ok(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        await receive()
        # Not through `websocket`, which has not heard of it: as when two tasks share it.
        await websocket.send_text("too late")

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise OSError("gone")

    exchange = Exchange({"type": "websocket.connect"}, client_left(1000))
    middleware = TimingMiddleware(app, on_finish=records.append)
    with pytest.raises(WebSocketDisconnect):
        await middleware(websocket_scope(), exchange.receive, send)
    assert seen(records) == (101, "ok")


async def test_a_websocket_disconnect_out_of_nowhere_is_an_error(
    records: list[RequestRecord],
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise WebSocketDisconnect(1000)

    assert await websocket_record(records, app, raises=WebSocketDisconnect) == (101, "error")


async def test_only_a_denial_of_a_websocket_has_the_header() -> None:
    async def deny(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": []})

    exchange = Exchange()
    await exchange.run(TimingMiddleware(deny), websocket_scope())
    assert len(exchange.headers(b"x-process-time")) == 1
    exchange = Exchange()
    await exchange.run(TimingMiddleware(accept), websocket_scope())
    assert exchange.headers(b"x-process-time") == []
