"""`RequestIdMiddleware`, `get_request_id` and `RequestIdFilter`."""

import asyncio
import logging
import logging.config
import logging.handlers
import queue
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastkit.errors import install_exception_handlers
from fastkit.request_id import RequestIdFilter, RequestIdMiddleware, get_request_id
from tests.timing.asgi import Exchange, body, http_scope, start, websocket_scope

pytestmark = pytest.mark.anyio

OWN = re.compile(r"[0-9a-f]{32}")


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(200))
    await send(body(b"ok"))


def answers(app: FastAPI | Starlette, **options: Any) -> TestClient:
    app.add_middleware(RequestIdMiddleware, **options)
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


def app_that_tells_its_id() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def home(request: Request) -> dict[str, str | None]:
        return {"state": request.state.request_id, "context": get_request_id()}

    @app.get("/items/{item_id}")
    def item(item_id: int) -> int:
        return item_id

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418)

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the app's own")

    return app


# Where the id is


def test_each_request_has_an_id_of_its_own_everywhere() -> None:
    client = answers(app_that_tells_its_id())
    ids: list[str] = []
    for _ in range(50):
        response = client.get("/")
        (request_id,) = response.headers.get_list("X-Request-ID")
        assert OWN.fullmatch(request_id)
        assert response.json() == {"state": request_id, "context": request_id}
        ids.append(request_id)
    assert len(set(ids)) == 50
    assert get_request_id() is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/items/7", 200),
        ("HEAD", "/docs", 200),
        ("GET", "/items/7/", 307),
        ("GET", "/missing", 404),
        ("POST", "/items/7", 405),
        ("GET", "/teapot", 418),
        ("GET", "/items/x", 422),
    ],
)
def test_each_response_has_the_id_once(method: str, path: str, status: int) -> None:
    response = answers(app_that_tells_its_id()).request(method, path)
    assert response.status_code == status
    assert [OWN.fullmatch(value) is not None for value in response.headers.get_list("X-Request-ID")]


@pytest.mark.parametrize("installed_first", [True, False])
def test_an_unhandled_500_has_the_id_in_header_body_and_log(
    installed_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_that_tells_its_id()
    if installed_first:
        install_exception_handlers(app)
    client = answers(app)
    if not installed_first:
        install_exception_handlers(app)
    response = client.get("/crash")
    assert response.status_code == 500
    request_id = response.headers["X-Request-ID"]
    assert response.json()["request_id"] == request_id
    assert request_id in caplog.text


def test_an_unhandled_500_of_starlettes_own_is_made_outside_of_the_middleware() -> None:
    response = answers(app_that_tells_its_id()).get("/crash")
    assert response.status_code == 500
    assert "X-Request-ID" not in response.headers
    assert get_request_id() is None


async def test_a_header_of_the_applications_own_is_replaced_and_its_list_is_left_alone() -> None:
    headers = [(b"x-request-id", b"mine"), (b"x-request-id", b"mine too"), (b"x-other", b"1")]
    original = list(headers)
    message = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)
        await send(body())

    for _ in range(2):
        exchange = Exchange()
        await exchange.run(RequestIdMiddleware(app), http_scope())
        (value,) = exchange.headers(b"x-request-id")
        assert OWN.fullmatch(value.decode())
        assert exchange.headers(b"x-other") == [b"1"]
    assert headers == original
    assert message["headers"] is headers


async def test_a_response_without_headers_gets_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    exchange = Exchange()
    await exchange.run(RequestIdMiddleware(app), http_scope())
    assert [name for name, _ in exchange.sent[0]["headers"]] == [b"x-request-id"]
    assert exchange.sent[1] == {"type": "http.response.body"}


async def test_an_application_that_sends_nothing_is_left_to_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    assert await Exchange().run(RequestIdMiddleware(app), http_scope()) == []


async def test_lifespan_passes_through_untouched() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send, get_request_id()))

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None: ...

    scope: Scope = {"type": "lifespan", "state": {}}
    await RequestIdMiddleware(app)(scope, receive, send)
    assert seen == [{"type": "lifespan", "state": {}}, receive, send, None]


def test_it_works_on_bare_starlette() -> None:
    def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.state.request_id} {get_request_id()}")

    app = Starlette(routes=[Route("/", home)], middleware=[Middleware(RequestIdMiddleware)])
    response = TestClient(app).get("/")
    assert response.text.split() == [response.headers["X-Request-ID"]] * 2


