"""WebSockets: who may open one, from where, and for how long."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.types import Message
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from fastkit.auth import Auth
from fastkit.errors import install_exception_handlers
from tests.auth.people import PASSWORD, Clock, Directory, User, bearer, log_in, make_app, make_auth
from tests.errors.support import Exchange, http_scope
from tests.support import Server, run_server

# Who is told of it, and how


def make_socket_app(auth: Auth[User], *scopes: str, **options: Any) -> FastAPI:
    app = make_app(auth)

    @app.websocket("/ws")
    async def socket(
        websocket: WebSocket, user: Annotated[User, auth.websocket_user(*scopes, **options)]
    ) -> None:
        if not options.get("first_message"):
            await websocket.accept()
        await websocket.send_text(user.username)
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    return app


def refused(http: TestClient, path: str = "/ws", **options: Any) -> int:
    """The code with which a WebSocket is refused before it is accepted: a 403 on the wire."""
    with pytest.raises(WebSocketDisconnect) as closed, http.websocket_connect(path, **options):
        pass
    return closed.value.code


def closed_with(websocket: WebSocketTestSession) -> tuple[int, str]:
    with pytest.raises(WebSocketDisconnect) as closed:
        websocket.receive_text()
    return closed.value.code, closed.value.reason


@pytest.mark.parametrize("install", [True, False])
def test_the_header_says_who_it_is(install: bool) -> None:
    app = make_socket_app(make_auth())
    if install:
        install_exception_handlers(app)
    http = TestClient(app)
    tokens = log_in(http)
    with http.websocket_connect("/ws", headers=bearer(tokens)) as websocket:
        assert websocket.receive_text() == "alice"
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"
    for headers in (
        {},
        {"Authorization": "Basic x"},
        bearer("nonsense"),
        bearer(tokens["refresh_token"]),
        bearer(tokens["access_token"] + "x"),
    ):
        assert refused(http, headers=headers) == 1008
    for path in ("/ws?token={}", "/ws?access_token={}", "/ws?authorization=Bearer%20{}"):
        assert refused(http, path.format(tokens["access_token"])) == 1008
    # Nor by a cookie or a subprotocol.
    assert refused(http, headers={"Cookie": f"token={tokens['access_token']}"}) == 1008
    assert refused(http, subprotocols=[tokens["access_token"]]) == 1008


@pytest.mark.parametrize("change", ["disabled", "deleted", "logout"])
def test_who_may_not_log_in_opens_none(change: str) -> None:
    directory = Directory([User("alice")])
    auth = make_auth(directory=directory, revoke_access_at_once=True)
    http = TestClient(make_socket_app(auth))
    tokens = log_in(http)
    if change == "logout":
        http.post("/auth/logout", headers=bearer(tokens))
    elif change == "disabled":
        directory.users["alice"].disabled = True
    else:
        directory.users.clear()
    assert refused(http, headers=bearer(tokens)) == 1008


def test_a_query_parameter_is_looked_at_only_by_its_name() -> None:
    http = TestClient(make_socket_app(make_auth(), query_parameter="ticket"))
    token = log_in(http)["access_token"]
    with http.websocket_connect(f"/ws?ticket={token}") as websocket:
        assert websocket.receive_text() == "alice"
    for path in (f"/ws?token={token}", "/ws?ticket=", "/ws?ticket=x", "/ws"):
        assert refused(http, path) == 1008
    # The header counts first.
    assert refused(http, f"/ws?ticket={token}", headers=bearer("x")) == 1008


@pytest.mark.parametrize("install", [True, False])
def test_a_first_message_may_say_who_it_is(install: bool) -> None:
    app = make_socket_app(make_auth(), first_message=True)
    if install:
        install_exception_handlers(app)
    http = TestClient(app)
    token = log_in(http)["access_token"]
    with http.websocket_connect("/ws") as websocket:
        websocket.send_text(token)
        assert websocket.receive_text() == "alice"
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"
    with http.websocket_connect("/ws", headers=bearer(token)) as websocket:
        assert websocket.receive_text() == "alice"  # nothing is waited for
    for message in ("", "x", "Bearer x", "\0", "x" * 100_000, token + "x", "\ud800"):
        with http.websocket_connect("/ws") as websocket:
            websocket.send_text(message)
            assert closed_with(websocket) == (1008, "The access token is not valid.")
    with http.websocket_connect("/ws") as websocket:
        websocket.send_bytes(token.encode())
        assert closed_with(websocket) == (1008, "Not authenticated.")
    with http.websocket_connect("/ws", headers=bearer("x")) as websocket:
        assert closed_with(websocket)[0] == 1008


def test_a_client_that_leaves_instead_of_a_first_message_is_no_error() -> None:
    app = make_socket_app(make_auth(), first_message=True)
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.close(4000)


def test_a_first_message_has_to_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastkit.auth._websocket._FIRST_MESSAGE_SECONDS", 0.05)
    app = make_socket_app(make_auth(), first_message=True)
    with TestClient(app).websocket_connect("/ws") as websocket:
        assert closed_with(websocket) == (1008, "Not authenticated.")


# What for


NOT_GOOD = (1008, "The access token lacks a scope that this needs.")


def test_a_token_without_the_scopes_opens_none() -> None:
    auth = make_auth(User("alice", scopes=("read", "write")))
    http = TestClient(make_socket_app(auth, "read", "write"))
    with http.websocket_connect("/ws", headers=bearer(log_in(http))) as websocket:
        assert websocket.receive_text() == "alice"
    for scope in ("read", "write"):
        assert refused(http, headers=bearer(log_in(http, scope=scope))) == 1008


def test_a_first_message_without_the_scopes_is_refused() -> None:
    auth = make_auth(User("alice", scopes=("read", "write")))
    http = TestClient(make_socket_app(auth, "write", first_message=True))
    with http.websocket_connect("/ws") as websocket:
        websocket.send_text(log_in(http, scope="read")["access_token"])
        assert closed_with(websocket) == NOT_GOOD
    with http.websocket_connect("/ws") as websocket:
        websocket.send_text(log_in(http)["access_token"])
        assert websocket.receive_text() == "alice"


def test_a_scope_that_is_taken_from_the_user_opens_none() -> None:
    directory = Directory([User("alice", scopes=("write",))])
    http = TestClient(make_socket_app(make_auth(directory=directory), "write"))
    headers = bearer(log_in(http))
    directory.users["alice"].scopes = ()
    assert refused(http, headers=headers) == 1008


def test_what_a_test_says_who_it_is_may_not_do_is_refused() -> None:
    auth = make_auth()
    app = make_socket_app(auth, "write")
    http = TestClient(app)
    with auth.override(app, User("eve")):
        assert refused(http) == 1008
    with (
        auth.override(app, User("eve", scopes=("write",))),
        http.websocket_connect("/ws") as websocket,
    ):
        assert websocket.receive_text() == "eve"


@pytest.mark.parametrize("scope", ["", "a b", 'a"', "ä"])
def test_a_scope_that_no_token_holds_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match="is no scope"):
        make_auth().websocket_user("fine", scope)


# From where


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "testserver", True),
        ("http://testserver", "testserver", True),
        ("https://testserver", "testserver", True),
        ("https://TestServer", "TESTSERVER", True),
        ("http://testserver:80", "testserver", True),
        ("https://testserver", "testserver:443", True),
        ("http://testserver:8000", "testserver:8000", True),
        ("https://app.example.com", "testserver", True),
        ("https://app.example.com:443", "testserver", True),
        ("https://APP.example.com", "testserver", True),
        ("http://app.example.com", "testserver", False),
        ("https://app.example.com:8443", "testserver", False),
        ("https://app.example.com.evil.example", "testserver", False),
        ("https://evil.example", "testserver", False),
        ("https://testserver.evil.example", "testserver", False),
        ("http://testserver:8001", "testserver:8000", False),
        ("http://testserver:8000", "testserver", False),
        ("http://testserver@evil.example", "testserver", False),
        ("null", "testserver", False),
        ("", "testserver", False),
        ("file://", "testserver", False),
        ("http://", "", False),
        ("http://[::1", "[::1", True),
        ("http://testserver/", "testserver", False),
    ],
)
def test_a_page_of_another_origin_opens_none(origin: str | None, host: str, allowed: bool) -> None:
    app = make_socket_app(make_auth(), origins=["https://App.Example.com:443"])
    http = TestClient(app)
    headers = {**bearer(log_in(http)), "Host": host}
    if origin is not None:
        headers["Origin"] = origin
    if allowed:
        with http.websocket_connect("/ws", headers=headers) as websocket:
            assert websocket.receive_text() == "alice"
    else:
        assert refused(http, headers=headers) == 1008


@pytest.mark.parametrize("origins", [[b"http://testserver"] * 2, [b"http://testserver\xe4"]])
def test_what_no_browser_sends_opens_none(origins: list[bytes]) -> None:
    app = make_socket_app(make_auth())
    token = log_in(TestClient(app))["access_token"].encode()
    headers = [(b"host", b"testserver"), (b"authorization", b"Bearer " + token)]
    scope = http_scope(
        target=b"/ws", headers=[*headers, *[(b"origin", one) for one in origins]], subprotocols=[]
    )
    asked = Exchange([{"type": "websocket.connect"}])
    anyio.run(asked.run, app, {**scope, "type": "websocket", "scheme": "ws"})
    assert [message["type"] for message in asked.sent] == ["websocket.close"]


@pytest.mark.parametrize(
    "origin",
    ["*", "app.example.com", "https://app.example.com/", "null", "", "ws://a", "https://a b"],
)
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        make_auth().websocket_user(origins=[origin])


# The user is found without a session of the request


def test_a_look_up_of_the_request_is_refused() -> None:
    directory = Directory([User("alice")])
    auth = make_auth(get_user=Depends(lambda: directory.find))
    with pytest.raises(TypeError, match="get_user_by_subject"):
        auth.websocket_user()
    of_a_request: Any = Depends(lambda: directory.find)
    with pytest.raises(TypeError, match=r"get_user_by_subject=.* cannot be called"):
        auth.websocket_user(get_user_by_subject=of_a_request)
    for find in (directory.find, directory.users.get):
        http = TestClient(make_socket_app(auth, get_user_by_subject=find))
        with http.websocket_connect("/ws", headers=bearer(log_in(http))) as websocket:
            assert websocket.receive_text() == "alice"


def test_a_look_up_that_raises_is_the_apps_error() -> None:
    auth = make_auth()

    def fail(subject: str) -> User | None:
        raise LookupError("gone")

    http = TestClient(make_socket_app(auth, get_user_by_subject=fail))
    with (
        pytest.raises(LookupError, match="gone"),
        http.websocket_connect("/ws", headers=bearer(log_in(http))),
    ):
        pass


@pytest.mark.parametrize("first_message", [True, False])
def test_a_test_may_say_who_it_is(first_message: bool) -> None:
    auth = make_auth()
    app = make_socket_app(auth, first_message=first_message)
    http = TestClient(app)
    with auth.override(app, User("eve")), http.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "eve"
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"
    if not first_message:
        assert refused(http) == 1008


# How long


Endpoint = Callable[[WebSocket], Awaitable[None]]


async def waits(websocket: WebSocket) -> None:
    await websocket.receive_text()


async def works_and_receives(websocket: WebSocket) -> None:
    await asyncio.sleep(0.3)
    await websocket.receive_text()


async def works_and_sends(websocket: WebSocket) -> None:
    await asyncio.sleep(0.3)
    await websocket.send_text("late")


async def works_and_closes(websocket: WebSocket) -> None:
    await asyncio.sleep(0.3)
    await websocket.close(4321)


async def works_and_fails(websocket: WebSocket) -> None:
    await asyncio.sleep(0.3)
    raise LookupError("the endpoint's own")


async def works_after_the_client_left(websocket: WebSocket) -> None:
    with pytest.raises(WebSocketDisconnect):
        await websocket.receive_text()
    await asyncio.sleep(0.3)
    await websocket.send_text("late")


CONNECT: Message = {"type": "websocket.connect"}
GONE: Message = {"type": "websocket.disconnect", "code": 4321}


@dataclass
class Outcome:
    """What came of one WebSocket."""

    sent: list[str] = field(default_factory=list[str])
    ended: Exception | None = None
    """What the endpoint raised."""
    raised: Exception | None = None
    """What the server was told of it."""


async def run(endpoint: Endpoint, *received: Message, seconds: float = 0.1) -> Outcome:
    """Serve a WebSocket whose token is good for that time, as a server does."""
    clock, outcome = Clock(1_000_000.0), Outcome()
    auth = make_auth(clock=clock)
    app = make_app(auth)

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, user: Annotated[User, auth.websocket_user()]) -> None:
        await websocket.accept()
        try:
            await endpoint(websocket)
        except Exception as error:
            outcome.ended = error
            raise

    messages = asyncio.Queue[Message]()
    for message in (CONNECT, *received):
        messages.put_nowait(message)

    async def send(message: Message) -> None:
        outcome.sent.append(f"{message['type']} {message.get('code', '')}".strip())
        if message["type"] == "websocket.close":
            messages.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    headers = bearer(log_in(TestClient(app)))
    clock.now += 900 - seconds
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = http_scope(target=b"/ws", headers=raw, subprotocols=[])
    before = asyncio.all_tasks()
    try:
        await app({**scope, "type": "websocket", "scheme": "ws"}, messages.get, send)
    except Exception as error:
        outcome.raised = error
    assert asyncio.all_tasks() == before
    return outcome


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", [waits, works_and_receives, works_and_sends])
async def test_when_the_token_expires_the_client_has_gone(endpoint: Endpoint) -> None:
    outcome = await run(endpoint)
    assert outcome.sent == ["websocket.accept", "websocket.close 4001"]
    assert isinstance(outcome.ended, WebSocketDisconnect)
    assert outcome.ended.code == 4001
    assert outcome.raised is None  # which is nobody's error


# What puts that off


def make_renewing_app(auth: Auth[User], *scopes: str) -> FastAPI:
    app = make_app(auth)

    @app.websocket("/ws")
    async def socket(
        websocket: WebSocket, user: Annotated[User, auth.websocket_user(*scopes)]
    ) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            newer = await auth.renew_websocket(websocket, text)
            await websocket.send_text(newer.username)

    return app


def test_a_newer_token_puts_the_end_off() -> None:
    auth = make_auth(access_lifetime=timedelta(seconds=2))
    http = TestClient(make_renewing_app(auth))
    started = time.monotonic()
    with http.websocket_connect("/ws", headers=bearer(log_in(http))) as websocket:
        time.sleep(1)
        for _ in range(2):
            websocket.send_text(log_in(http)["access_token"])
            assert websocket.receive_text() == "alice"
        assert closed_with(websocket) == (4001, "expired")
    assert time.monotonic() - started > 2.5


def test_each_dependency_of_an_endpoint_is_renewed() -> None:
    directory = Directory([User("alice", scopes=("read", "write"))])
    auth = make_auth(directory=directory, access_lifetime=timedelta(seconds=2))
    app = make_app(auth)

    @app.websocket("/ws", dependencies=[auth.websocket_user("read")])
    async def socket(
        websocket: WebSocket, user: Annotated[User, auth.websocket_user("write")]
    ) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await auth.renew_websocket(websocket, text)

    http = TestClient(app)
    started = time.monotonic()
    with http.websocket_connect("/ws", headers=bearer(log_in(http))) as websocket:
        time.sleep(1)
        websocket.send_text(log_in(http)["access_token"])
        assert closed_with(websocket) == (4001, "expired")
    assert time.monotonic() - started > 2.5


def test_an_older_token_does_not_bring_it_forward() -> None:
    clock = Clock()
    auth = make_auth(clock=clock)
    http = TestClient(make_renewing_app(auth))
    older = log_in(http)["access_token"]
    clock.now += 899.5
    newer = log_in(http)["access_token"]
    with http.websocket_connect("/ws", headers=bearer(newer)) as websocket:
        websocket.send_text(older)
        assert websocket.receive_text() == "alice"
        time.sleep(1)
        websocket.send_text(newer)
        assert websocket.receive_text() == "alice"


def test_what_does_not_renew_closes() -> None:
    directory = Directory([User(name, scopes=("read", "write")) for name in ("alice", "bob")])
    auth = make_auth(directory=directory)
    http = TestClient(make_renewing_app(auth, "write"))
    good = log_in(http)["access_token"]
    for token, reason in (
        ("", "The access token is not valid."),
        (good + "x", "The access token is not valid."),
        (log_in(http)["refresh_token"], "The access token is not valid."),
        (log_in(http, scope="read")["access_token"], NOT_GOOD[1]),
        (log_in(http, "bob")["access_token"], "The access token is of another user."),
    ):
        with http.websocket_connect("/ws", headers=bearer(good)) as websocket:
            websocket.send_text(token)
            assert closed_with(websocket) == (1008, reason)
    with http.websocket_connect("/ws", headers=bearer(good)) as websocket:
        directory.users["alice"].disabled = True
        websocket.send_text(good)
        assert closed_with(websocket)[0] == 1008


def test_a_test_that_says_who_it_is_needs_no_token_for_it() -> None:
    auth = make_auth()
    app = make_renewing_app(auth)
    with auth.override(app, User("eve")), TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("anything")
        assert websocket.receive_text() == "eve"


def test_a_websocket_without_a_user_cannot_be_renewed() -> None:
    auth = make_auth()
    app = FastAPI()

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(LookupError, match=r"depends on websocket_user\(\)"):
            await auth.renew_websocket(websocket, "token")
        await websocket.send_text("so it is")

    with TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "so it is"


@pytest.mark.anyio
async def test_who_says_goodbye_after_that_is_not_in_error() -> None:
    outcome = await run(works_and_closes)
    assert outcome == Outcome(["websocket.accept", "websocket.close 4001"])


@pytest.mark.anyio
async def test_what_fails_after_that_is_the_endpoints_own_error() -> None:
    outcome = await run(works_and_fails)
    assert outcome.sent == ["websocket.accept", "websocket.close 4001"]
    assert isinstance(outcome.raised, LookupError)


@pytest.mark.anyio
async def test_a_client_that_has_gone_before_is_told_nothing() -> None:
    outcome = await run(works_after_the_client_left, GONE)
    assert outcome.sent == ["websocket.accept"]
    assert isinstance(outcome.ended, WebSocketDisconnect)


@pytest.mark.anyio
async def test_a_client_that_leaves_in_time_is_gone_as_ever() -> None:
    outcome = await run(waits, GONE, seconds=60)
    assert outcome.sent == ["websocket.accept"]
    assert isinstance(outcome.raised, WebSocketDisconnect)
    assert outcome.raised.code == 4321


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError, RuntimeError])
@pytest.mark.parametrize("left", [{"type": "websocket.receive", "text": "x"}, GONE])
async def test_a_client_that_is_refused_and_has_left_is_no_error(
    left: Message, error: type[Exception]
) -> None:
    app = make_socket_app(make_auth(), first_message=True)
    messages = iter([CONNECT, left])
    sent: list[str] = []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message["type"])
        if message["type"] == "websocket.close":
            raise error  # as servers do

    scope = http_scope(target=b"/ws", subprotocols=[])
    await app({**scope, "type": "websocket", "scheme": "ws"}, receive, send)
    assert sent == ["websocket.accept", "websocket.close"]


@pytest.fixture(scope="module", params=["websockets-sansio", "wsproto"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with run_server("tests.auth.socket_app:app", args=["--ws", request.param]) as running:
        yield running


def opened(
    server: Server,
    path: str,
    *,
    additional_headers: dict[str, str] | None = None,
    origin: str | None = None,
) -> ClientConnection:
    return connect(
        server.base_url.replace("http", "ws", 1) + path,
        open_timeout=30,
        additional_headers=additional_headers,
        origin=None if origin is None else Origin(origin),
    )


def token_of(server: Server, **more: str) -> str:
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, **more}
    token: str = httpx.post(f"{server.base_url}/auth/token", data=form).json()["access_token"]
    return token


def endings(server: Server, *awaited: str) -> list[str]:
    """How the endpoints of `awaited` have ended, when all have and no task is left."""
    deadline = time.monotonic() + 30
    while True:
        found = httpx.get(f"{server.base_url}/log").json()
        names = [one.partition(":")[0] for one in found["ended"]]
        if set(awaited) <= set(names) and found["tasks"] == 0:
            ended: list[str] = found["ended"]
            return ended
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def close_of(websocket: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            websocket.recv(30)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def status_of(server: Server, path: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as denied, opened(server, path, **options):
        pass
    return denied.value.response.status_code


def test_a_server_lets_in_who_has_a_token(server: Server) -> None:
    headers = bearer(token_of(server))
    with opened(server, "/echo", additional_headers=headers) as websocket:
        websocket.send("hello")
        assert websocket.recv(30) == "alice hello"
    with opened(server, "/first") as websocket:
        websocket.send(token_of(server))
        websocket.send("hello")
        assert websocket.recv(30) == "alice hello"
    with opened(server, f"/linked?token={token_of(server)}") as websocket:
        websocket.send("hello")
        assert websocket.recv(30) == "alice hello"
    with opened(server, "/first") as websocket:
        websocket.send("forged")
        assert close_of(websocket) == (1008, "The access token is not valid.")
    assert status_of(server, "/echo") == 403
    assert status_of(server, "/echo", additional_headers=bearer("forged")) == 403
    assert status_of(server, f"/echo?token={token_of(server)}") == 403
    headers = bearer(token_of(server))
    evil, own = "https://evil.example", server.base_url
    assert status_of(server, "/echo", additional_headers=headers, origin=evil) == 403
    for path, origin in (("/echo", own), ("/listed", own), ("/listed", "https://app.example.com")):
        with opened(server, path, additional_headers=headers, origin=origin) as websocket:
            websocket.send("hello")
            assert websocket.recv(30) == "alice hello"


def test_a_server_lets_in_whose_token_has_the_scopes(server: Server) -> None:
    good, less = bearer(token_of(server)), bearer(token_of(server, scope="read"))
    with opened(server, "/writes", additional_headers=good) as websocket:
        websocket.send("hello")
        assert websocket.recv(30) == "alice hello"
    assert status_of(server, "/writes", additional_headers=less) == 403
    with opened(server, "/writes-first") as websocket:
        websocket.send(token_of(server))
        websocket.send("hello")
        assert websocket.recv(30) == "alice hello"
    with opened(server, "/writes-first") as websocket:
        websocket.send(token_of(server, scope="read"))
        assert close_of(websocket) == NOT_GOOD


def test_a_server_closes_each_when_its_token_expires(server: Server) -> None:
    before, headers = len(server.log), bearer(token_of(server))
    with ExitStack() as stack:
        open_ones = [
            stack.enter_context(opened(server, path, additional_headers=headers))
            for path in ("/echo", "/sends", "/works", "/closes")
        ]
        assert status_of(server, "/late", additional_headers=headers) == 403
        for websocket in open_ones:
            assert close_of(websocket) == (4001, "expired")
    ended = endings(server, "alice", "sends", "works", "closes", "late")
    # To each of them the client has gone, at whatever it was.
    for name in ("alice", "sends", "works"):
        assert f"{name}: gone 4001" in ended
    assert "late: gone 4001" in ended
    assert "closes: done" in ended
    assert "Traceback" not in server.log[before:]


def test_a_server_has_nothing_left_of_those_that_end_before(server: Server) -> None:
    headers = bearer(token_of(server))
    for _ in range(3):
        with opened(server, "/echo", additional_headers=headers) as websocket:
            websocket.send("hello")
            websocket.recv(30)
        with opened(server, "/brief", additional_headers=headers) as websocket:
            assert close_of(websocket)[0] == 4321
    with (
        pytest.raises(ConnectionClosed),
        opened(server, "/fails", additional_headers=headers) as websocket,
    ):
        websocket.recv(30)
    endings(server, "brief")
    assert "LookupError: the endpoint's own" in server.wait_for_log("LookupError")


@pytest.mark.anyio
async def test_a_cancelled_endpoint_leaves_nothing() -> None:
    started = asyncio.Event()

    async def stuck(websocket: WebSocket) -> None:
        started.set()
        await asyncio.sleep(60)

    before = asyncio.all_tasks()
    task = asyncio.create_task(run(stuck, seconds=60))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
