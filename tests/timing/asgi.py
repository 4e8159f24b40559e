"""ASGI by hand: what a server sends is given, what the application sends is recorded."""

from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Scope

__all__ = ("Exchange", "body", "http_scope", "start", "websocket_scope")


def http_scope(method: str = "GET", path: str = "/", **more: Any) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        **more,
    }


def websocket_scope(path: str = "/", **more: Any) -> Scope:
    scope = http_scope(path=path, subprotocols=[], **more)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "ws"}


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(content: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


class Exchange:
    """One request's server side."""

    def __init__(self, *received: Message) -> None:
        self.received: Iterable[Message] = iter(received)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        for message in self.received:
            return message
        raise AssertionError("the application waits for more than the test has")

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, app: ASGIApp, scope: Scope) -> list[Message]:
        await app(scope, self.receive, self.send)
        return self.sent

    def headers(self, name: bytes) -> list[bytes]:
        """The values of a header in the first message sent, which starts the response."""
        return [value for key, value in self.sent[0]["headers"] if key == name]
