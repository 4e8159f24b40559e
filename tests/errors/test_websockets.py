"""A WebSocket that fails is denied with a problem, or closed with a short reason, once."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.exceptions import WebSocketRequestValidationError
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fastkit.errors import install_exception_handlers
from tests.errors.socket_app import FAILURES, app
from tests.errors.support import SENTINEL, Exchange, Log, call, http_scope, problem
from tests.support import Server, run_server

# What is told of each failure: the status and detail before the accept, the code and reason after.
TOLD: dict[str, tuple[int, str, int, str]] = {
    "http": (403, "not yours", 1008, "not yours"),
    "no-status": (500, "Internal Server Error", 1011, "Internal Server Error"),
    "dict": (409, "taken", 1008, "taken"),
    "problem": (401, "who are you?", 1008, "who are you?"),
    "long": (409, "é" * 200, 1008, "é" * 61),
    "surrogates": (409, "\ufffd alone", 1008, "? alone"),
    "mapped": (409, "Conflict", 1008, "Conflict"),
    "mapped-500": (503, "busy", 1011, "busy"),
    "bad-factory": (500, "Internal Server Error", 1011, "Internal Server Error"),
    "crash": (500, "Internal Server Error", 1011, "Internal Server Error"),
    "group": (403, "not yours", 1008, "not yours"),
    "groups": (500, "Internal Server Error", 1011, "Internal Server Error"),
}
POLICIES: dict[str, tuple[int, str]] = {
    "policy": (1008, "policy"),
    "policy-group": (1008, "policy"),
    "policy-long": (4000, "é" * 61),
    "policy-surrogates": (4000, "? alone"),
}
UNHANDLED = {"bad-factory", "crash", "groups", "no-status"}

every_failure = pytest.mark.parametrize("name", TOLD)


def test_every_failure_has_its_expectation() -> None:
    assert {*TOLD, *POLICIES, "no-body"} == FAILURES.keys()


def sockets() -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("name", sorted(TOLD.keys() - UNHANDLED))
def test_before_the_accept_it_is_denied_with_the_problem(name: str) -> None:
    status, detail, _, _ = TOLD[name]
    answer = denial(f"/before/{name}")
    assert problem(answer, status)["detail"] == detail
    assert answer.headers.get("x-why") == ("theirs" if name == "http" else None)


def denial(path: str) -> WebSocketDenialResponse:
    with pytest.raises(WebSocketDenialResponse) as denied, sockets().websocket_connect(path):
        pass
    return denied.value


def test_a_denial_may_have_no_body() -> None:
    denied = denial("/before/no-body")
    assert (denied.status_code, denied.content) == (304, b"")


@pytest.mark.parametrize("name", sorted((TOLD.keys() | POLICIES.keys()) - UNHANDLED))
def test_after_the_accept_it_is_closed_with_a_short_reason(name: str) -> None:
    code, reason = POLICIES[name] if name in POLICIES else TOLD[name][2:]
    with sockets().websocket_connect(f"/after/{name}") as websocket:
        assert websocket.receive_text() == "hello"
        with pytest.raises(WebSocketDisconnect) as closed:
            websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (code, reason)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/number/" + "9" * 5000, 404),
        (f"/number/1?limit={SENTINEL}", 422),
        ("/number/1?limit=%ff%00", 422),
    ],
)
def test_a_hostile_address_is_denied(
    path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert SENTINEL not in str(problem(denial(path), status))
    assert "unhandled" not in caplog.text


@pytest.mark.parametrize("path", ["/nowhere", "/number/x"])
def test_without_a_route_it_is_closed_as_starlette_does(path: str) -> None:
    with pytest.raises(WebSocketDisconnect) as denied, sockets().websocket_connect(path):
        pass
    assert denied.value.code == 1000


def test_invalid_parameters_after_the_accept_are_a_short_reason() -> None:
    late = FastAPI()
    install_exception_handlers(late)

    @late.websocket("/")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketRequestValidationError([{"type": "x", "loc": (), "msg": SENTINEL}] * 2)

    with (
        TestClient(late).websocket_connect("/") as websocket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        websocket.receive_text()
    assert (closed.value.code, closed.value.reason) == (1008, "The request has 2 invalid values.")


def test_the_exception_of_a_websocket_is_a_500_on_a_route_without_one() -> None:
    answer = call(app, b"/http")
    problem(answer, 500)
    assert type(answer.error).__name__ == "WebSocketException"


def websocket_exchange(
    path: str, *received: Message, fail_at: str | None = None, **more: Any
) -> Exchange:
    scope = http_scope(target=path.encode(), subprotocols=[], **more)
    del scope["method"]
    connecting: Message = {"type": "websocket.connect"}
    asked = Exchange([connecting, *received], fail_at)
    return anyio.run(asked.run, app, {**scope, "type": "websocket", "scheme": "ws"})


DENIAL: dict[str, Any] = {"websocket.http.response": {}}
GONE: Message = {"type": "websocket.disconnect", "code": 1001}


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
def test_a_server_that_cannot_deny_is_told_to_close(extensions: Any) -> None:
    asked = websocket_exchange("/before/http", extensions=extensions)
    assert asked.sent == [{"type": "websocket.close", "code": 1008, "reason": "not yours"}]
    assert asked.error is None


@pytest.mark.parametrize("name", sorted(UNHANDLED))
@pytest.mark.parametrize("path", ["before", "after", "closed", "gone", "denied"])
def test_what_is_unhandled_is_raised_and_logged_once(
    path: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = websocket_exchange(f"/{path}/{name}", GONE, extensions=DENIAL)
    assert isinstance(asked.error, Exception)
    lines = [line for line in caplog.messages if line.startswith("unhandled ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"unhandled {type(asked.error).__name__} [request_id=")
    ends = [message["type"] for message in asked.sent if message["type"] != "websocket.send"]
    assert (
        ends
        == {
            "before": ["websocket.http.response.start", "websocket.http.response.body"],
            "after": ["websocket.accept", "websocket.close"],
            "closed": ["websocket.accept", "websocket.close"],
            "denied": ["websocket.close"],
            "gone": ["websocket.accept"],
        }[path]
    )


@pytest.mark.parametrize("name", [*sorted(TOLD.keys() - UNHANDLED), *POLICIES])
@pytest.mark.parametrize("path", ["closed", "gone", "denied"])
def test_what_is_declared_is_over_when_the_connection_is(
    path: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = websocket_exchange(f"/{path}/{name}", GONE, extensions=DENIAL)
    assert asked.error is None
    assert "unhandled" not in caplog.text
    assert len(asked.of_type("websocket.close")) == (path != "gone")
    assert asked.of_type("websocket.http.response.start") == []


def test_a_client_that_is_found_gone_when_it_is_told_is_no_error() -> None:
    for fail_at, path in (
        ("websocket.close", "/after/http"),
        ("websocket.close", "/after/policy"),
        ("websocket.http.response.start", "/before/http"),
    ):
        assert websocket_exchange(path, fail_at=fail_at, extensions=DENIAL).error is None


@pytest.mark.parametrize("path", ["/listening", "/both"])
def test_a_client_that_leaves_is_not_called_unhandled(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = websocket_exchange(path, GONE, extensions=DENIAL)
    assert asked.of_type("websocket.close") == []
    assert isinstance(asked.error, WebSocketDisconnect | ExceptionGroup)
    assert "unhandled" not in caplog.text


@pytest.fixture(scope="module", params=["websockets-sansio", "wsproto"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_server("tests.errors.socket_app:app", args=["--ws", request.param]) as running:
        yield running


@pytest.fixture
def log(server: Server) -> Log:
    return Log(server)


def connected(server: Server, path: str) -> ClientConnection:
    return connect(server.base_url.replace("http", "ws", 1) + path, open_timeout=30)


class Denial:
    def __init__(self, denied: InvalidStatus) -> None:
        self.status_code = denied.response.status_code
        self.headers = {name.lower(): value for name, value in denied.response.headers.items()}
        self.content = bytes(denied.response.body or b"")


@every_failure
def test_a_server_denies_with_the_problem(server: Server, log: Log, name: str) -> None:
    status, detail, _, _ = TOLD[name]
    with pytest.raises(InvalidStatus) as denied, connected(server, f"/before/{name}"):
        pass
    answer = Denial(denied.value)
    assert problem(answer, status)["detail"] == detail
    assert SENTINEL.encode() not in answer.content
    check(log, name)


@every_failure
def test_a_server_closes_with_the_reason(server: Server, log: Log, name: str) -> None:
    _, _, code, reason = TOLD[name]
    with connected(server, f"/after/{name}") as websocket:
        assert websocket.recv(30) == "hello"
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(30)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
    check(log, name)


@pytest.mark.parametrize("name", POLICIES)
def test_a_server_closes_as_the_app_says(server: Server, log: Log, name: str) -> None:
    with connected(server, f"/after/{name}") as websocket:
        assert websocket.recv(30) == "hello"
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(30)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == POLICIES[name]
    with pytest.raises(InvalidStatus) as denied, connected(server, f"/before/{name}"):
        pass
    assert denied.value.response.status_code == 403
    check(log, name)


@pytest.mark.parametrize("name", ["http", "policy", "crash"])
@pytest.mark.parametrize("path", ["closed", "gone", "lost"])
def test_a_server_is_told_nothing_of_a_connection_that_is_over(
    server: Server, log: Log, path: str, name: str
) -> None:
    with suppress(ConnectionClosed), connected(server, f"/{path}/{name}") as websocket:
        if path == "closed":
            websocket.recv(30)
    with suppress(ConnectionClosed), connected(server, "/lost/http") as websocket:
        websocket.recv(30)  # by now the first one has failed
    check(log, name)


@pytest.mark.parametrize("path", ["/listening", "/talking", "/both"])
def test_a_client_that_leaves_a_server_is_not_called_unhandled(
    server: Server, log: Log, path: str
) -> None:
    with connected(server, path):
        pass
    with suppress(ConnectionClosed), connected(server, "/lost/http") as websocket:
        websocket.recv(30)
    assert "[request_id=" not in log.settled()


def check(log: Log, name: str) -> None:
    """What is unhandled is in the log once, and nothing else is."""
    if name in UNHANDLED:
        text = log.settled("Exception in ASGI application")
        assert text.count("[request_id=") == 1
        assert text.count("Exception in ASGI application") == 1
    else:
        # uvicorn's websockets-sansio says so of every denial
        text = log.settled().replace("ERROR:    ASGI callable returned without completing h", "")
        assert "Traceback" not in text
        assert "ERROR" not in text
