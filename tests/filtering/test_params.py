"""The query model: what is empty, absent, unknown or called otherwise, and how it is shown."""

from decimal import Decimal
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import Select, select

from fastkit.filtering import (
    FilterParams,
    apply_filters,
    between,
    contains,
    eq,
    in_,
    is_null,
    not_in,
    search,
    sort_by,
    startswith,
)
from fastkit.filtering._params import conditions_of, order_of
from fastkit.pagination import PageParams
from tests.filtering.models import Item, Kind, Row


class RowQuery(FilterParams):
    text: Annotated[str | None, contains(Row.text)] = None
    number: Annotated[list[int], in_(Row.number)] = []  # noqa: RUF012
    but: Annotated[set[int] | None, not_in(Row.number)] = None
    price: Annotated[tuple[Decimal, Decimal] | None, between(Row.price)] = None
    kind: Annotated[Kind | None, eq(Row.kind)] = None
    unset: Annotated[bool | None, is_null(Row.text)] = None
    q: Annotated[str | None, Field(max_length=20), search(Row.text)] = None
    sort: Annotated[list[str], sort_by(text=Row.text, number=Row.number)] = ["-number"]  # noqa: RUF012
    page: int = 1
    free: str | None = None


def get(model: type[BaseModel], query: str) -> Any:
    """What the model makes of a query string, or the errors it tells of."""
    app = FastAPI()

    def read(params: BaseModel) -> dict[str, Any]:
        return params.model_dump(exclude_defaults=True)

    read.__annotations__["params"] = Annotated[model, Query()]
    app.get("/")(read)
    answer = TestClient(app).get(f"/?{query}")
    if answer.status_code == 200:
        return answer.json()
    assert answer.status_code == 422
    return [(each["type"], *each["loc"][1:]) for each in answer.json()["detail"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("text=", {}),
        ("text=&number=&but=&price=&kind=&unset=&q=&sort=", {}),
        ("text=a", {"text": "a"}),
        ("text=%20", {"text": " "}),
        ("number=1", {"number": [1]}),
        ("number=1&number=2", {"number": [1, 2]}),
        ("number=&number=1", {"number": [1]}),
        ("number=&number=", {}),
        ("but=1&but=&but=1", {"but": [1]}),
        ("price=1&price=2.5", {"price": ["1", "2.5"]}),
        ("price=1", [("missing", "price", 1)]),
        ("price=1&price=", [("missing", "price", 1)]),
        ("price=1&price=2&price=3", [("too_long", "price")]),
        ("kind=s", {"kind": "s"}),
        ("kind=x", [("enum", "kind")]),
        ("unset=true", {"unset": True}),
        ("q=" + "x" * 21, [("string_too_long", "q")]),
        ("sort=text&sort=-number", {"sort": ["text", "-number"]}),
        ("sort=&sort=text", {"sort": ["text"]}),
        ("sort=id", [("literal_error", "sort", 0)]),
        ("sort=text&sort=text&sort=text", [("too_long", "sort")]),
        # What is no filter is read as it is.
        ("free=", {"free": ""}),
        ("page=", [("int_parsing", "page")]),
        ("bogus=1", [("extra_forbidden", "bogus")]),
        ("bogus=", [("extra_forbidden", "bogus")]),
        ("text=a&Text=a", [("extra_forbidden", "Text")]),
    ],
)
def test_what_a_query_asks_for(query: str, expected: Any) -> None:
    assert get(RowQuery, query) == expected


def test_a_thousand_values_and_one_more() -> None:
    thousand = "&".join(f"number={number}" for number in range(1000))
    assert len(get(RowQuery, thousand)["number"]) == 1000
    assert get(RowQuery, f"{thousand}&number=1000") == [("too_long", "number")]


def test_one_line_lets_unknown_parameters_pass() -> None:
    class Relaxed(RowQuery):
        model_config = ConfigDict(extra="ignore")

    assert get(Relaxed, "bogus=1&text=a") == {"text": "a"}


def test_with_a_page_in_either_order() -> None:
    class PageFirst(PageParams, FilterParams):
        text: Annotated[str | None, contains(Row.text)] = None

    class PageLast(FilterParams, PageParams):
        text: Annotated[str | None, contains(Row.text)] = None

    for model in (PageFirst, PageLast):
        assert get(model, "page=2&text=&size=3") == {"page": 2, "size": 3}
        assert get(model, "bogus=1") == [("extra_forbidden", "bogus")]
        assert get(model, "page=") == [("int_parsing", "page")]


def test_aliases() -> None:
    class Aliased(FilterParams):
        text: Annotated[str | None, contains(Row.text), Field(alias="t")] = None
        number: Annotated[list[int] | None, Field(alias="n[]"), in_(Row.number)] = None
        sort: Annotated[list[str], sort_by(text=Row.text), Field(alias="order-by")] = []  # noqa: RUF012

    assert get(Aliased, "t=a&n[]=1&n[]=2&order-by=-text") == {
        "text": "a",
        "number": [1, 2],
        "sort": ["-text"],
    }
    assert get(Aliased, "t=&n[]=&order-by=") == {}
    assert get(Aliased, "text=") == [("extra_forbidden", "text")]
    assert len(conditions_of(Aliased.model_validate({"t": "a", "n[]": [1]}))) == 2
    assert len(order_of(Aliased.model_validate({"order-by": ["text"]}))) == 1


