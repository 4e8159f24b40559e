from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware

from fastkit.errors import NotFoundError, Problem, install_exception_handlers, problem_responses
from fastkit.lifespan import combine
from fastkit.request_id import RequestIdMiddleware, get_request_id
from fastkit.timing import RequestRecord, TimingMiddleware


@asynccontextmanager
async def with_state(app: FastAPI) -> AsyncGenerator[dict[str, int]]:
    yield {"answer": 42}


@asynccontextmanager
async def without_state(app: FastAPI) -> AsyncGenerator[None]:
    yield


def count(record: RequestRecord) -> None: ...


def blocks_fit_into_an_app(app: FastAPI) -> None:
    FastAPI(lifespan=combine(with_state, without_state))
    Starlette(lifespan=combine(with_state), middleware=[Middleware(RequestIdMiddleware)])
    app.add_middleware(TimingMiddleware, on_finish=count, slow_after=0.5)
    app.add_middleware(RequestIdMiddleware, header="X-Trace")
    app.get("/", responses=problem_responses(NotFoundError))(get_request_id)
    install_exception_handlers(app, {LookupError: 404, OSError: lambda exc: Problem(503)})


def misspelt_and_mistyped_options_are_found(app: FastAPI) -> None:
    app.add_middleware(TimingMiddleware, slow=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.add_middleware(RequestIdMiddleware, header=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    install_exception_handlers(app, {LookupError: "404"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    problem_responses(LookupError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