def test_a_request_has_one_id_where_the_middleware_is_mounted_twice() -> None:
    inner = app_that_tells_its_id()
    inner.add_middleware(RequestIdMiddleware, header="X-Inner-ID")
    app = FastAPI()
    app.mount("/inner", inner)
    response = answers(app).get("/inner/")
    request_id = response.headers["X-Request-ID"]
    assert response.json() == {"state": request_id, "context": request_id}
    assert "X-Inner-ID" not in response.headers


# Where it is known


def test_the_id_is_known_in_threads_dependencies_streams_and_background_tasks() -> None:
    app = FastAPI()
    seen: dict[str, str | None] = {}

    def note(name: str) -> None:
        seen[name] = get_request_id()

    async def note_async(name: str) -> None:
        note(name)

    def sync_dependency() -> Iterator[None]:
        note("before a sync endpoint")
        yield
        note("after a sync endpoint")

    async def dependency() -> AsyncIterator[None]:
        note("before an endpoint")
        yield
        note("after an endpoint")

    @app.get("/sync", dependencies=[Depends(sync_dependency)])
    def sync_endpoint(tasks: BackgroundTasks) -> None:
        note("sync endpoint")
        tasks.add_task(note, "sync background task")

    @app.get("/async", dependencies=[Depends(dependency)])
    async def endpoint(tasks: BackgroundTasks) -> None:
        note("endpoint")
        tasks.add_task(note_async, "background task")
        await asyncio.create_task(note_async("task"))
        await anyio.to_thread.run_sync(note, "thread")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        def chunks() -> Iterator[str]:
            note("stream")
            yield "x"

        return StreamingResponse(chunks())

    client = answers(app)
    for path, names in {
        "/sync": {
            "before a sync endpoint",
            "sync endpoint",
            "after a sync endpoint",
            "sync background task",
        },
        "/async": {
            "before an endpoint",
            "endpoint",
            "after an endpoint",
            "background task",
            "task",
            "thread",
        },
        "/stream": {"stream"},
    }.items():
        seen.clear()
        request_id = client.get(path).headers["X-Request-ID"]
        assert seen == dict.fromkeys(names, request_id)


async def test_ids_do_not_mix_among_100_concurrent_requests() -> None:
    app = FastAPI()
    arrived = 0
    all_here = asyncio.Event()

    async def current() -> str | None:
        await asyncio.sleep(0)
        return get_request_id()

    @app.get("/{number}")
    async def read(
        number: int, request: Request, before: Annotated[str | None, Depends(current)]
    ) -> list[str | None]:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            all_here.set()
        await all_here.wait()
        thread = await anyio.to_thread.run_sync(get_request_id)
        return [before, get_request_id(), await current(), thread, request.state.request_id]

    app.add_middleware(RequestIdMiddleware)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        responses = await asyncio.gather(*(client.get(f"/{number}") for number in range(100)))
    ids = [response.headers["X-Request-ID"] for response in responses]
    assert len(set(ids)) == 100
    assert [response.json() for response in responses] == [[one] * 5 for one in ids]
    assert get_request_id() is None


