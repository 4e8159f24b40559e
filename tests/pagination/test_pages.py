"""What a page makes of its items: each is validated once, whatever it comes from."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NewType

import pytest
from fastapi import FastAPI, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import TypeAliasType

from fastkit.pagination import (
    CursorPage,
    LimitOffsetPage,
    LimitOffsetParams,
    Page,
    PageParams,
    paginate_sequence,
)
from fastkit.pagination._pages import make_page
from tests.pagination.support import client

COUNTS: list[int] = []


@pytest.fixture(autouse=True)
def counts() -> Iterator[None]:
    COUNTS.clear()
    yield
    COUNTS.clear()


class Out(BaseModel):
    """What is given out, with validators that count."""

    id: int
    name: str = "-"

    @field_validator("id")
    @classmethod
    def _count(cls, value: int) -> int:
        COUNTS.append(value)
        return value


class Row:
    """An object with attributes, and no more: what an ORM gives."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.name = f"number {number}"
        self.password = "hunter2"


class Named(NamedTuple):
    id: int
    name: str


ROWS = [Row(number) for number in range(6)]
DICTS: list[dict[str, Any]] = [{"id": n, "name": f"number {n}", "password": "x"} for n in range(6)]
NAMED = [Named(n, f"number {n}") for n in range(6)]
MODELS = [Out.model_construct(id=n, name=f"number {n}") for n in range(6)]
SOURCES: dict[str, Sequence[Any]] = {"rows": ROWS, "dicts": DICTS, "named tuples": NAMED}
EXPECTED = [{"id": number, "name": f"number {number}"} for number in (2, 3)]


def from_row(row: Row) -> Out:
    return Out(id=row.id, name=row.name)


lambda_of_row: Callable[[Row], Out] = lambda row: from_row(row)  # noqa: E731


class Mapper:
    def __call__(self, row: Row) -> Out:
        return from_row(row)

    def method(self, row: Row) -> Out:
        return from_row(row)


