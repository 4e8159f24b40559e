"""Which rows a filter gives, and apps that take one."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import create_model
from sqlalchemy import Engine, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastkit.filtering import FilterParams, apply_filters, apply_sort
from tests.filtering.models import Row

__all__ = ("ask", "filtered", "found", "ids", "model_of", "rows_app", "simple_lower")


def model_of(type_: Any, *metadata: Any) -> Any:
    """A model whose one parameter, `x`, is filtered or sorted by the last of `metadata`."""
    annotation: Any = Annotated[(type_, *metadata)]
    return create_model("Params", __base__=FilterParams, x=(annotation, None))


@cache
def filtered(type_: Any, make: Any, column: Any, through: Any = ()) -> Any:
    """The same for many examples, as making a class takes longer than a query."""
    return model_of(type_, make(column, through=through) if through else make(column))


def found(engine: Engine, rows: Sequence[Mapping[str, Any]], params: FilterParams) -> list[int]:
    """The numbers of those rows that the filter gives, in an empty table with these rows alone."""
    with engine.connect() as connection:
        if rows:
            numbered = [{"id": number, **row} for number, row in enumerate(rows)]
            connection.execute(insert(Row), numbered)
        ordered = apply_sort(select(Row.id).order_by(Row.id), params)
        return list(connection.scalars(apply_filters(ordered, params)))


def ids(
    rows: Sequence[Mapping[str, Any]], predicate: Callable[[Mapping[str, Any]], bool]
) -> list[int]:
    return [number for number, row in enumerate(rows) if predicate(row)]


def simple_lower(text: str) -> str:
    """Unicode's simple mapping to lower case, one letter for one letter."""
    return "".join("i" if letter == "\u0130" else letter.lower() for letter in text)


def rows_app(engine: AsyncEngine, model: Any) -> FastAPI:
    """An app whose `/rows` gives the ids of rows."""
    app = FastAPI()

    async def rows(params: FilterParams) -> list[int]:
        async with AsyncSession(engine) as session:
            statement = apply_sort(apply_filters(select(Row.id).order_by(Row.id), params), params)
            return list(await session.scalars(statement))

    rows.__annotations__["params"] = Annotated[model, Query()]
    app.get("/rows")(rows)
    return app


async def ask(app: FastAPI, query: str) -> tuple[int, Any]:
    """The status and the body of the answer to `/rows`; an error of the app's is raised.

    No client: one would refuse a query of a megabyte.
    """
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/rows",
        "raw_path": b"/rows",
        "root_path": "",
        "query_string": query.encode(),
        "headers": [],
        "server": ("test", 80),
        "client": ("test", 1),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], json.loads(body)
