"""What `TimingMiddleware` sees of real clients, through a real server."""

import json
import socket
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.support import Serve, Server

APP = "tests.timing.server_app:app"


def record(server: Server, route: str) -> dict[str, Any]:
    """Wait for the one record of a route."""
    log = server.wait_for_log(f'"route": {json.dumps(route)}')
    lines = [line.removeprefix("record ") for line in log.splitlines() if '"route":' in line]
    (found,) = [found for found in map(json.loads, lines) if found["route"] == route]
    return {**found, "seen": (found["method"], found["status"], found["outcome"])}


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_records_through_a_real_server(serve: Serve, http: str) -> None:
    if http == "httptools":
        pytest.importorskip("httptools")
    server = serve(APP, args=["--http", http])
    with httpx.Client(base_url=server.base_url) as client:
        assert float(client.get("/items/7").headers["X-Process-Time"]) > 0
        found = record(server, "/items/{item_id}")
        assert found["seen"] == ("GET", 200, "ok")
        assert 0 < found["time_to_first_byte"] <= found["duration"]

        client.get("/background")
        found = record(server, "/background")
        assert found["seen"] == ("GET", 200, "ok")
        # asyncio's timers may be early by their clock's resolution.
        assert found["background"] > 0.049

        assert client.get("/slow-stream").text == "xxxxx"
        found = record(server, "/slow-stream")
        assert found["seen"] == ("GET", 200, "ok")
        assert found["duration"] - found["time_to_first_byte"] > 0.19

        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/broken-stream")
        assert record(server, "/broken-stream")["seen"] == ("GET", 200, "error")

        crashed = client.get("/crash")
        assert crashed.status_code == 500
        assert record(server, "/crash")["seen"] == ("GET", None, "error")


def test_a_client_that_hangs_up_in_the_body_is_disconnected(serve: Serve) -> None:
    server = serve(APP)
    with (
        httpx.Client(base_url=server.base_url) as client,
        client.stream("GET", "/endless") as response,
    ):
        assert next(response.iter_raw())
        assert "X-Process-Time" in response.headers
    found = record(server, "/endless")
    assert found["seen"] == ("GET", 200, "disconnected")
    assert found["duration"] > found["time_to_first_byte"]


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_websockets_through_a_real_server(serve: Serve, ws: str) -> None:
    if ws == "wsproto":
        pytest.importorskip("wsproto")
    server = serve(APP, args=["--ws", ws])
    url = server.base_url.replace("http", "ws", 1)
    with connect(f"{url}/ws/a") as session:
        session.send("hello")
        assert session.recv() == "a: hello"
    assert record(server, "/ws/{room}")["seen"] == ("WEBSOCKET", 101, "ok")


def test_a_websocket_whose_client_vanishes_is_disconnected(serve: Serve) -> None:
    # uvicorn's two other implementations report it as a close without a code.
    server = serve(APP, args=["--ws", "websockets"])
    url = server.base_url.replace("http", "ws", 1)
    with connect(f"{url}/ws/a") as session:
        session.send("hello")
        assert session.recv() == "a: hello"
        # The connection ends, and no close frame was sent.
        session.socket.shutdown(socket.SHUT_RDWR)
        found = record(server, "/ws/{room}")
    assert found["seen"] == ("WEBSOCKET", 101, "disconnected")


def test_a_root_path_of_the_server_is_in_the_label(serve: Serve) -> None:
    server = serve(APP, args=["--root-path", "/api"])
    assert httpx.get(f"{server.base_url}/items/7").status_code == 200
    assert record(server, "/api/items/{item_id}")["seen"] == ("GET", 200, "ok")
