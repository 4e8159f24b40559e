"""`Problem`, `ProblemError` and their subclasses, as an app uses them."""

import enum
import http.client
import re
from http import HTTPStatus
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from fastkit.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Problem,
    ProblemError,
    UnauthorizedError,
    install_exception_handlers,
)
from fastkit.errors._json import dump
from fastkit.errors._problem import bare_problem
from tests.errors.support import strict_json


class Color(enum.StrEnum):
    RED = "red"


class OutOfStockError(ProblemError):
    status = 409
    type = "https://shop.example/problems/out-of-stock"
    title = "Out of stock"


def test_a_problem_says_what_its_status_says_where_nothing_else_is_given() -> None:
    assert Problem(404).body() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Not Found",
    }


def test_a_problem_has_the_members_it_was_given() -> None:
    problem = Problem(
        409,
        detail="Only 3 left.",
        title="Out of stock",
        type="https://shop.example/problems/out-of-stock",
        instance="/orders/7",
        extensions={"left": 3},
        headers={"Retry-After": "60"},
    )
    response = problem.to_response()
    assert strict_json(bytes(response.body)) == {
        "type": "https://shop.example/problems/out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "Only 3 left.",
        "instance": "/orders/7",
        "left": 3,
    }
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "60"


def test_without_a_detail_the_title_is_the_detail() -> None:
    assert Problem(409, title="Out of stock").body()["detail"] == "Out of stock"


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    response = Problem(status, detail="unseen", headers={"ETag": '"1"'}).to_response()
    assert response.body == b""
    assert response.headers["etag"] == '"1"'
    assert "content-type" not in response.headers


@pytest.mark.parametrize(
    "status", [-1, 0, 100, 101, 199, 600, 1000, 404.5, 404.0, True, False, None, "404", [404]]
)
def test_a_status_that_ends_nothing_is_refused(status: Any) -> None:
    message = f"{status!r} is no status that a response can end with: use an integer from 200 to"
    with pytest.raises(ValueError, match=re.escape(message)):
        Problem(status)


MEMBERS: list[dict[str, Any]] = [
    {},
    {"detail": "Not Found"},
    {"detail": 'said "no" \\ \n\x00\x7f, é, 😀', "type": "/é", "title": "😀"},
    {"detail": "lone \ud800", "type": "\udfff", "title": "\ud800 x"},
    {"instance": "/orders/7"},
    {"extensions": {"request_id": "x" * 32, 'n"ame': "é"}},
    {"extensions": {"lone": "\ud800"}},
    {"extensions": {"left": 3, "nothing": None, "yes": True, "list": [1, "x", {}]}},
    {"extensions": {"nan": float("nan"), "huge": 10**5000, "object": object}},
    {"extensions": {7: "a key that is no string"}},
    {"detail": 7, "title": 1.5},
    {"type": ["unhashable"]},
    {"detail": HTTPStatus.GONE, "title": Color.RED},
]


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("status", [404, HTTPStatus.NOT_FOUND, 499])
def test_the_quick_way_to_write_a_problem_writes_the_same(
    status: int, members: dict[str, Any]
) -> None:
    problem = Problem(status, **members)
    assert problem.to_response().body == dump(problem.body())
    strict_json(bytes(problem.to_response().body))


def test_a_status_is_no_other_number_that_equals_it() -> None:
    assert bare_problem(404).status == 404
    wrong: Any = 404.0
    with pytest.raises(ValueError, match=r"404\.0 is no status"):
        bare_problem(wrong)
    assert type(bare_problem(HTTPStatus.NOT_FOUND).status) is HTTPStatus
    assert type(bare_problem(404).status) is int


@pytest.mark.parametrize("name", ["type", "title", "status", "detail", "instance"])
def test_an_extension_may_not_have_a_members_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is a member of every problem"):
        Problem(400, extensions={name: "x", "other": 1})


def test_a_title_does_not_change_with_python() -> None:
    for status in http.client.responses:
        if status >= 200:
            assert Problem(status).body()["title"]
    assert Problem(413).body()["title"] == "Content Too Large"
    assert Problem(HTTPStatus.NOT_FOUND).body()["status"] == 404


@pytest.mark.parametrize(
    ("kind", "status", "title"),
    [
        (BadRequestError, 400, "Bad Request"),
        (UnauthorizedError, 401, "Unauthorized"),
        (ForbiddenError, 403, "Forbidden"),
        (NotFoundError, 404, "Not Found"),
        (ConflictError, 409, "Conflict"),
    ],
)
def test_each_error_has_its_status(kind: type[ProblemError], status: int, title: str) -> None:
    error = kind("said", more=1)
    assert error.problem.body() == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": "said",
        "more": 1,
    }
    assert kind().problem.body()["detail"] == title


def test_an_error_is_an_http_exception() -> None:
    error = NotFoundError("no such item", headers={"X-Why": "gone"})
    assert isinstance(error, HTTPException)
    assert (error.status_code, error.detail) == (404, "no such item")
    assert error.headers == {"X-Why": "gone"}
    assert str(error) == "404: no such item"
    assert str(OutOfStockError()) == "409: Out of stock"


def test_a_kind_of_error_of_the_apps_own() -> None:
    assert OutOfStockError("Only 3 left.", left=3).problem.body() == {
        "type": "https://shop.example/problems/out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "Only 3 left.",
        "left": 3,
    }


def test_unauthorized_has_a_challenge() -> None:
    assert UnauthorizedError().problem.headers == {"WWW-Authenticate": "Bearer"}
    error = UnauthorizedError(challenge='Basic realm="x"', headers={"X-Why": "expired"})
    assert error.problem.headers == {"WWW-Authenticate": 'Basic realm="x"', "X-Why": "expired"}


@pytest.mark.parametrize("status", [None, "404", 200, 302, 399, 600, True, 404.0])
def test_a_kind_of_error_needs_an_error_status(status: Any) -> None:
    with pytest.raises(TypeError, match=r"WrongError\.status is .*400 to 599"):
        type("WrongError", (ProblemError,), {"status": status})


def test_a_kind_of_error_may_have_its_status_by_name() -> None:
    class GoneError(ProblemError):
        status = HTTPStatus.GONE

    assert strict_json(bytes(GoneError().problem.to_response().body))["status"] == 410


def test_the_base_of_errors_is_none_itself() -> None:
    with pytest.raises(TypeError, match=r"ProblemError.status is None.*400 to 599"):
        ProblemError("no kind of error")


@pytest.mark.parametrize("status", [413, 414, 416, 422])
@pytest.mark.parametrize("headers", [None, {"X-Reason": "size"}])
def test_what_starlette_says_for_want_of_a_detail_does_not_depend_on_the_python(
    status: int, headers: dict[str, str] | None
) -> None:
    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/")
    def fail() -> None:
        raise HTTPException(status, headers=headers)

    response = TestClient(app).get("/")
    body = response.json()
    assert body["detail"] == body["title"]
    assert response.headers.get("X-Reason") == (headers or {}).get("X-Reason")


def test_a_kind_of_error_without_a_status_is_refused_when_it_is_made() -> None:
    with pytest.raises(TypeError, match="status is None"):
        type("NamelessError", (ProblemError,), {})


def test_a_kind_of_error_may_be_the_root_of_others() -> None:
    class ShopError(ProblemError):
        status = 400

    class GoneError(ShopError):
        status = 410

    class StillBadError(ShopError):
        title = "Still bad"

    assert GoneError().problem.status == 410
    assert StillBadError().problem.body()["title"] == "Still bad"
    assert StillBadError().problem.status == 400
