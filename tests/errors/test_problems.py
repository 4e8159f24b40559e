"""`Problem`, `ProblemError` and their subclasses, as an app uses them."""

import http.client
from http import HTTPStatus
from typing import Any

import pytest
from fastapi import HTTPException

from fastkit.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Problem,
    ProblemError,
    UnauthorizedError,
)
from tests.errors.support import strict_json


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


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000])
def test_a_status_that_ends_nothing_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"{status} is no status that a response can end with"):
        Problem(status)


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
