"""What the tests of errors share: an app called as a server calls it, and what a problem is."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

import anyio
import httpx
import jsonschema  # type: ignore[import-untyped]  # it has no types
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from tests.support import Server

__all__ = (
    "SENTINEL",
    "Answer",
    "Exchange",
    "Log",
    "call",
    "client",
    "exchange",
    "http_scope",
    "problem",
    "refused_by_schema",
    "strict_json",
)

SENTINEL = "SENTINEL-hunter2"
"""What a client sent and nobody is to read again."""


class Answer(Protocol):
    """A response of httpx, of the TestClient, or an `Exchange`."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...


class Log:
    """What a server has logged since the test began."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.before = len(server.log)

    def settled(self, *awaited: str) -> str:
        """All of it, once each of `awaited` is there and another request has been answered."""
        for text in awaited:
            self.server.wait_for_log(text)
        assert httpx.get(self.server.base_url + "/openapi.json").status_code == 200
        return self.server.log[self.before :]


def client(app: ASGIApp) -> TestClient:
    """A client that is answered like a real one, whatever the app raises."""
    return TestClient(app, raise_server_exceptions=False)


def strict_json(content: bytes) -> Any:
    """`content` parsed as the strictest parser would: ASCII, no NaN, no lone surrogates."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    value = json.loads(content.decode("ascii"), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def problem(answer: Answer, status: int | None = None) -> dict[str, Any]:
    """The members of the problem that `answer` is; with `status`, a problem of that one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.content
    assert answer.headers["content-length"] == str(len(answer.content))
    body = strict_json(answer.content)
    assert isinstance(body["type"], str)
    assert body["title"]
    assert isinstance(body["title"], str)
    assert body["detail"]
    assert isinstance(body["detail"], str)
    assert isinstance(body.get("instance", ""), str)
    assert body["status"] == answer.status_code
    assert status in (None, answer.status_code), body
    return dict(body)


def refused_by_schema(
    document: Mapping[str, Any], answer: Answer, *, path: str, method: str = "get"
) -> list[str]:
    """What is wrong with `answer` by what the OpenAPI document says of this path operation."""
    responses = document["paths"][path][method]["responses"]
    response = responses.get(str(answer.status_code)) or responses["default"]
    media_type = answer.headers["content-type"].partition(";")[0]
    if media_type not in response["content"]:
        return [f"{media_type} is not among {[*response['content']]}"]
    schema = {**response["content"][media_type]["schema"], "components": document["components"]}
    validator: Any = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(json.loads(answer.content))]


def http_scope(method: str = "GET", target: bytes = b"/", **more: Any) -> Scope:
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        **more,
    }


@dataclass
class Exchange:
    """One request: what the server sees of it."""

    received: Sequence[Message] = ()
    fail_at: str | None = None
    """The message that cannot be sent, because the client has gone."""
    sent: list[Message] = field(default_factory=list[Message])
    error: Exception | None = None
    """What the app raised at the server."""

    async def run(self, app: ASGIApp, scope: Scope) -> "Exchange":
        received = iter(self.received)

        async def receive() -> Message:
            for message in received:
                return message
            raise AssertionError("the app waits for more than the client sends")

        async def send(message: Message) -> None:
            if message["type"] == self.fail_at:
                raise BrokenPipeError("the client has gone")
            self.sent.append(message)

        try:
            await app(scope, receive, send)
        except Exception as exc:
            self.error = exc
        return self

    def of_type(self, kind: str) -> list[Message]:
        return [message for message in self.sent if message["type"] == kind]

    @property
    def start(self) -> Message:
        """The one start of the response, which has nothing in it that a server would refuse."""
        (start,) = self.of_type("http.response.start")
        assert self.sent[0] is start
        for name, value in start["headers"]:
            assert name == name.lower()
            assert not set(name + value) & set(b"\r\n\0")
            assert value == value.strip(b" \t")
        return start

    @property
    def status_code(self) -> int:
        return int(self.start["status"])

    @property
    def headers(self) -> Headers:
        return Headers(raw=list(self.start["headers"]))

    @property
    def content(self) -> bytes:
        return b"".join(message["body"] for message in self.of_type("http.response.body"))


async def exchange(
    app: ASGIApp,
    target: bytes = b"/",
    *,
    method: str = "GET",
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    fail_at: str | None = None,
    **more: Any,
) -> Exchange:
    """Send one request to `app`, as a server would."""
    request: Message = {"type": "http.request", "body": body, "more_body": False}
    gone: Message = {"type": "http.disconnect"}
    scope = http_scope(method, target, headers=list(headers), **more)
    return await Exchange([request, gone], fail_at).run(app, scope)


def call(app: FastAPI, target: bytes = b"/", **options: Any) -> Exchange:
    """`exchange` in an event loop of its own."""

    async def run() -> Exchange:
        return await exchange(app, target, **options)

    return anyio.run(run)
