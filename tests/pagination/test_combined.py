"""Pages, filters and sorting in one query model."""

from typing import Annotated, Any

import pytest

pytest.importorskip("sqlalchemy", reason="filters need SQLAlchemy")

from pydantic import BaseModel, ConfigDict, Field
from pydantic import create_model as make_model
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.filtering import FilterParams, eq, in_, sort_by
from fastkit.pagination import CursorParams, LimitOffsetParams, PageParams
from tests.errors.support import problem
from tests.pagination.support import client, echo, refusals, with_problems


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]


class Filters(FilterParams):
    name: Annotated[str | None, eq(Item.name)] = None
    tag: Annotated[list[str], in_(Item.name)] = Field(default=[])
    sort: Annotated[list[str], sort_by(name=Item.name, price=Item.price)] = Field(
        default=["-price"]
    )


class Paged(PageParams, Filters):
    pass


class PagedAfter(Filters, PageParams):
    pass


class Stretched(LimitOffsetParams, Filters):
    pass


class Walked(CursorParams, Filters):
    pass


class Few(PageParams, Filters):
    size: Annotated[int, Field(ge=1, le=7)] = 3


COMBINED: list[type[BaseModel]] = [Paged, PagedAfter, Stretched, Walked, Few]
every_combination = pytest.mark.parametrize("model", COMBINED)


@every_combination
@pytest.mark.parametrize(
    "query", ["bogus=1", "bogus", "bogus=", "bogus=1&name=x", "name=x&bogus=1&sort=name"]
)
def test_an_unknown_parameter_is_refused_by_name(model: type[BaseModel], query: str) -> None:
    assert refusals(echo(model), query) == [("query", "bogus")]


@every_combination
@pytest.mark.parametrize("name", ["Size", "SIZE", "size ", "size[]", "siz\u0435"])
def test_an_almost_known_one_is_unknown(model: type[BaseModel], name: str) -> None:
    assert refusals(echo(model), f"{name}=1") == [("query", name)]


@every_combination
def test_as_a_problem_it_is_named_too(model: type[BaseModel]) -> None:
    answer = client(with_problems(echo(model))).get("/?bogus=hunter2")
    (error,) = problem(answer, 422)["errors"]
    assert error["loc"] == ["query", "bogus"]
    assert "hunter2" not in answer.text


@every_combination
def test_pages_filters_and_sorting_are_read_together(model: type[BaseModel]) -> None:
    size = "limit" if model is Stretched else "size"
    query = f"name=a&tag=x&tag=y&sort=name&sort=-price&{size}=5"
    read = client(echo(model)).get(f"/?{query}").json()
    assert read[size] == 5
    assert (read["name"], read["tag"], read["sort"]) == ("a", ["x", "y"], ["name", "-price"])


@every_combination
def test_every_fault_is_told(model: type[BaseModel]) -> None:
    size = "limit" if model is Stretched else "size"
    found = refusals(echo(model), f"{size}=x&sort=secret&bogus=1")
    assert set(found) == {("query", size), ("query", "sort", 0), ("query", "bogus")}


@every_combination
def test_a_line_relaxes_it(model: type[BaseModel]) -> None:
    relaxed = type("Relaxed", (model,), {"model_config": ConfigDict(extra="ignore")})
    assert client(echo(relaxed)).get("/?bogus=1").status_code == 200


def test_the_bounds_survive_the_combination() -> None:
    assert refusals(echo(Few), "size=8") == [("query", "size")]
    assert refusals(echo(PagedAfter), "size=101") == [("query", "size")]
    with pytest.raises(TypeError, match=r"\.Lost\.size must be"):

        class Lost(Filters, PageParams):  # pyright: ignore[reportUnusedClass]
            size: int = 3


@pytest.mark.parametrize("page", [PageParams, LimitOffsetParams, CursorParams])
def test_filters_are_checked_beside_a_page_model_that_comes_first(page: type[BaseModel]) -> None:
    price: Any = (Annotated[str | None, eq(Item.price)], None)
    with pytest.raises(TypeError, match=r"^Wrong\.price: eq compares"):
        make_model("Wrong", __base__=(page, FilterParams), price=price)


@every_combination
def test_openapi_has_each_parameter_once_with_bounds_arrays_and_enums(
    model: type[BaseModel],
) -> None:
    found = echo(model).openapi()["paths"]["/"]["get"]["parameters"]
    names = [parameter["name"] for parameter in found]
    assert sorted(names) == sorted(model.model_fields)
    schemas = {parameter["name"]: parameter["schema"] for parameter in found}
    size = schemas["limit" if model is Stretched else "size"]
    assert (size["minimum"], size["maximum"]) == (1, 7 if model is Few else 100)
    assert schemas["tag"]["type"] == "array"
    assert schemas["sort"]["type"] == "array"
    assert schemas["sort"]["items"]["enum"] == ["name", "-name", "price", "-price"]
    assert schemas["sort"]["default"] == ["-price"]
