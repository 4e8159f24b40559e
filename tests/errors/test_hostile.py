"""No request makes the app fail, and no answer and no log has what the client sent."""

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.errors.cases import BODIES, URLS, Request, json_requests
from tests.errors.hostile_app import VALID, app, echoing_app
from tests.errors.support import SENTINEL, Exchange, call, problem, refused_by_schema
from tests.support import Server, run_server

REQUESTS = (*BODIES, *URLS)
APPS = {"quiet": app, "echoing": echoing_app}

every_app = pytest.mark.parametrize("subject", APPS.values(), ids=APPS)
every_request = pytest.mark.parametrize("request_", REQUESTS, ids=str)


def sent_to(subject: FastAPI, request: Request) -> Exchange:
    return call(
        subject,
        request.target,
        method=request.method,
        headers=request.headers,
        body=request.body,
    )


def paths_of(document: dict[str, Any], request: Request) -> Iterator[str]:
    """The documented path that `request` is for, if it is for one."""
    path = request.target.partition(b"?")[0].decode()
    for documented in document["paths"]:
        if (
            documented.partition("{")[0].rstrip("/") == path.rpartition("/")[0]
            or documented == path
        ):
            yield documented


def test_the_app_accepts_what_is_valid() -> None:
    answer = call(
        app,
        b"/json",
        method="POST",
        headers=[(b"content-type", b"application/json")],
        body=json.dumps(VALID).encode(),
    )
    assert answer.status_code == 200


@every_app
@every_request
def test_a_hostile_request_is_answered_with_a_problem_that_fits_the_schema(
    subject: FastAPI, request_: Request
) -> None:
    answer = sent_to(subject, request_)
    assert answer.error is None
    assert answer.status_code in request_.statuses
    if answer.status_code >= 400:
        problem(answer)
    document = subject.openapi()
    for path in paths_of(document, request_):
        method = request_.method.lower()
        if answer.status_code in (400, 422) and method in document["paths"][path]:
            assert not refused_by_schema(document, answer, path=path, method=method)


@every_request
def test_neither_answer_nor_log_has_what_was_sent(
    request_: Request, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = sent_to(app, request_)
    assert SENTINEL not in answer.content.decode()
    assert SENTINEL not in str(answer.headers)
    assert SENTINEL not in caplog.text


@every_app
def test_every_kind_of_field_survives_every_hostile_value(subject: FastAPI) -> None:
    document = subject.openapi()
    refused = 0
    for request in json_requests():
        answer = sent_to(subject, request)
        assert answer.error is None, request
        assert answer.status_code in request.statuses, (request, answer.content)
        if answer.status_code == 422:
            refused += 1
            problem(answer)
            assert not refused_by_schema(document, answer, path="/json", method="post"), request
            if subject is app:
                assert SENTINEL not in answer.content.decode(), request
    assert refused > 600


def test_with_include_input_the_client_is_told_what_it_sent() -> None:
    answer = TestClient(echoing_app).post("/json", json={"password": "x", "integer": SENTINEL})
    (error,) = problem(answer, 422)["errors"]
    assert error["input"] == SENTINEL
    answer = TestClient(echoing_app).post("/json", json={"secret": SENTINEL})
    (error,) = problem(answer, 422)["errors"]
    assert error == {
        "type": "missing",
        "loc": ["body", "password"],
        "msg": "Field required",
        "input": {"secret": SENTINEL},
    }


def test_the_words_of_the_apps_own_validators_are_kept() -> None:
    body = {"password": "x", "short": "long", "lower": "UPPER", "even": 3}
    answer = TestClient(app).post("/json", json=body)
    assert problem(answer, 422)["errors"] == [
        {
            "type": "value_error",
            "loc": ["body", "short"],
            "msg": "Value error, longer than the app likes",
        },
        {
            "type": "assertion_error",
            "loc": ["body", "lower"],
            "msg": "Assertion failed, the app wants lower case",
        },
        {"type": "odd", "loc": ["body", "even"], "msg": "the app wants even"},
    ]


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    args = ["--http", request.param, "--log-level", "debug", "--no-access-log"]
    with run_server("tests.errors.hostile_app:app", args=args) as running:
        yield running


def test_a_server_answers_all_of_them_and_logs_none(server: Server) -> None:
    address = urlsplit(server.base_url)
    refused: list[str] = []
    with closing(HTTPConnection(str(address.hostname), address.port, timeout=30)) as connection:
        for request in (*REQUESTS, *json_requests()):
            reached = send(connection, request)
            if reached is None:
                refused.append(request.name)
                continue
            status, headers, content = reached
            assert status in request.statuses, (request, content)
            assert SENTINEL.encode() not in content, request
            if status >= 400:
                assert headers["content-type"] == "application/problem+json", request
    assert len(refused) < 5, refused
    assert SENTINEL not in server.log
    assert "Traceback" not in server.log
    assert "ERROR" not in server.log


def send(connection: HTTPConnection, request: Request) -> tuple[int, dict[str, str], bytes] | None:
    """The answer of the app; None if the server refused the request itself."""
    connection.putrequest(
        request.method, request.target.decode("ascii"), skip_host=True, skip_accept_encoding=True
    )
    if not any(name == b"host" for name, _ in request.headers):
        connection.putheader("host", "testserver")
    for name, value in request.headers:
        connection.putheader(name, value)
    connection.putheader("content-length", str(len(request.body)))
    connection.endheaders(request.body)
    response = connection.getresponse()
    content = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    if response.status == 400 and headers["content-type"].startswith("text/plain"):
        connection.close()
        return None
    return response.status, headers, content


RAW = {
    "bytes in the path": b"GET /items/\xff\xfe HTTP/1.1\r\nHost: x\r\n",
    "bytes in the query": b"GET /query?n=\xff\xfe HTTP/1.1\r\nHost: x\r\n",
    "a full URL": b"GET http://[bad/items/x HTTP/1.1\r\nHost: x\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n",
    "an authority": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n",
    "no host": b"GET /items/x HTTP/1.0\r\n",
    "two hosts": b"GET /items/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n",
    "a bad host": b"GET /items/ HTTP/1.1\r\nHost: [::1\r\n",
    "two lengths": b"POST /strict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
    "a length that is none": b"POST /strict HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n",
    "a header not ASCII": b"GET /items/x HTTP/1.1\r\nHost: x\r\nX-\xff: y\r\n",
    "a bare line feed": b"GET /items/x HTTP/1.1\nHost: x\n",
    "a folded header": b"GET /headers HTTP/1.1\r\nHost: x\r\nX-Count: a\r\n b\r\n",
    "a NUL in a header": b"GET /headers HTTP/1.1\r\nHost: x\r\nX-Count: a\0b\r\n",
    "a header that is too long": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n",
    "a bad chunk": b"POST /strict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("head", RAW.values(), ids=RAW)
def test_what_no_client_library_would_send_makes_no_server_error(
    server: Server, head: bytes
) -> None:
    address = urlsplit(server.base_url)
    content = b""
    with socket.create_connection((str(address.hostname), address.port or 0), 30) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        try:
            while received := connection.recv(65536):
                content += received
        except ConnectionResetError:
            pass
    assert not content.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5"))
    assert "fastkit" not in server.log
