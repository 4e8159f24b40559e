"""What a request may ask for, and what it may not."""

from threading import get_ident
from typing import Annotated, Any, ClassVar, Literal

import anyio.to_thread
import pytest
from fastapi import Depends, FastAPI, Query
from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel, ConfigDict, Field
from pydantic import create_model as make_model

from fastkit.pagination import CursorParams, LimitOffsetParams, Page, PageParams, paginate_sequence
from fastkit.pagination._params import query_name
from tests.errors.support import problem
from tests.pagination.support import client, echo, refusals, with_problems

INT64 = 2**63
MODELS: list[type[BaseModel]] = [PageParams, LimitOffsetParams, CursorParams]
NUMBERS: list[tuple[type[BaseModel], str]] = [
    (PageParams, "page"),
    (PageParams, "size"),
    (LimitOffsetParams, "limit"),
    (LimitOffsetParams, "offset"),
    (CursorParams, "size"),
]
every_number = pytest.mark.parametrize(
    ("model", "name"), NUMBERS, ids=[f"{model.__name__}.{name}" for model, name in NUMBERS]
)
NO_NUMBERS = {
    "empty": "",
    "word": "ten",
    "exponent": "1e3",
    "fraction": "1.5",
    "hexadecimal": "0x10",
    "infinity": "inf",
    "nan": "nan",
    "boolean": "true",
    "arabic": "\u0661\u0662",
    "fullwidth": "\uff11",
    "superscript": "\u00b2",
    "roman": "\u2163",
    "nul": "1%00",
    "two": "1,2",
    "minus sign": "\u22121",
    "-1": "-1",
    "-10**30": str(-(10**30)),
    "int64": str(INT64),
    "uint64": str(2**64),
    "10**30": str(10**30),
    "5,000 digits": "9" * 5000,
}


@every_number
@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_within_the_bounds_is_refused_by_name(
    model: type[BaseModel], name: str, value: str
) -> None:
    assert refusals(echo(model), f"{name}={value}") == [("query", name)]


@pytest.mark.parametrize(
    ("model", "name", "lowest", "highest"),
    [
        (PageParams, "page", 1, 2**31 - 1),
        (PageParams, "size", 1, 100),
        (LimitOffsetParams, "limit", 1, 100),
        (LimitOffsetParams, "offset", 0, 2**53 - 1),
        (CursorParams, "size", 1, 100),
    ],
)
def test_both_bounds_are_in_and_their_neighbours_are_out(
    model: type[BaseModel], name: str, lowest: int, highest: int
) -> None:
    app = echo(model)
    for value in (lowest, highest):
        assert client(app).get(f"/?{name}={value}").json()[name] == value
    for value in (lowest - 1, highest + 1):
        assert refusals(app, f"{name}={value}") == [("query", name)]


def test_the_last_item_of_the_largest_page_has_a_number_within_64_bits() -> None:
    class Largest(PageParams):
        size: Annotated[int, Field(ge=1, le=2**31 - 1)] = 50

    class Widest(LimitOffsetParams):
        limit: Annotated[int, Field(ge=1, le=2**31 - 1)] = 50

    page = client(echo(Largest)).get(f"/?page={2**31 - 1}&size={2**31 - 1}").json()
    stretch = client(echo(Widest)).get(f"/?offset={2**53 - 1}&limit={2**31 - 1}").json()
    # With the one row more that is fetched to see whether there is a next page.
    assert page["page"] * page["size"] + 1 < INT64
    assert stretch["offset"] + stretch["limit"] + 1 < INT64


@every_number
def test_without_fastkits_errors_a_refusal_is_fastapis_and_with_them_a_problem(
    model: type[BaseModel], name: str
) -> None:
    body = client(echo(model)).get(f"/?{name}=x").json()
    assert [*body] == ["detail"]
    assert body["detail"][0]["type"] == "int_parsing"
    answer = client(with_problems(echo(model))).get(f"/?{name}=x")
    (error,) = problem(answer, 422)["errors"]
    assert error["loc"] == ["query", name]


@pytest.mark.parametrize(
    ("model", "defaults"),
    [
        (PageParams, {"page": 1, "size": 50}),
        (LimitOffsetParams, {"limit": 50, "offset": 0}),
        (CursorParams, {"cursor": None, "size": 50}),
    ],
)
def test_nothing_asked_for_is_the_default(
    model: type[BaseModel], defaults: dict[str, object]
) -> None:
    assert client(echo(model)).get("/").json() == defaults


