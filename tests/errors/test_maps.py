"""An app's own exceptions, its own handlers, and where the two meet."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.testclient import TestClient
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from fastkit.errors import NotFoundError, Problem, ProblemMap, install_exception_handlers
from tests.errors.support import SENTINEL, call, client, problem


class ShopError(Exception):
    pass


class SoldOutError(ShopError):
    def __init__(self, left: int) -> None:
        super().__init__(f"{SENTINEL}: {left} left")
        self.left = left


def app_that_raises(exc: Exception, *maps: ProblemMap, **options: Any) -> FastAPI:
    app = FastAPI()
    install_exception_handlers(app, *maps, **options)

    @app.get("/")
    async def fail() -> None:
        raise exc

    return app


def sold_out(exc: SoldOutError) -> Problem:
    return Problem(409, detail=f"Only {exc.left} left.", extensions={"left": exc.left})


async def own(*_: Any) -> Response:
    return PlainTextResponse("the app's own", status_code=418)


def handled_by_the_app(*kinds: Any) -> FastAPI:
    return FastAPI(exception_handlers=dict.fromkeys(kinds, own))


def test_a_status_answers_without_the_exceptions_words() -> None:
    answer = client(app_that_raises(SoldOutError(3), {SoldOutError: 409})).get("/")
    assert SENTINEL not in answer.text
    assert problem(answer, 409)["detail"] == "Conflict"


def test_a_function_makes_the_problem() -> None:
    answer = client(app_that_raises(SoldOutError(3), {SoldOutError: sold_out})).get("/")
    assert problem(answer, 409) == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "Only 3 left.",
        "left": 3,
    }


def test_a_subclass_is_answered_as_its_nearest_parent() -> None:
    maps: ProblemMap = {LookupError: 404, ShopError: 400, SoldOutError: 409}
    assert client(app_that_raises(KeyError(), maps)).get("/").status_code == 404
    assert client(app_that_raises(SoldOutError(1), maps)).get("/").status_code == 409
    assert client(app_that_raises(ShopError(), maps)).get("/").status_code == 400


def test_of_two_maps_the_later_counts() -> None:
    first: ProblemMap = {ShopError: 400, KeyError: 404}
    later: ProblemMap = {ShopError: 503}
    assert client(app_that_raises(ShopError(), first, later)).get("/").status_code == 503
    assert client(app_that_raises(KeyError(), first, later)).get("/").status_code == 404


def test_a_function_that_answers_none_leaves_the_exception_unhandled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def only_some(exc: SoldOutError) -> Problem | None:
        return sold_out(exc) if exc.left else None

    problem(call(app_that_raises(SoldOutError(1), {SoldOutError: only_some})), 409)
    assert "unhandled" not in caplog.text
    answer = call(app_that_raises(SoldOutError(0), {SoldOutError: only_some}))
    assert "request_id" in problem(answer, 500)
    assert isinstance(answer.error, SoldOutError)
    assert "unhandled SoldOutError" in caplog.text


def test_a_function_that_fails_is_an_unhandled_exception() -> None:
    def failing(exc: ShopError) -> Problem:
        raise ZeroDivisionError(SENTINEL)

    error = ShopError()
    answer = call(app_that_raises(error, {ShopError: failing}))
    assert SENTINEL not in str(problem(answer, 500))
    assert isinstance(answer.error, ZeroDivisionError)
    assert answer.error.__context__ is error


def test_a_function_that_makes_no_problem_is_an_error_that_says_so() -> None:
    wrong: Any = {ShopError: NotFoundError}
    answer = call(app_that_raises(ShopError(), wrong))
    problem(answer, 500)
    assert isinstance(answer.error, TypeError)
    assert "answers ShopError with NotFoundError" in str(answer.error)
    assert "return a Problem" in str(answer.error)


def test_what_fastapi_raises_can_be_mapped_too() -> None:
    def teapot(_: Any) -> Problem:
        return Problem(418)

    app = app_that_raises(
        HTTPException(400), {StarletteHTTPException: teapot, RequestValidationError: 400}
    )

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> None: ...

    for path in ("/", "/nowhere"):
        problem(client(app).get(path), 418)
    problem(client(app).get("/items/x"), 400)
    mapped = app_that_raises(NotFoundError(), {NotFoundError: 410})
    problem(client(mapped).get("/"), 410)


def test_a_fastapi_exception_that_is_not_handled_after_all_is_a_500() -> None:
    answer = call(app_that_raises(HTTPException(404), {HTTPException: lambda _: None}))
    problem(answer, 500)
    assert isinstance(answer.error, HTTPException)


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (Exception, TypeError, "Exception cannot be mapped to a problem.*on_problem="),
        (BaseException, TypeError, "is no exception class"),
        (KeyboardInterrupt, TypeError, "is no exception class"),
        (404, TypeError, "404 is no exception class"),
        ("KeyError", TypeError, "'KeyError' is no exception class"),
        (KeyError("x"), TypeError, "is no exception class"),
    ],
)
def test_a_key_that_is_no_kind_of_exception_is_refused(
    key: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        install_exception_handlers(FastAPI(), {key: 404})


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (200, ValueError, "KeyError is mapped to 200, which is no error status: .*400 to 599"),
        (399, ValueError, "no error status"),
        (600, ValueError, "no error status"),
        (True, ValueError, "no error status"),
        ("404", TypeError, "KeyError is mapped to '404': use a status from 400 to 599, or a func"),
        (None, TypeError, "KeyError is mapped to None"),
        (Problem(404), TypeError, "KeyError is mapped to Problem"),
    ],
)
def test_a_value_that_is_no_answer_is_refused(
    value: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        install_exception_handlers(FastAPI(), {KeyError: value})


def test_a_refused_map_leaves_the_app_as_it_was() -> None:
    app = FastAPI()
    handlers = dict(app.exception_handlers)
    with pytest.raises(ValueError, match="no error status"):
        install_exception_handlers(app, {KeyError: 200})
    assert app.exception_handlers == handlers
    assert app.user_middleware == []
    install_exception_handlers(app)


CONFLICTS: Mapping[str, Any] = {
    "HTTPException": StarletteHTTPException,
    "RequestValidationError": RequestValidationError,
    "ShopError": ShopError,
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_a_handler_that_is_there_already_is_a_conflict(name: str) -> None:
    app = handled_by_the_app(CONFLICTS[name])
    with pytest.raises(RuntimeError, match=f"has a handler for {name} already.*own") as refused:
        install_exception_handlers(app, {ShopError: 400})
    assert "remove it, or add it after install_exception_handlers()" in str(refused.value)
    assert app.exception_handlers[CONFLICTS[name]] is own


@pytest.mark.parametrize(
    ("taken", "mapped"),
    [(HTTPException, KeyError), (LookupError, KeyError), (OSError, ConnectionResetError)],
)
def test_a_handler_that_would_answer_in_place_of_ours_is_a_conflict(
    taken: type[Exception], mapped: type[Exception]
) -> None:
    app = handled_by_the_app(taken)
    with pytest.raises(RuntimeError, match=f"has a handler for {taken.__name__} already"):
        install_exception_handlers(app, {mapped: 409})


def test_a_handler_for_a_more_special_exception_is_none() -> None:
    app = handled_by_the_app(KeyError)
    install_exception_handlers(app, {LookupError: 409})


@pytest.mark.parametrize("key", [500, Exception])
def test_a_handler_for_everything_is_a_conflict_before_and_after(key: Any) -> None:
    before = handled_by_the_app(key)
    with pytest.raises(RuntimeError, match=r"beside fastkit's.*on_problem="):
        install_exception_handlers(before)
    after = FastAPI()
    install_exception_handlers(after)
    after.add_exception_handler(key, own)
    with pytest.raises(RuntimeError, match=r"beside fastkit's.*on_problem="):
        TestClient(after).get("/")
    with pytest.raises(RuntimeError, match="beside fastkit's"), TestClient(after):
        pass


def test_a_refused_install_can_be_tried_again() -> None:
    app = handled_by_the_app(Exception)
    with pytest.raises(RuntimeError, match="beside fastkit's"):
        install_exception_handlers(app)
    del app.exception_handlers[Exception]
    install_exception_handlers(app)
    problem(client(app).get("/"), 404)


def test_installing_twice_is_refused() -> None:
    app = FastAPI()
    install_exception_handlers(app)
    with pytest.raises(RuntimeError, match=r"has fastkit's handlers already.*once, with all the"):
        install_exception_handlers(app, {KeyError: 404})


def test_installing_after_the_app_has_served_is_refused() -> None:
    app = FastAPI()
    call(app)
    with pytest.raises(RuntimeError, match=r"because it has served: .*right after making the app"):
        install_exception_handlers(app)


def test_other_middleware_of_the_constructor_is_no_obstacle() -> None:
    app = FastAPI(middleware=[Middleware(GZipMiddleware)])
    install_exception_handlers(app)
    problem(client(app).get("/nowhere", headers={"Accept-Encoding": "identity"}), 404)


@pytest.mark.parametrize("kind", [StarletteHTTPException, HTTPException, NotFoundError])
def test_a_handler_added_later_wins(kind: type[Exception]) -> None:
    app = app_that_raises(NotFoundError())
    app.add_exception_handler(kind, own)
    assert client(app).get("/").text == "the app's own"


@pytest.mark.parametrize("key", [ShopError, SoldOutError])
def test_a_handler_added_later_wins_over_a_map(key: type[Exception]) -> None:
    app = app_that_raises(SoldOutError(1), {SoldOutError: 409})
    app.add_exception_handler(key, own)
    assert client(app).get("/").text == "the app's own"


def test_a_handler_for_a_status_wins_before_and_after() -> None:
    app = handled_by_the_app(404)
    install_exception_handlers(app)
    app.add_exception_handler(405, own)

    @app.post("/")
    async def post() -> None:
        raise HTTPException(404)

    assert client(app).get("/nowhere").text == "the app's own"
    assert client(app).get("/").text == "the app's own"
    assert client(app).post("/").text == "the app's own"


def test_a_handler_for_invalid_requests_added_later_wins() -> None:
    app = FastAPI()
    install_exception_handlers(app)
    app.add_exception_handler(RequestValidationError, own)

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> None: ...

    assert client(app).get("/items/x").text == "the app's own"


def nested(*leaves: Exception, depth: int = 3) -> ExceptionGroup[Exception]:
    group = ExceptionGroup("inner", leaves)
    for n in range(depth):
        group = ExceptionGroup(f"outer {n}", [group])
    return group


@pytest.mark.parametrize("depth", [0, 3])
def test_a_group_of_one_counts_as_that_one(depth: int) -> None:
    maps: ProblemMap = {SoldOutError: sold_out}
    for leaf, status in (
        (HTTPException(404, "gone"), 404),
        (SoldOutError(3), 409),
        (RequestValidationError([]), 422),
    ):
        answer = call(app_that_raises(nested(leaf, depth=depth), maps))
        problem(answer, status)
        assert answer.error is None


@pytest.mark.parametrize("leaf", [ShopError(), HTTPException(404), HTTPException(409)])
def test_a_group_of_one_has_the_apps_own_handler(leaf: Exception) -> None:
    app = app_that_raises(nested(leaf))
    app.add_exception_handler(ShopError, own)
    app.add_exception_handler(404, own)
    app.add_exception_handler(HTTPException, own)
    assert client(app).get("/").text == "the app's own"


@pytest.mark.parametrize(
    "group",
    [
        nested(HTTPException(404), SoldOutError(1)),
        ExceptionGroup("", [nested(HTTPException(404)), nested(HTTPException(404))]),
        nested(RuntimeError(SENTINEL)),
    ],
)
def test_any_other_group_is_unhandled_and_raised_whole(group: ExceptionGroup[Exception]) -> None:
    answer = call(app_that_raises(group, {SoldOutError: sold_out}))
    assert SENTINEL not in str(problem(answer, 500))
    assert answer.error is group


def test_groups_can_be_mapped() -> None:
    several = nested(KeyError(), ValueError())
    answer = call(app_that_raises(several, {ExceptionGroup: 502, KeyError: 404}))
    problem(answer, 502)
    problem(call(app_that_raises(nested(KeyError()), {ExceptionGroup: 502, KeyError: 404})), 404)


def test_a_handler_for_groups_is_the_apps_own_and_wins() -> None:
    app = handled_by_the_app(ExceptionGroup)
    install_exception_handlers(app, {SoldOutError: 409})

    @app.get("/")
    async def fail() -> None:
        raise nested(SoldOutError(1))

    assert client(app).get("/").text == "the app's own"


def test_a_handler_that_fails_on_the_one_of_a_group_is_unhandled() -> None:
    app = app_that_raises(nested(ShopError()))
    error = RuntimeError(SENTINEL)

    @app.exception_handler(ShopError)
    def failing(*_: Any) -> Response:
        raise error

    answer = call(app)
    problem(answer, 500)
    assert answer.error is error


def test_an_endpoint_of_starlettes_is_answered_as_any() -> None:
    class Endpoint(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            raise nested(SoldOutError(2))

    app = FastAPI()
    install_exception_handlers(app, {SoldOutError: sold_out})
    app.router.routes.append(Route("/", Endpoint))
    assert problem(client(app).get("/"), 409)["left"] == 2
    app = FastAPI()
    install_exception_handlers(app)
    app.add_exception_handler(SoldOutError, own)
    app.router.routes.append(Route("/", Endpoint))
    assert client(app).get("/").text == "the app's own"


def test_a_base_exception_passes() -> None:
    class Stop(BaseException):
        pass

    app = FastAPI()
    install_exception_handlers(app)

    @app.get("/")
    async def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        call(app)


def test_nothing_is_logged_of_what_is_declared(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastkit")
    call(app_that_raises(SoldOutError(1), {SoldOutError: 409}))
    call(app_that_raises(NotFoundError()))
    assert caplog.records == [record for record in caplog.records if record.name[:7] != "fastkit"]
