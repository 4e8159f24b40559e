"""What the tests of pages share: apps of one endpoint."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel

from fastkit.errors import install_exception_handlers

__all__ = ("asking", "client", "echo", "refusals", "with_problems")


def client(app: FastAPI, **options: Any) -> TestClient:
    """A client that is answered like a real one, whatever the app raises."""
    return TestClient(app, raise_server_exceptions=False, **options)


def echo(model: type[BaseModel]) -> FastAPI:
    """An app whose `/` gives back what it understood of the query."""
    app = FastAPI()

    async def read(params: BaseModel) -> dict[str, Any]:
        return dict(params)

    app.get("/")(asking(model, read))
    return app


def asking(model: type[BaseModel], endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, whose `params` are that query model."""
    endpoint.__annotations__ = {**endpoint.__annotations__, "params": Annotated[model, Query()]}
    return endpoint


def with_problems(app: FastAPI) -> FastAPI:
    """The same app, whose errors are problems."""
    install_exception_handlers(app)
    return app


def refusals(app: FastAPI, query: str) -> list[tuple[str, ...]]:
    """Where a 422 says that the query is wrong."""
    response = client(app).get(f"/?{query}")
    assert response.status_code == 422, response.text
    body: dict[str, Any] = response.json()
    return [tuple(error["loc"]) for error in body.get("errors", body["detail"])]