def test_a_maximum_for_one_endpoint_is_a_line() -> None:
    class Few(PageParams):
        size: Annotated[int, Field(ge=1, le=7)] = 3

    app = echo(Few)
    assert client(app).get("/").json() == {"page": 1, "size": 3}
    assert client(app).get("/?size=7").json()["size"] == 7
    assert refusals(app, "size=8") == [("query", "size")]
    assert client(echo(PageParams)).get("/?size=8").json()["size"] == 8


def test_a_size_may_be_one_of_few() -> None:
    class Choice(PageParams):
        size: Literal[20, 50] = 20  # pyright: ignore[reportIncompatibleVariableOverride]

    assert Choice().size == 20


def test_a_size_may_have_no_default() -> None:
    class Said(PageParams):
        size: Annotated[int, Field(ge=1, le=500)] = Field()

    assert refusals(echo(Said), "page=1") == [("query", "size")]


UNBOUNDED: dict[str, tuple[object, object]] = {
    "bare": (int, 50),
    "no maximum": (Annotated[int, Field(ge=1)], 50),
    "no minimum": (Annotated[int, Field(le=500)], 50),
    "maximum beyond what fits": (Annotated[int, Field(ge=1, le=2**60)], 50),
    "minimum below": (Annotated[int, Field(ge=-1, le=500)], 50),
    "none": (Annotated[int | None, Field(ge=1, le=500)], None),
    "default above the maximum": (Annotated[int, Field(ge=1, le=20)], 50),
    "default below the minimum": (Annotated[int, Field(ge=1, le=20)], -1),
    "fractions": (Annotated[float, Field(ge=1, le=500)], 50),
    "default of a function": (
        Annotated[int, Field(ge=1, le=500)],
        Field(default_factory=lambda: 10**9),
    ),
    "not a field": (ClassVar[int], 50),
}


@every_number
@pytest.mark.parametrize(("annotation", "default"), UNBOUNDED.values(), ids=UNBOUNDED)
def test_losing_the_bounds_is_an_error_at_import_that_names_the_field(
    model: type[BaseModel], name: str, annotation: object, default: object
) -> None:
    body = {"__annotations__": {name: annotation}, name: default, "__qualname__": "ItemQuery"}
    with pytest.raises(TypeError, match=rf"^ItemQuery\.{name} must be .* to a maximum"):
        type("ItemQuery", (model,), {**body, "__module__": __name__})


def test_the_bounds_hold_for_a_subclass_of_a_subclass_too() -> None:
    class Own(PageParams):
        size: Annotated[int, Field(ge=1, le=500)] = 100

    with pytest.raises(TypeError, match=r"\.Again\.size must be"):

        class Again(Own):  # pyright: ignore[reportUnusedClass]
            size: int = 100


def test_what_the_error_advises_works() -> None:
    with pytest.raises(TypeError) as caught:
        make_model("Lost", __base__=PageParams, size=(int, 50))
    advised = str(caught.value).partition("too: ")[2]
    assert advised == "size: Annotated[int, Field(ge=1, le=500)] = 50"
    kept = make_model("Kept", __base__=PageParams, size=(Annotated[int, Field(ge=1, le=500)], 50))
    assert kept(size=500).size == 500


def parameters(app: FastAPI) -> dict[str, dict[str, Any]]:
    found = app.openapi()["paths"]["/"]["get"]["parameters"]
    return {parameter["name"]: parameter for parameter in found}


def test_bounds_defaults_and_descriptions_are_in_openapi() -> None:
    paged, stretched, walked = (parameters(echo(model)) for model in MODELS)
    assert [*paged] == ["page", "size"]
    assert (
        paged["page"]["schema"].items()
        >= {
            "type": "integer",
            "minimum": 1,
            "maximum": 2**31 - 1,
            "default": 1,
        }.items()
    )
    sizes = {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}.items()
    for size in (paged["size"], stretched["limit"], walked["size"]):
        assert size["schema"].items() >= sizes
    assert stretched["offset"]["schema"].items() >= {"minimum": 0, "default": 0}.items()
    assert walked["cursor"]["required"] is False
    for parameter in (*paged.values(), *stretched.values(), *walked.values()):
        assert parameter["in"] == "query"
        assert parameter["description"].endswith(".")