@pytest.mark.parametrize("exc", [RuntimeError(), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_the_id_ends_with_the_request_however_it_ends(exc: BaseException) -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_request_id())
        raise exc

    with pytest.raises(type(exc)) as caught:
        await Exchange().run(RequestIdMiddleware(app), http_scope())
    assert caught.value is exc
    assert seen[0]
    assert get_request_id() is None


def test_http_middleware_sees_the_id_inside_and_reads_it_from_state_outside() -> None:
    seen: dict[str, object] = {}

    def watching(where: str) -> Callable[[Request, Any], Any]:
        async def dispatch(request: Request, call_next: Callable[[Request], Any]) -> Response:
            seen[f"{where}, before"] = get_request_id()
            # Starlette makes the state here, which the middleware further in has to add to.
            request.state.mark = where
            response: Response = await call_next(request)
            seen[f"{where}, after"] = get_request_id()
            seen[f"{where}, state"] = request.state.request_id
            return response

        return dispatch

    app = app_that_tells_its_id()
    app.add_middleware(BaseHTTPMiddleware, dispatch=watching("inside"))
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(BaseHTTPMiddleware, dispatch=watching("outside"))
    response = TestClient(app).get("/")
    request_id = response.headers["X-Request-ID"]
    assert response.json() == {"state": request_id, "context": request_id}
    assert seen == {
        "outside, before": None,
        "outside, after": None,
        "outside, state": request_id,
        "inside, before": request_id,
        "inside, after": request_id,
        "inside, state": request_id,
    }


def test_state_of_the_lifespan_is_kept_and_gets_no_id() -> None:
    shared: dict[str, Any] = {"pool": object()}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
        yield shared

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def read(request: Request) -> bool:
        return request.state.pool is shared["pool"] and request.state.request_id is not None

    app.add_middleware(RequestIdMiddleware)
    with TestClient(app) as client:
        assert client.get("/").json() is True
        assert client.app_state.keys() == {"pool"}
    assert shared.keys() == {"pool"}


async def test_state_is_made_where_the_server_has_none() -> None:
    scope = http_scope()
    assert "state" not in scope
    exchange = Exchange()
    await exchange.run(RequestIdMiddleware(ok), scope)
    assert [scope["state"]["request_id"].encode()] == exchange.headers(b"x-request-id")


# Incoming ids


GOOD = [
    b"a",
    b"7",
    b"x" * 128,
    b"0b5a9c1e-4c53-4c8a-9a6e-0c4e6c9d1f5b",
    b"7F000001:8296_7F00001E:1F90_4F7B0A69_0003:790E",
    b"A.b-C_d:1",
]

HOSTILE = [
    b"",
    b"x" * 129,
    b"x" * 4096,
    b"a\r\nSet-Cookie: admin=1",
    b"a\n",
    b"a\r",
    b"a\x00b",
    b"a b",
    b" a",
    b"a\t",
    b"a,b",
    b"a;b",
    b"../../etc/passwd",
    b"<script>",
    b"'--",
    b'"',
    b"%0d%0a",
    b"${jndi:ldap://x}",
    b"\xff\xfe",
    "идентификатор".encode(),
    "é".encode("latin-1"),
    "٣".encode(),
]


async def answered_id(values: list[bytes], **options: Any) -> str:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((get_request_id(), scope["state"]["request_id"]))
        await ok(scope, receive, send)

    exchange = Exchange()
    headers = [(b"x-other", b"1"), *((b"x-request-id", value) for value in values)]
    await exchange.run(RequestIdMiddleware(app, **options), http_scope(headers=headers))
    (sent,) = exchange.headers(b"x-request-id")
    assert seen == [sent.decode("ascii")] * 2
    return sent.decode("ascii")


@pytest.mark.parametrize("value", GOOD)
async def test_a_valid_incoming_id_is_used_when_it_is_trusted(value: bytes) -> None:
    assert await answered_id([value], trust_incoming=True) == value.decode()


@pytest.mark.parametrize("value", [*GOOD, *HOSTILE])
async def test_incoming_ids_are_not_trusted_unless_told_so(value: bytes) -> None:
    answered = await answered_id([value])
    assert OWN.fullmatch(answered)
    assert answered.encode() != value


@pytest.mark.parametrize(
    "values",
    [[], [b"a", b"a"], [b"a", b"b"], [b"a", b""], *([value] for value in HOSTILE)],
)
async def test_a_missing_repeated_or_hostile_id_is_replaced_without_a_word(
    values: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="fastkit")
    answered = await answered_id(values, trust_incoming=True)
    assert OWN.fullmatch(answered)
    assert answered.encode() not in values
    assert [record for record in caplog.records if record.name.startswith("fastkit")] == []


# Options


def test_the_header_can_have_another_name() -> None:
    client = answers(app_that_tells_its_id(), header="X-Correlation-ID", trust_incoming=True)
    response = client.get("/", headers={"x-correlation-id": "mine", "X-Request-ID": "other"})
    assert response.headers.get_list("X-Correlation-ID") == ["mine"]
    assert "X-Request-ID" not in response.headers
    assert response.json() == {"state": "mine", "context": "mine"}


@pytest.mark.parametrize(
    "header",
    ["", "X Request", "X-Request-ID:", "X-Request-ID\n", "a\r\nb", "naïve", "(id)", "a/b", "\x00"],
)
def test_a_header_that_is_no_field_name_is_refused(header: str) -> None:
    expected = re.escape(f"header={header!r} is not the name of an HTTP header")
    with pytest.raises(ValueError, match=rf"{expected}.* Use letters"):
        RequestIdMiddleware(ok, header=header)


def test_the_options_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        RequestIdMiddleware(ok, "X-ID")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # what is tested


# WebSockets


def test_a_websocket_has_its_id_in_the_accept_the_state_and_the_context() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(headers=[(b"x-request-id", b"mine"), (b"x-other", b"1")])
        await websocket.send_json([websocket.state.request_id, get_request_id()])
        await websocket.close()

    with answers(app).websocket_connect("/") as session:
        headers = cast("list[tuple[bytes, bytes]]", session.extra_headers)
        accepted = dict(headers)
        assert len(headers) == 2
        assert accepted[b"x-other"] == b"1"
        request_id = accepted[b"x-request-id"].decode()
        assert OWN.fullmatch(request_id)
        assert session.receive_json() == [request_id, request_id]
    assert get_request_id() is None


def test_a_denied_websocket_has_its_id_in_the_response() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        raise HTTPException(401, headers={"X-Request-ID": "mine"})

    client = answers(app, trust_incoming=True)
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/", headers={"X-Request-ID": "given"}),
    ):
        pass
    assert denied.value.status_code == 401
    assert denied.value.headers.get_list("X-Request-ID") == ["given"]


