"""Filters and sorting: fastkit's beside plain query parameters and another library's.

The statement is made and not executed, so that the cost of its making is seen.
"""

from typing import Annotated, Any, Literal, cast

from fastapi import FastAPI, Query
from sqlalchemy import Select, select

from benchmarks.harness import Case, Group, Report, compare, peer
from benchmarks.pagination import CALL, Asked, Item
from fastkit.filtering import FilterParams, apply_filters, apply_sort, contains, ge, in_, sort_by

TITLE = "Filters and sorting"
PACKAGES = ("fastkit", "fastapi", "pydantic", "sqlalchemy", "fastapi-filter")

Colour = Annotated[list[str], Query(max_length=1000)]
SortKey = Literal["price", "-price", "name", "-name"]
SORT_KEYS: dict[SortKey, Any] = {
    "price": Item.price.asc(),
    "-price": Item.price.desc(),
    "name": Item.name.asc(),
    "-name": Item.name.desc(),
}


class ItemQuery(FilterParams):
    name: Annotated[str | None, contains(Item.name)] = None
    min_price: Annotated[int | None, ge(Item.price)] = None
    colour: Annotated[list[str], in_(Item.colour)] = []  # noqa: RUF012 -- Pydantic copies it
    sort: Annotated[list[str], sort_by(price=Item.price, name=Item.name)] = ["-price"]  # noqa: RUF012


def conditions(statement: Select[Item]) -> dict[str, int]:
    """What the statement has; it must be asked for, or its making could be left out."""
    return {"parts": len(list(statement.get_children()))}


def written_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    async def read(
        colour: Colour = [],  # noqa: B006 -- FastAPI copies it
        sort: Annotated[list[SortKey], Query(max_length=2)] = ["-price"],  # noqa: B006
        name: Annotated[str | None, Query(max_length=1000)] = None,
        min_price: Annotated[int | None, Query(ge=-(2**63), lt=2**63)] = None,
    ) -> dict[str, int]:
        statement = select(Item)
        if name:
            statement = statement.where(Item.name.contains(name, autoescape=True))
        if min_price is not None:
            statement = statement.where(Item.price >= min_price)
        if colour:
            statement = statement.where(Item.colour.in_(colour))
        return conditions(statement.order_by(*[SORT_KEYS[key] for key in sort]))

    return app


def fastkit_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items")
    async def read(query: Annotated[ItemQuery, Query()]) -> dict[str, int]:
        return conditions(apply_sort(apply_filters(select(Item), query), query))

    return app


def fastapi_filter_app() -> FastAPI:
    from fastapi_filter import FilterDepends
    from fastapi_filter.contrib.sqlalchemy import Filter

    class TheirQuery(Filter):
        name__like: str | None = None
        price__gte: int | None = None
        colour__in: list[str] | None = None
        order_by: list[str] | None = ["-price"]  # noqa: RUF012

        class Constants(Filter.Constants):
            model = Item

    app = FastAPI()

    @app.get("/items")
    async def read(query: Annotated[Any, FilterDepends(TheirQuery)]) -> dict[str, int]:
        statement = query.sort(query.filter(select(Item)))
        return conditions(cast("Select[Item]", statement))

    return app


def groups(report: Report) -> list[Group]:
    written, fastkit = written_app(), fastkit_app()
    others = peer(report, "fastapi-filter", fastapi_filter_app)
    given = "name=item&min_price=10&colour=red&colour=blue&sort=name&sort=-price"
    theirs = "name__like=%25item%25&price__gte=10&colour__in=red,blue&order_by=name,-price"

    def group(title: str, query: str, other: str) -> Group:
        return Group(
            title,
            CALL,
            [
                Case("plain query parameters", Asked(written, query)),
                Case("fastkit", Asked(fastkit, query)),
                *[Case(each.name, Asked(each.app, other)) for each in others],
            ],
        )

    return [
        group("no parameter given", "", ""),
        group("three filters and two sort keys given", given, theirs),
    ]


async def measure() -> Report:
    report = Report(TITLE, PACKAGES)
    report.tables += [await compare(group) for group in groups(report)]
    return report
