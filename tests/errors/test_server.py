"""Through a real server: what the client reads, and what the server logs."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.errors.support import SENTINEL, Log, problem
from tests.support import Server, run_server


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    args = ["--http", request.param, "--timeout-graceful-shutdown", "5"]
    with run_server("tests.errors.failing_app:app", args=args) as running:
        yield running


@pytest.fixture
def log(server: Server) -> Log:
    return Log(server)


def raw(server: Server, content: bytes) -> socket.socket:
    address = urlsplit(server.base_url)
    connection = socket.create_connection((str(address.hostname), address.port or 0), 30)
    connection.sendall(content)
    return connection


@pytest.mark.parametrize("path", ["/crash", "/crash-in-a-thread", "/dependency-before"])
def test_a_crash_is_answered_and_logged_once(server: Server, log: Log, path: str) -> None:
    headers = {"Origin": "https://shop.example", "Accept-Encoding": "identity"}
    answer = httpx.get(server.base_url + path, headers=headers)
    request_id = problem(answer, 500)["request_id"]
    assert SENTINEL not in answer.text
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"] == request_id
    assert float(answer.headers["x-process-time"]) >= 0
    text = log.settled(f"RuntimeError: {SENTINEL}")
    assert text.count(f"unhandled RuntimeError [request_id={request_id}]") == 1
    assert text.count("reported RuntimeError") == 1
    assert text.count("Exception in ASGI application") == 1


@pytest.mark.parametrize(
    ("path", "raised"),
    [
        ("/stream", "RuntimeError"),
        ("/stream-from-a-thread", "RuntimeError"),
        ("/stream-mapped", "MappedError"),
    ],
)
def test_a_crash_midway_cuts_the_response_and_is_logged_once(
    server: Server, log: Log, path: str, raised: str
) -> None:
    content = b""
    with raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as connection:
        while received := connection.recv(65536):
            content += received
    assert content.startswith(b"HTTP/1.1 200 OK\r\n")
    assert content.count(b"HTTP/1.1") == 1
    assert b"first piece, " in content
    assert not content.endswith(b"0\r\n\r\n")
    text = log.settled(f"{raised}: {SENTINEL}")
    assert text.count(f"reported {raised}") == 1
    assert text.count("Exception in ASGI application") == 1
    assert text.count("[request_id=") == (raised == "RuntimeError")


@pytest.mark.parametrize(
    ("path", "raised"),
    [
        ("/background", "RuntimeError"),
        ("/background-mapped", "MappedError"),
        ("/dependency-after", "RuntimeError"),
    ],
)
def test_a_crash_after_the_response_leaves_it_whole(
    server: Server, log: Log, path: str, raised: str
) -> None:
    assert httpx.get(server.base_url + path).json() == "answered"
    text = log.settled(f"{raised}: {SENTINEL}")
    assert text.count(f"reported {raised}") == 1
    assert text.count("Exception in ASGI application") == 1


def test_a_declared_exception_is_logged_by_nobody(server: Server, log: Log) -> None:
    answer = httpx.get(server.base_url + "/mapped", headers={"Accept-Encoding": "identity"})
    problem(answer, 409)
    text = log.settled()
    assert SENTINEL not in text
    assert "[request_id=" not in text
    assert "ERROR" not in text


@pytest.mark.parametrize("path", ["/endless", "/slow"])
def test_a_client_that_leaves_is_no_error(server: Server, log: Log, path: str) -> None:
    with raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as connection:
        if path == "/endless":
            assert connection.recv(10) == b"HTTP/1.1 2"
    httpx.get(server.base_url + "/slow")
    text = log.settled()
    assert "[request_id=" not in text
    assert "ERROR" not in text
    assert "reported" not in text


def test_a_client_that_leaves_within_its_body_is_not_called_unhandled(
    server: Server, log: Log
) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\npart"
    raw(server, head).close()
    assert "[request_id=" not in log.settled("reported ClientDisconnect")