def served(items: Sequence[Any], into: Any, response_model: Any = Page[Out]) -> Any:
    app = FastAPI()

    @app.get("/", response_model=response_model)
    async def read(params: Annotated[PageParams, Query()]) -> Any:
        return paginate_sequence(items, params, into=into)

    response = client(app).get("/?page=2&size=2")
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("items", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("into", [Out, None], ids=["into", "by the response model"])
def test_items_are_validated_once_and_only_those_on_the_page(
    items: Sequence[Any], into: type[Out] | None
) -> None:
    assert served(items, into)["items"] == EXPECTED
    assert COUNTS == [2, 3]


@pytest.mark.parametrize(
    "function",
    [from_row, Mapper(), Mapper().method, functools.partial(from_row), lambda_of_row],
    ids=["function", "object", "method", "partial", "lambda"],
)
def test_a_function_makes_the_items(function: Callable[[Row], Out]) -> None:
    assert served(ROWS, function)["items"] == EXPECTED
    assert COUNTS == [2, 3]


def test_what_a_function_gives_is_validated_by_the_response_model() -> None:
    assert served(ROWS, vars)["items"] == EXPECTED
    assert COUNTS == [2, 3]


def test_objects_of_the_model_are_not_validated_again() -> None:
    assert served(MODELS, Out)["items"] == EXPECTED
    assert served(MODELS, None)["items"] == EXPECTED
    assert COUNTS == []


def test_what_is_not_in_the_model_is_not_given_out() -> None:
    for items in (ROWS, DICTS):
        assert all("password" not in item for item in served(items, Out)["items"])
        assert all("password" not in item for item in served(items, None)["items"])


Place = Callable[[Any], Any]
PLACES: dict[str, tuple[Any, Place, Place]] = {
    "itself": (Page[Out], lambda page: page, lambda body: body),
    "optional": (Page[Out] | None, lambda page: page, lambda body: body),
    "in a dict": (dict[str, Page[Out]], lambda page: {"at": page}, lambda body: body["at"]),
    "in a list": (list[Page[Out]], lambda page: [page], lambda body: body[0]),
}


@pytest.mark.parametrize(("response_model", "put", "find"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("into", [Out, from_row], ids=["type", "function"])
def test_a_page_is_a_value_like_any_other(
    response_model: Any, put: Place, find: Place, into: Any
) -> None:
    app = FastAPI()

    @app.get("/", response_model=response_model)
    async def read() -> Any:
        return put(paginate_sequence(ROWS, PageParams(page=2, size=2), into=into))

    assert find(client(app).get("/").json())["items"] == EXPECTED
    assert COUNTS == [2, 3]


def test_an_endpoint_may_make_the_page_itself() -> None:
    app = FastAPI()

    @app.get("/")
    async def read() -> CursorPage[Out]:
        return CursorPage[Out](items=[Out(id=1)], has_next=True, size=1, next_cursor="abc")

    assert client(app).get("/").json() == {
        "items": [{"id": 1, "name": "-"}],
        "total": None,
        "total_capped": False,
        "has_next": True,
        "links": None,
        "size": 1,
        "next_cursor": "abc",
        "previous_cursor": None,
    }
    assert COUNTS == [1]


class Tag(BaseModel):
    label: str


class Nested(BaseModel):
    id: int
    tags: list[Tag]

    @model_validator(mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        COUNTS.append(0)
        return value


class HasTags:
    id = 1

    def __init__(self) -> None:
        self.tags = [type("T", (), {"label": "a"})()]


@pytest.mark.parametrize("into", [Nested, None])
def test_what_hangs_on_an_object_is_read_too(into: type[Nested] | None) -> None:
    body = served([HasTags()] * 4, into, Page[Nested])
    assert body["items"] == [{"id": 1, "tags": [{"label": "a"}]}] * 2
    assert COUNTS == [0, 0]


class Strict(BaseModel):
    model_config = ConfigDict(from_attributes=False)

    id: int


def test_a_model_need_not_ask_for_attributes() -> None:
    assert served(ROWS, Strict, Page[Strict])["items"] == [{"id": 2}, {"id": 3}]
    assert served(ROWS, None, Page[Strict])["items"] == [{"id": 2}, {"id": 3}]


class Cat(BaseModel):
    kind: Literal["cat"]
    id: int


class Dog(BaseModel):
    kind: Literal["dog"]
    id: int


@dataclass
class Point:
    x: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Number = NewType("Number", int)
Alias = TypeAliasType("Alias", int)
TYPES: dict[str, tuple[Any, Any, Any]] = {
    "int": (int, "7", 7),
    "text": (str, "7", "7"),
    "list": (list[int], ["1", 2], [1, 2]),
    "tuple": (tuple[int, str], (1, "x"), (1, "x")),
    "tuple of objects": (tuple[Strict, int], (ROWS[1], 5), (Strict(id=1), 5)),
    "dict": (dict[str, int], {"a": "1"}, {"a": 1}),
    "optional": (int | None, None, None),
    "union": (Cat | Dog, {"kind": "dog", "id": 1}, Dog(kind="dog", id=1)),
    "discriminated union": (Pet, {"kind": "cat", "id": 1}, Cat(kind="cat", id=1)),
    "annotated": (Annotated[int, AfterValidator(lambda n: n + 1)], 1, 2),
    "new type": (Number, "7", 7),
    "alias": (Alias, "7", 7),
    "dataclass": (Point, {"x": "1"}, Point(1)),
    "anything": (Any, ROWS[0], ROWS[0]),
}


@pytest.mark.parametrize(("into", "item", "expected"), TYPES.values(), ids=TYPES)
def test_into_is_any_type(into: Any, item: Any, expected: Any) -> None:
    page: Page[Any] = paginate_sequence([item], PageParams(), into=into)
    assert page.items == [expected]
    assert isinstance(page, Page)


def test_into_gives_a_page_of_that_type() -> None:
    assert type(paginate_sequence(ROWS, PageParams(), into=Out)) is Page[Out]
    assert type(paginate_sequence(ROWS, LimitOffsetParams(), into=Out)) is LimitOffsetPage[Out]


def test_an_item_that_does_not_fit_is_the_apps_error_that_says_where() -> None:
    with pytest.raises(ValidationError) as caught:
        paginate_sequence(["1", "x"], PageParams(), into=int)
    assert [error["loc"] for error in caught.value.errors()] == [("items", 1)]


@pytest.mark.parametrize("kind", [Page, LimitOffsetPage, CursorPage])
def test_without_into_nothing_is_copied(kind: type[BaseModel]) -> None:
    members = {"has_next": False, "page": 1, "size": 9, "limit": 9, "offset": 0}
    assert make_page(kind, ROWS, None, members).items is ROWS


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (Page[Out], ["page", "size"]),
        (LimitOffsetPage[Out], ["limit", "offset"]),
        (CursorPage[Out], ["size", "next_cursor", "previous_cursor"]),
    ],
)
def test_the_envelope_is_in_openapi(kind: Any, own: list[str]) -> None:
    app = FastAPI()

    @app.get("/", response_model=kind)
    async def read() -> None: ...

    document = app.openapi()
    content = document["paths"]["/"]["get"]["responses"]["200"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert name == kind.__name__.replace("[", "_").replace("]", "_")
    schema = document["components"]["schemas"][name]
    shared = ["items", "total", "total_capped", "has_next", "links"]
    assert [*schema["properties"]] == shared + own
    assert schema["properties"]["items"] == {
        "items": {"$ref": "#/components/schemas/Out"},
        "type": "array",
        "title": "Items",
    }
    required = {"items", "has_next", *own} - {"next_cursor", "previous_cursor"}
    assert set(schema["required"]) >= required
