"""What OpenAPI says of errors is what is sent, by real answers held against the served schema."""

import json
from itertools import product
from typing import Annotated, Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
from fastapi import APIRouter, Body, FastAPI, Form, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from openapi_spec_validator import validate
from pydantic import BaseModel

from fastkit.errors import (
    ConflictError,
    NotFoundError,
    ProblemError,
    UnauthorizedError,
    install_exception_handlers,
    problem_responses,
)
from tests.errors.support import client, refused_by_schema

DEFAULT = {
    "description": "Any other error",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
INVALID = {
    "description": "Unprocessable Content",
    "content": {
        "application/problem+json": {
            "schema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/ValidationProblem"},
                    {"$ref": "#/components/schemas/Problem"},
                ]
            }
        }
    },
}


class OutOfStockError(ProblemError):
    status = 409
    type = "https://shop.example/problems/out-of-stock"
    title = "Out of stock"


class TooOldError(ProblemError):
    status = 422
    type = "https://shop.example/problems/too-old"
    title = "Too old"


class UndeclaredError(ProblemError):
    status = 409
    type = "https://shop.example/problems/undeclared"


class UndeclaredInvalidError(ProblemError):
    status = 422


class MappedError(Exception):
    pass


class MappedToInvalidError(Exception):
    pass


class MappedToConflictError(Exception):
    pass


class Item(BaseModel):
    name: str
    price: float = 1.0


RAISED: dict[str, Exception] = {
    "missing": NotFoundError("no such item"),
    "taken": ConflictError("taken", by=7),
    "sold-out": OutOfStockError("Only 3 left.", left=3),
    "who": UnauthorizedError(),
    "old": TooOldError(),
    "teapot": HTTPException(418, {"detail": "said", "instance": "/7", "more": [1, None]}),
    "list": HTTPException(400, [1, 2]),
    "mapped": MappedError(),
    "crash": RuntimeError(),
    "plain-404": HTTPException(404, "no such item"),
    "plain-409": HTTPException(409),
    "dict-409": HTTPException(409, {"type": "https://shop.example/x", "title": "Own", "left": 3}),
    "list-409": HTTPException(409, [1, 2]),
    "undeclared-409": UndeclaredError(),
    "mapped-409": MappedToConflictError(),
    "plain-422": HTTPException(422),
    "dict-422": HTTPException(422, {"errors": "no list", "type": "https://shop.example/x"}),
    "list-422": HTTPException(422, ["no mapping"]),
    "undeclared-422": UndeclaredInvalidError("no list of errors"),
    "mapped-422": MappedToInvalidError(),
    "raised-422": RequestValidationError([{"msg": "by hand"}]),
}
PATHS = ("/items/{kind}", "/undeclared/{kind}")