def test_a_websocket_that_is_closed_at_once_is_closed() -> None:
    client = answers(FastAPI())
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/missing"):
        pass


async def test_websocket_messages_pass_through_as_they_are() -> None:
    frame = {"type": "websocket.send", "text": "x"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send(frame)

    exchange = Exchange()
    await exchange.run(RequestIdMiddleware(app), websocket_scope())
    assert len(exchange.headers(b"x-request-id")) == 1
    assert exchange.sent[1] is frame


# The logging filter


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("[%(request_id)s] %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("shop")
    handler = Lines()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def app_that_logs() -> FastAPI:
    app = FastAPI()
    logger = logging.getLogger("shop.orders")

    @app.get("/")
    async def read(tasks: BackgroundTasks) -> None:
        logger.warning("endpoint")
        await anyio.to_thread.run_sync(logger.warning, "thread")
        tasks.add_task(logger.warning, "background")

    return app


def test_records_of_a_request_have_its_id(lines: Lines) -> None:
    lines.addFilter(RequestIdFilter())
    client = answers(app_that_logs())
    logging.getLogger("shop").warning("outside")
    request_id = client.get("/").headers["X-Request-ID"]
    logging.getLogger("shop").warning("outside")
    assert lines.lines == [
        "[-] outside",
        f"[{request_id}] endpoint",
        f"[{request_id}] thread",
        f"[{request_id}] background",
        "[-] outside",
    ]


def test_a_record_that_waits_in_a_queue_keeps_its_id(lines: Lines) -> None:
    logger = logging.getLogger("shop")
    logger.removeHandler(lines)
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(waiting)
    handler.addFilter(RequestIdFilter())
    lines.addFilter(RequestIdFilter())
    logger.addHandler(handler)
    try:
        request_id = answers(app_that_logs()).get("/").headers["X-Request-ID"]
    finally:
        logger.removeHandler(handler)
    listener = logging.handlers.QueueListener(waiting, lines)
    listener.start()
    listener.stop()
    assert lines.lines[0] == f"[{request_id}] endpoint"
    assert len(lines.lines) == 3


def test_the_filter_can_be_configured_by_name_and_still_filters_by_logger(
    lines: Lines,
) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"id": {"()": "fastkit.request_id.RequestIdFilter", "name": "shop.orders"}},
            "handlers": {"kept": {"()": lambda: lines, "filters": ["id"]}},
            "loggers": {"shop": {"handlers": ["kept"], "level": "INFO"}},
        }
    )
    logging.getLogger("shop.orders").info("one")
    logging.getLogger("shop.users").info("two")
    assert lines.lines == ["[-] one"]


def test_mounted_applications_share_the_id_of_the_outer_one() -> None:
    def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.request_id)

    app = Starlette(
        routes=[Mount("/in", app=Starlette(routes=[Route("/", read)]))],
        middleware=[Middleware(RequestIdMiddleware)],
    )
    response = TestClient(app).get("/in/")
    assert response.text == response.headers["X-Request-ID"]
