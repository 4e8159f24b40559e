"""Timing and request ids: fastkit's middleware beside a bare route and other libraries'.

They do not all do the same work. With `on_finish`, fastkit's counts requests by method, route and
status, which is nearest to what prometheus-fastapi-instrumentator does.
"""

from collections.abc import Awaitable, Callable
from time import perf_counter

from fastapi import FastAPI, Request, Response

from benchmarks.harness import Call, Case, Group, Limit, Report, compare, peer
from fastkit.request_id import RequestIdMiddleware
from fastkit.timing import RequestRecord, TimingMiddleware

TITLE = "Timing and request ids beside a bare route"
PACKAGES = (
    "fastkit",
    "fastapi",
    "starlette",
    "asgi-correlation-id",
    "prometheus-fastapi-instrumentator",
)
LIMIT = Limit(1.25, 1.10)


def bare_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    return app


def timing_app() -> FastAPI:
    app = bare_app()
    app.add_middleware(TimingMiddleware)
    return app


def request_id_app() -> FastAPI:
    app = bare_app()
    app.add_middleware(RequestIdMiddleware)
    return app


def both_app() -> FastAPI:
    app = bare_app()
    app.add_middleware(TimingMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def recording_app() -> FastAPI:
    app = bare_app()
    counts: dict[tuple[str, str, int | None], int] = {}

    def count(record: RequestRecord) -> None:
        labels = (record.method, record.route, record.status)
        counts[labels] = counts.get(labels, 0) + 1

    app.add_middleware(TimingMiddleware, on_finish=count)
    app.add_middleware(RequestIdMiddleware)
    return app


def tutorial_app() -> FastAPI:
    app = bare_app()

    @app.middleware("http")
    async def measure_time(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        started = perf_counter()
        response = await call_next(request)
        response.headers["X-Process-Time"] = str(perf_counter() - started)
        return response

    return app


def correlation_id_app() -> FastAPI:
    from asgi_correlation_id import CorrelationIdMiddleware

    app = bare_app()
    app.add_middleware(CorrelationIdMiddleware)
    return app


def prometheus_app() -> FastAPI:
    from prometheus_client import CollectorRegistry
    from prometheus_fastapi_instrumentator import Instrumentator

    app = bare_app()
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    return app


def groups(report: Report) -> list[Group]:
    return [
        Group(
            "GET of one item",
            Call(path="/items/7"),
            [
                Case("bare route", bare_app()),
                Case("fastkit, timing + request id", both_app(), LIMIT),
                Case("fastkit, the same with on_finish", recording_app()),
                Case("fastkit, timing alone", timing_app()),
                Case('the tutorial\'s @app.middleware("http")', tutorial_app()),
                Case("fastkit, request id alone", request_id_app()),
                *peer(report, "asgi-correlation-id", correlation_id_app),
                *peer(report, "prometheus-fastapi-instrumentator", prometheus_app),
            ],
        )
    ]


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    report.tables += [await compare(group) for group in groups(report)]
    return report