def make_app(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    install_exception_handlers(
        app, {MappedError: 503, MappedToInvalidError: 422, MappedToConflictError: 409}
    )

    @app.post(
        "/items/{kind}",
        responses=problem_responses(
            NotFoundError, ConflictError, OutOfStockError, UnauthorizedError, TooOldError
        ),
    )
    async def create(kind: str, item: Item, limit: Annotated[int, Query(gt=0)] = 1) -> Item:
        if kind in RAISED:
            raise RAISED[kind]
        return item

    @app.post("/undeclared/{kind}")
    async def undeclared(kind: str, item: Item, limit: Annotated[int, Query(gt=0)] = 1) -> Item:
        return await create(kind, item, limit)

    @app.post("/form")
    async def form(name: Annotated[str, Form()]) -> str:
        return name

    @app.get("/plain")
    async def plain() -> str:
        raise RuntimeError

    @app.get("/hidden", include_in_schema=False)
    async def hidden() -> None: ...

    return app


def served(app: FastAPI) -> Any:
    document = client(app).get("/openapi.json").json()
    validate(document)
    return document


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("options", [{}, {"separate_input_output_schemas": False}])
def test_every_real_answer_fits_the_served_schema(options: dict[str, Any], path: str) -> None:
    app = make_app(**options)
    document = served(app)
    bodies: list[Any] = [{"name": "tea"}, {"price": "x"}, [], "text"]
    statuses: set[int] = set()
    with client(app) as running:
        for kind, body, query in product((*RAISED, "fine"), bodies, ("", "?limit=0", "?limit=x")):
            answer = running.post(path.format(kind=kind) + query, json=body)
            assert not refused_by_schema(document, answer, path=path, method="post"), kind
            statuses.add(answer.status_code)
    assert statuses == {200, 400, 401, 404, 409, 418, 422, 500, 503}
    for path, method in (("/form", "post"), ("/plain", "get")):
        answer = client(app).request(method, path)
        assert answer.is_error
        assert not refused_by_schema(document, answer, path=path, method=method)


@pytest.mark.parametrize("path", PATHS)
def test_the_schema_refuses_fastapis_own_bodies(path: str) -> None:
    document = served(make_app())
    app = make_app()
    app.exception_handlers.update(FastAPI().exception_handlers)
    for kind in ("plain-409", "raised-422"):
        answer = client(app).post(path.format(kind=kind), json={"name": "tea"})
        assert answer.is_client_error
        assert refused_by_schema(document, answer, path=path, method="post"), kind


def test_an_invalid_request_is_a_validation_problem_and_a_422_by_hand_is_not() -> None:
    app = make_app()
    schema = {
        "$ref": "#/components/schemas/ValidationProblem",
        "components": served(app)["components"],
    }
    validator: Any = jsonschema.Draft202012Validator(schema)
    invalid = client(app).post("/undeclared/fine", json={})
    assert invalid.status_code == 422
    assert validator.is_valid(invalid.json())
    for kind in ("plain-422", "dict-422", "list-422", "undeclared-422", "mapped-422"):
        answer = client(app).post(f"/undeclared/{kind}", json={"name": "tea"})
        assert answer.status_code == 422
        assert not validator.is_valid(answer.json()), kind


def test_the_routers_own_answers_are_problems_too() -> None:
    app = make_app()
    document = served(app)
    for answer in (client(app).get("/nowhere"), client(app).delete("/plain")):
        assert answer.is_client_error
        assert not refused_by_schema(document, answer, path="/plain")


def test_each_operation_has_the_default_and_invalid_requests_where_there_can_be_any() -> None:
    document = served(make_app())
    responses = document["paths"]["/plain"]["get"]["responses"]
    assert responses["default"] == DEFAULT
    assert "422" not in responses
    assert document["paths"]["/form"]["post"]["responses"]["422"] == INVALID
    assert document["paths"]["/form"]["post"]["responses"]["default"] == DEFAULT
    assert "/hidden" not in document["paths"]


def test_declared_errors_say_which_they_are() -> None:
    document = served(make_app())
    responses = document["paths"]["/items/{kind}"]["post"]["responses"]
    assert {status: response["description"] for status, response in responses.items()} == {
        "200": "Successful Response",
        "401": "Unauthorized",
        "404": "Not Found",
        "409": "Conflict or Out of stock",
        "422": "Too old",
        "default": "Any other error",
    }
    problem, kind = (
        {"$ref": "#/components/schemas/Problem"},
        {
            "title": "OutOfStockError",
            "allOf": [{"$ref": "#/components/schemas/Problem"}],
            "properties": {
                "type": {"const": "https://shop.example/problems/out-of-stock"},
                "title": {"const": "Out of stock"},
                "status": {"const": 409},
            },
        },
    )
    schemas = {
        status: response["content"]["application/problem+json"]["schema"]
        for status, response in responses.items()
        if status != "200"
    }
    assert schemas["404"] == problem
    assert schemas["409"] == {"anyOf": [kind, problem]}
    too_old, *others = schemas["422"]["anyOf"]
    assert too_old["title"] == "TooOldError"
    assert others == [{"$ref": "#/components/schemas/ValidationProblem"}, problem]


def test_declared_errors_are_shown_as_they_are_sent() -> None:
    app = make_app()
    responses = served(app)["paths"]["/items/{kind}"]["post"]["responses"]
    conflicts = responses["409"]["content"]["application/problem+json"]["examples"]
    assert conflicts.keys() == {"ConflictError", "OutOfStockError"}
    assert conflicts["OutOfStockError"]["value"] == OutOfStockError().problem.body()
    assert conflicts["ConflictError"]["value"] == ConflictError().problem.body()


def test_the_components_are_ours_and_no_more_fastapis() -> None:
    schemas = served(make_app())["components"]["schemas"]
    assert {"Problem", "ValidationProblem", "Item"} <= schemas.keys()
    assert not {"HTTPValidationError", "ValidationError"} & schemas.keys()


def test_an_app_without_models_or_parameters_has_a_valid_document() -> None:
    app = FastAPI()
    install_exception_handlers(app)
    assert served(app)["paths"] == {}

    @app.get("/")
    async def root() -> None: ...

    app.openapi_schema = None
    document = served(app)
    assert document["paths"]["/"]["get"]["responses"].keys() == {"200", "default"}
    assert document["components"]["schemas"].keys() == {"Problem", "ValidationProblem"}


def test_the_document_is_made_once_and_kept() -> None:
    app = make_app()
    document = app.openapi()
    text = json.dumps(document)
    assert app.openapi() is document
    assert json.dumps(app.openapi()) == text


def test_a_document_that_is_made_again_tells_of_problems_again() -> None:
    app = make_app()
    app.openapi()

    @app.get("/later/{n}")
    async def later(n: int) -> None: ...

    app.openapi_schema = None  # what FastAPI does itself from 0.137 on
    document = served(app)
    assert document["paths"]["/later/{n}"]["get"]["responses"]["422"] == INVALID
    assert document["paths"]["/later/{n}"]["get"]["responses"]["default"] == DEFAULT
    assert document["paths"]["/plain"]["get"]["responses"]["default"] == DEFAULT


def test_routers_included_before_and_after_are_documented() -> None:
    router = APIRouter(prefix="/v1")

    @router.get("/items/{item_id}", responses=problem_responses(NotFoundError))
    async def item(item_id: int) -> None: ...

    app = FastAPI()
    app.include_router(router)
    install_exception_handlers(app)
    app.include_router(router, prefix="/later", responses={**problem_responses(ConflictError)})
    paths = served(app)["paths"]
    assert paths["/v1/items/{item_id}"]["get"]["responses"].keys() == {
        *("200", "404", "422", "default")
    }
    assert paths["/later/v1/items/{item_id}"]["get"]["responses"].keys() == {
        *("200", "404", "409", "422", "default")
    }


def test_what_the_app_declares_itself_is_kept() -> None:
    class Own(BaseModel):
        code: int

    app = FastAPI(responses={404: {"model": Own, "description": "own 404"}})
    install_exception_handlers(app)

    @app.get("/own-422/{n}", responses={422: {"model": Own, "description": "own 422"}})
    async def own_422(n: int) -> None: ...

    @app.get("/own-default/{n}", responses={"default": {"description": "own default"}})
    async def own_default(n: int) -> None: ...

    @app.get("/own-class/{n}", responses={"4XX": {"description": "own 4XX"}})
    async def own_class(n: int) -> None: ...

    paths = served(app)["paths"]
    own = paths["/own-422/{n}"]["get"]["responses"]
    assert own["404"]["description"] == "own 404"
    assert own["422"]["description"] == "own 422"
    reference = {"$ref": "#/components/schemas/Own"}
    assert own["422"]["content"] == {"application/json": {"schema": reference}}
    assert own["default"] == DEFAULT
    assert paths["/own-default/{n}"]["get"]["responses"]["default"] == {
        "description": "own default"
    }
    assert "422" not in paths["/own-class/{n}"]["get"]["responses"]


def test_models_of_the_app_may_have_our_names() -> None:
    class Problem(BaseModel):
        difficulty: int

    class ValidationProblem(BaseModel):
        own: str

    class ValidationError(BaseModel):
        own: str

    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/problems", responses=problem_responses(NotFoundError))
    async def problems() -> list[Problem | ValidationProblem | ValidationError]:
        raise NotFoundError

    document = served(app)
    schemas = document["components"]["schemas"]
    assert schemas["Problem"]["properties"].keys() == {"difficulty"}
    assert schemas["ValidationProblem"]["properties"].keys() == {"own"}
    assert schemas["ValidationError"]["properties"].keys() == {"own"}
    assert schemas["fastkit.Problem"]["required"] == ["type", "title", "status", "detail"]
    inherited = schemas["fastkit.ValidationProblem"]["allOf"]
    assert inherited[0] == {"$ref": "#/components/schemas/fastkit.Problem"}
    answer = client(app).get("/problems")
    assert not refused_by_schema(document, answer, path="/problems")
    success = document["paths"]["/problems"]["get"]["responses"]["200"]
    assert "#/components/schemas/Problem" in json.dumps(success)
    assert "fastkit." not in json.dumps(success)


def test_a_model_named_as_fastapis_leaves_nothing_that_refers_to_nothing() -> None:
    class ValidationError(BaseModel):
        own: str

    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/items/{n}")
    async def item(n: int) -> ValidationError:
        return ValidationError(own="x")

    assert "ValidationError" in served(app)["components"]["schemas"]


def test_webhooks_and_callbacks_are_answered_by_others() -> None:
    callbacks = APIRouter()

    @callbacks.post("{$request.body#/url}")
    async def called_back(item: Item) -> None: ...

    app = FastAPI()
    install_exception_handlers(app)

    @app.post("/subscribe", callbacks=callbacks.routes)
    async def subscribe(url: Annotated[str, Body()]) -> None: ...

    @app.webhooks.post("new-item")
    async def new_item(item: Item) -> None: ...

    plain = FastAPI()
    plain.router.routes.extend(app.router.routes[-1:])
    plain.webhooks.routes.extend(app.webhooks.routes)
    document, expected = served(app), plain.openapi()
    assert document["webhooks"] == expected["webhooks"]
    operation = document["paths"]["/subscribe"]["post"]
    assert operation["callbacks"] == expected["paths"]["/subscribe"]["post"]["callbacks"]
    assert operation["responses"]["422"] == INVALID
    assert "HTTPValidationError" in document["components"]["schemas"]


def test_an_openapi_function_of_the_apps_own_is_gone_on_with() -> None:
    app = FastAPI()

    @app.get("/items/{n}")
    async def item(n: int) -> None: ...

    def own() -> dict[str, Any]:
        document = get_openapi(title="own", version="7", routes=app.routes)
        document["paths"]["/items/{n}"]["summary"] = "no path operation"
        return document

    app.openapi = own  # type: ignore[method-assign]  # as FastAPI documents it
    install_exception_handlers(app)
    for _ in range(2):
        document = served(app)
        assert document["info"] == {"title": "own", "version": "7"}
        assert document["paths"]["/items/{n}"]["get"]["responses"]["422"] == INVALID
        assert document["paths"]["/items/{n}"]["summary"] == "no path operation"


def test_an_app_without_openapi_is_fine() -> None:
    app = FastAPI(openapi_url=None)
    install_exception_handlers(app)
    assert client(app).get("/openapi.json").status_code == 404


def test_the_description_of_an_error_response_is_each_kinds_title() -> None:
    responses = problem_responses(NotFoundError)
    assert responses.keys() == {404}
    assert responses[404]["description"] == "Not Found"
    assert problem_responses() == {}