def test_a_choice_of_aliases() -> None:
    class Choice(FilterParams):
        number: Annotated[
            int | None, eq(Row.number), Field(validation_alias=AliasChoices("n", "nr"))
        ] = None
        text: Annotated[
            str | None, eq(Row.text), Field(alias="t", validation_alias=AliasChoices("x", "y"))
        ] = None

    assert get(Choice, "n=1&y=a") == {"number": 1, "text": "a"}
    assert get(Choice, "nr=1&x=a") == {"number": 1, "text": "a"}
    assert get(Choice, "n=&nr=&x=&y=") == {}
    assert get(Choice, "number=") == [("extra_forbidden", "number")]
    assert get(Choice, "t=") == [("extra_forbidden", "t")]


def test_generated_aliases_beside_names() -> None:
    class Camel(FilterParams):
        model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
        row_text: Annotated[str | None, contains(Row.text)] = None

    assert get(Camel, "rowText=a") == {"row_text": "a"}
    assert get(Camel, "rowText=") == {}
    assert Camel(row_text="").row_text is None
    assert Camel(row_text="a").row_text == "a"


def where(params: FilterParams) -> str:
    statement: Select[Any] = apply_filters(select(Row.id), params)
    return str(statement).partition("WHERE ")[2]


def test_subclasses_add_and_override_filters() -> None:
    class Base(FilterParams):
        text: Annotated[str | None, eq(Row.text)] = None
        number: Annotated[int | None, eq(Row.number)] = None

    class Middle(Base):
        text: Annotated[str | None, startswith(Row.text)] = None

    class Last(Middle):
        number: Annotated[list[int] | None, in_(Row.number)] = None  # type: ignore[assignment]  # pyright: ignore
        short: Annotated[str | None, eq(Row.short)] = None

    assert where(Base(text="a", number=1)) == "row.text = :param_1 AND row.number = :param_2"
    assert where(Middle(text="a")) == "(row.text LIKE :param_1 ESCAPE '/')"
    both = where(Last(text="a", number=[1], short="x"))
    assert both.startswith("(row.text LIKE :param_1 ESCAPE '/') AND row.number IN")
    assert both.endswith("AND row.short = :param_3")


def test_texts_without_case_on_any_other_database() -> None:
    class Query(FilterParams):
        q: Annotated[str | None, search(Row.text, Row.short)] = None

    assert where(Query(q="a")) == (
        "(lower(row.text) LIKE lower(:param_1) ESCAPE '/') "
        "OR (lower(row.short) LIKE lower(:param_2) ESCAPE '/')"
    )


def test_without_a_value_there_is_no_condition() -> None:
    assert where(RowQuery()) == ""
    assert where(RowQuery(number=[], but=set(), text=None)) == ""
    assert where(RowQuery(unset=False)) == "row.text IS NOT NULL"
    assert conditions_of(PageParams()) == []
    assert order_of(PageParams()) == []


def test_a_model_that_is_validated_again_is_as_it_was() -> None:
    params = RowQuery(text="a")
    assert RowQuery.model_validate(params) == params


def test_what_is_no_object_is_not_a_model() -> None:
    with pytest.raises(ValidationError) as caught:
        RowQuery.model_validate(["text"])
    assert [each["type"] for each in caught.value.errors()] == ["model_type"]


def test_filters_in_a_model_that_is_none_of_filters() -> None:
    class Plain(BaseModel):
        name: Annotated[str | None, eq(Item.name)] = None

    with pytest.raises(TypeError, match="Plain has filters: derive it from FilterParams"):
        conditions_of(Plain())


def test_openapi() -> None:
    app = FastAPI()

    @app.get("/")
    def read(params: Annotated[RowQuery, Query()]) -> None: ...

    parameters = app.openapi()["paths"]["/"]["get"]["parameters"]
    shown = {each["name"]: each["schema"] for each in parameters}

    def part(name: str, type_: str) -> Any:
        schema = shown[name]
        return next(each for each in schema.get("anyOf", [schema]) if each.get("type") == type_)

    assert part("text", "string")["maxLength"] == 1000
    assert part("q", "string")["maxLength"] == 20
    assert part("number", "array")["items"] == {"type": "integer"}
    assert part("number", "array")["maxItems"] == 1000
    assert part("but", "array")["uniqueItems"] is True
    assert part("price", "array")["minItems"] == part("price", "array")["maxItems"] == 2
    assert part("unset", "boolean")
    assert part("sort", "array")["items"] == {
        "type": "string",
        "enum": ["text", "-text", "number", "-number"],
    }
    assert part("sort", "array")["maxItems"] == 2
    assert shown["sort"]["default"] == ["-number"]
    assert {"type": "null"} not in shown["sort"].get("anyOf", [])