def test_a_maximum_of_ones_own_is_in_openapi() -> None:
    class Few(PageParams):
        size: Annotated[int, Field(ge=1, le=7)] = 3

    schema = parameters(echo(Few))["size"]["schema"]
    assert (schema["maximum"], schema["default"]) == (7, 3)


def test_a_page_model_alone_lets_other_parameters_pass() -> None:
    for model in MODELS:
        assert client(echo(model)).get("/?bogus=1").status_code == 200


def test_it_can_forbid_them() -> None:
    class Strict(PageParams):
        model_config = ConfigDict(extra="forbid")

    assert refusals(echo(Strict), "bogus=1") == [("query", "bogus")]


# FastAPI's floor has no room for another query parameter of the same function.
def test_it_stands_beside_what_other_dependencies_ask_for() -> None:
    app = FastAPI()

    async def language(lang: str = "en") -> str:
        return lang

    @app.get("/items/{kind}")
    async def read(
        kind: int, params: Annotated[PageParams, Query()], lang: Annotated[str, Depends(language)]
    ) -> list[object]:
        return [kind, params.page, lang]

    assert client(app).get("/items/3?page=2&lang=eo").json() == [3, 2, "eo"]


def test_it_can_itself_be_what_a_dependency_asks_for() -> None:
    app = FastAPI()

    async def paging(params: Annotated[PageParams, Query()]) -> PageParams:
        return params

    @app.get("/")
    async def read(
        params: Annotated[PageParams, Depends(paging)], lang: str = "en"
    ) -> list[object]:
        return [params.page, lang]

    assert client(app).get("/?page=2&lang=eo").json() == [2, "eo"]


def test_nothing_is_done_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[object] = []
    run_sync: Any = anyio.to_thread.run_sync

    async def counted(function: Any, *args: Any, **options: Any) -> Any:
        hops.append(function)
        return await run_sync(function, *args, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    app = FastAPI()
    made_in: list[int] = []

    class Noted(PageParams):
        def model_post_init(self, context: Any, /) -> None:
            made_in.append(get_ident())

    @app.get("/query")
    async def query(params: Annotated[Noted, Query()]) -> Page[int]:
        made_in.append(get_ident())
        return paginate_sequence(range(9), params)

    @app.get("/depends")
    async def depends(params: Annotated[Noted, Depends()]) -> Page[int]:
        return paginate_sequence(range(9), params)

    assert client(app).get("/query?page=1").json()["total"] == 9
    assert hops == []
    assert len(made_in) == 2
    assert len(set(made_in)) == 1
    # That it would be seen: a class as a dependency is called in a thread.
    assert client(app).get("/depends?page=1").json()["total"] == 9
    assert len(hops) == 1


class Aliased(PageParams):
    page: Annotated[int, Field(ge=1, le=9, alias="p")] = 1


class Validated(PageParams):
    page: Annotated[int, Field(ge=1, le=9, validation_alias="p")] = 1


class Choices(PageParams):
    page: Annotated[int, Field(ge=1, le=9, validation_alias=AliasChoices("p", "q"))] = 1


class Upper(PageParams):
    model_config = ConfigDict(alias_generator=str.upper)


class UpperValidated(PageParams):
    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=str.upper))


class Path(PageParams):
    page: Annotated[int, Field(ge=1, le=9, validation_alias=AliasPath("p", 0))] = 1


class PathOrName(PageParams):
    page: Annotated[
        int, Field(validation_alias=AliasChoices(AliasPath("p", 0), "q"), ge=1, le=9)
    ] = 1


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (PageParams, "page"),
        (Aliased, "p"),
        (Validated, "p"),
        (Choices, "p"),
        (Upper, "PAGE"),
        (UpperValidated, "PAGE"),
    ],
)
def test_a_field_is_called_what_the_client_calls_it(model: type[PageParams], name: str) -> None:
    app = echo(model)
    assert query_name(model(), "page") == name
    assert client(app).get(f"/?{name}=2").json()["page"] == 2
    assert refusals(app, f"{name}=x") == [("query", name)]


def test_a_path_into_a_value_is_no_name() -> None:
    assert query_name(Path(), "page") == "page"
    assert query_name(PathOrName(), "page") == "q"
