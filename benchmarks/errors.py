"""Error bodies: fastkit's problems beside FastAPI's default and fastapi-problem."""

import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.harness import Call, Case, Group, Limit, Report, compare, peer
from fastkit.errors import install_exception_handlers

TITLE = "Error bodies beside FastAPI's default"
PACKAGES = ("fastkit", "fastapi", "starlette", "pydantic", "fastapi-problem")


class CrashError(Exception):
    """What nothing handles."""


class Order(BaseModel):
    item: str
    count: Annotated[int, Field(gt=0)]
    note: str | None = None


def default_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> dict[str, int]:
        if item_id == 7:
            raise HTTPException(404, f"There is no item {item_id}.")
        return {"id": item_id}

    @app.post("/orders")
    async def order(order: Order) -> Order:
        return order

    @app.get("/crash")
    async def crash() -> dict[str, int]:
        raise CrashError

    return app


def fastkit_app() -> FastAPI:
    app = default_app()
    install_exception_handlers(app)
    return app


def fastapi_problem_app() -> FastAPI:
    from fastapi_problem.handler import (  # it leaves `dict` without arguments
        add_exception_handler,  # pyright: ignore[reportUnknownVariableType]
        new_exception_handler,  # pyright: ignore[reportUnknownVariableType]
    )

    app = default_app()
    add_exception_handler(app, new_exception_handler())
    return app


def alone(app: ASGIApp) -> ASGIApp:
    return app


def without_log(app: ASGIApp) -> ASGIApp:
    """`app`, while nothing of fastkit's is logged."""
    logger = logging.getLogger("fastkit.errors")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        logger.disabled = True
        try:
            await app(scope, receive, send)
        finally:
            logger.disabled = False

    return answer


def with_server_log(app: ASGIApp) -> ASGIApp:
    """`app`, whose exceptions are logged as servers do."""
    logger = logging.getLogger("server")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except CrashError as exc:
            logger.error("Exception in ASGI application\n", exc_info=exc)

    return answer


@dataclass(frozen=True, slots=True)
class Question:
    """What a group is about."""

    call: Call
    limit: Limit | None = None
    around: Callable[[ASGIApp], ASGIApp] = alone


CRASH = Call(path="/crash", status=500, raises=(CrashError,))
INVALID = Call(path="/orders", method="POST", body=b'{"count": "three"}', status=422)
QUESTIONS = {
    "200": Question(Call(path="/items/8")),
    "404, raised": Question(Call(path="/items/7", status=404), Limit(1.15, 1.0)),
    "404, no such route": Question(Call(path="/nothing", status=404), Limit(1.15, 1.0)),
    "422, two invalid values": Question(INVALID, Limit(1.0, 0.85)),
    "500, nothing logged": Question(CRASH, Limit(1.3, 1.1), without_log),
    "500, fastkit's line in the log": Question(CRASH),
    "500, and the server's traceback": Question(CRASH, Limit(1.3, 1.1), with_server_log),
}


def groups(report: Report) -> list[Group]:
    apps = [
        Case("FastAPI's default", default_app()),
        Case("fastkit", fastkit_app()),
        *peer(report, "fastapi-problem", fastapi_problem_app),
    ]
    return [
        Group(
            title,
            question.call,
            [
                Case(
                    case.name,
                    question.around(case.app),
                    question.limit if case.name == "fastkit" else None,
                )
                for case in apps
            ],
        )
        for title, question in QUESTIONS.items()
    ]


@contextmanager
def logs_written() -> Generator[None]:
    """Have what is logged made and written, to where it disturbs nobody."""
    root = logging.getLogger()
    with open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    with logs_written():
        report.tables += [await compare(group) for group in groups(report)]
    return report
