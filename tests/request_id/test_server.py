"""Request ids through a real server, with clients that mean harm."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from tests.support import Serve

APP = "tests.request_id.server_app:app"


def raw_request(url: str, head: bytes) -> tuple[list[bytes], bytes]:
    """Send a request as it is, and return the `x-request-id` lines and the body of the answer."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + head + b"\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    headers, _, content = answer.partition(b"\r\n\r\n")
    lines = [line for line in headers.split(b"\r\n") if line.lower().startswith(b"x-request-id:")]
    return lines, content


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_ids_through_a_real_server(serve: Serve, http: str) -> None:
    if http == "httptools":
        pytest.importorskip("httptools")
    server = serve(APP, args=["--http", http])
    with httpx.Client(base_url=server.base_url) as client:
        # One connection, a request after the other.
        responses = [client.get("/") for _ in range(3)]
        ids = [response.headers["X-Request-ID"] for response in responses]
        assert [response.json() for response in responses] == ids
        assert len(set(ids)) == 3
        assert client.get("/", headers={"X-Request-ID": "from-the-proxy"}).json() == (
            "from-the-proxy"
        )
    for head in [
        b"X-Request-ID: one\r\nx-request-id: two\r\n",
        b"X-Request-ID: \xe9\r\n",
        b"X-Request-ID:\r\n",
        b"X-Request-ID: " + b"x" * 4096 + b"\r\n",
    ]:
        (line,), content = raw_request(server.base_url, head)
        request_id = line.partition(b":")[2].strip()
        assert len(request_id) == 32
        assert content == b'"' + request_id + b'"'


def test_websocket_ids_through_a_real_server(serve: Serve) -> None:
    server = serve(APP)
    with connect(f"{server.base_url.replace('http', 'ws', 1)}/ws") as session:
        assert session.response
        assert session.recv() == session.response.headers["X-Request-ID"]
