"""An app that fails in every way it can, in a wrapper that reports what reaches it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fastkit.errors import install_exception_handlers
from fastkit.request_id import RequestIdMiddleware
from fastkit.timing import TimingMiddleware
from tests.errors.support import SENTINEL

__all__ = ("MappedError", "Reporter", "app", "inner")


class MappedError(Exception):
    pass


class Reporter:
    """As Sentry's middleware for ASGI: outside of everything, it reports and raises again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[Exception] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            self.seen.append(exc)
            print(f"reported {type(exc).__name__}", flush=True)  # noqa: T201  # read by the test
            raise


def make_app(*, base_http: bool) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["X-Request-ID"])
    app.add_middleware(TimingMiddleware)
    install_exception_handlers(app, {MappedError: 409})
    app.add_middleware(GZipMiddleware, minimum_size=10)
    app.add_middleware(RequestIdMiddleware)

    async def tutorial(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["X-Tutorial"] = "yes"
        return response

    if base_http:
        app.middleware("http")(tutorial)

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError(SENTINEL)

    @app.get("/crash-in-a-thread")
    def crash_in_a_thread() -> None:
        raise RuntimeError(SENTINEL)

    @app.get("/invalid-response", response_model=int)
    async def invalid_response() -> Any:
        return SENTINEL

    async def pieces(exc: Exception) -> AsyncIterator[bytes]:
        yield b"first piece, "
        raise exc

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces(RuntimeError(SENTINEL)))

    @app.get("/stream-http")
    async def stream_http() -> StreamingResponse:
        return StreamingResponse(pieces(HTTPException(404, "too late")))

    @app.get("/stream-mapped")
    async def stream_mapped() -> StreamingResponse:
        return StreamingResponse(pieces(MappedError(SENTINEL)))

    def sync_pieces() -> Iterator[bytes]:
        yield b"first piece, "
        raise RuntimeError(SENTINEL)

    @app.get("/stream-from-a-thread")
    def stream_from_a_thread() -> StreamingResponse:
        return StreamingResponse(sync_pieces())

    def fail(exc: Exception) -> None:
        raise exc

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail, RuntimeError(SENTINEL))
        return "answered"

    @app.get("/background-mapped")
    async def background_mapped(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail, MappedError(SENTINEL))
        return "answered"

    def no_value() -> int:
        raise RuntimeError(SENTINEL)

    async def fails_before() -> AsyncIterator[int]:
        yield no_value()

    @app.get("/dependency-before")
    async def dependency_before(value: Annotated[int, Depends(fails_before)]) -> None: ...

    async def fails_after() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError(SENTINEL)

    @app.get("/dependency-after")
    async def dependency_after(value: Annotated[int, Depends(fails_after)]) -> str:
        return "answered"

    @app.get("/dependency-between")
    async def dependency_between(
        value: Annotated[int, Depends(fails_after, scope="function")],
    ) -> str:
        return "unsent"

    async def turns_into_mapped() -> AsyncIterator[int]:
        try:
            yield 1
        except RuntimeError as exc:
            raise MappedError from exc

    @app.get("/dependency-turns")
    async def dependency_turns(value: Annotated[int, Depends(turns_into_mapped)]) -> None:
        raise RuntimeError(SENTINEL)

    @app.get("/mapped")
    def mapped() -> None:
        raise MappedError(SENTINEL)

    @app.post("/upload")
    async def upload(request: Request) -> str:
        return str(len(await request.body()))

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def ticks() -> AsyncIterator[bytes]:
            while True:
                yield b"tick " * 1000
                await asyncio.sleep(0.01)

        return StreamingResponse(ticks())

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(0.3)
        raise HTTPException(404, "nobody is there to read this")

    return app


inner = make_app(base_http=True)
# BaseHTTPMiddleware ends a response in good order whose app has failed.
app = Reporter(make_app(base_http=False))
