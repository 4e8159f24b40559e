"""Several lifespans in one app."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette

from fastkit.lifespan import combine
from tests.support import Serve

pytestmark = pytest.mark.anyio

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


class StartError(Exception):
    pass


class EndError(Exception):
    pass


def recorded(
    name: str,
    happened: list[str],
    *,
    state: Mapping[str, Any] | None = None,
    start_fails: BaseException | None = None,
    end_fails: BaseException | None = None,
) -> Lifespan:
    """A lifespan as the tutorial writes it: no `try` around its `yield`."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncGenerator[Mapping[str, Any] | None]:
        if start_fails:
            raise start_fails
        happened.append(f"{name} starts")
        yield state
        if end_fails:
            raise end_fails
        happened.append(f"{name} ends")

    return lifespan


async def test_they_start_in_order_and_end_in_reverse() -> None:
    happened: list[str] = []
    lifespan = combine(*(recorded(name, happened) for name in "abc"))
    async with lifespan(FastAPI()):
        assert happened == ["a starts", "b starts", "c starts"]
        happened.clear()
    assert happened == ["c ends", "b ends", "a ends"]


async def test_each_is_given_the_app() -> None:
    given: list[object] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        given.append(app)
        yield

    async with combine(lifespan, lifespan)(app := FastAPI()):
        assert given == [app, app]


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("error", [StartError(), asyncio.CancelledError()], ids=["", "cancelled"])
async def test_when_one_does_not_start_those_before_it_are_ended(
    failing: int, error: BaseException
) -> None:
    happened: list[str] = []
    lifespan = combine(
        *(
            recorded(name, happened, start_fails=error if index == failing else None)
            for index, name in enumerate("abc")
        )
    )
    with pytest.raises(type(error)):
        async with lifespan(FastAPI()):
            pytest.fail("it has started")
    started = "abc"[:failing]
    assert happened == [
        *(f"{name} starts" for name in started),
        *(f"{name} ends" for name in reversed(started)),
    ]


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_when_one_does_not_end_the_others_are_ended_all_the_same(failing: int) -> None:
    happened: list[str] = []
    lifespan = combine(
        *(
            recorded(name, happened, end_fails=EndError(name) if index == failing else None)
            for index, name in enumerate("abc")
        )
    )
    with pytest.raises(EndError, match="abc"[failing]):
        async with lifespan(FastAPI()):
            happened.clear()
    assert happened == [f"{name} ends" for name in "cba" if name != "abc"[failing]]


async def test_when_several_do_not_end_each_exception_is_in_the_last() -> None:
    happened: list[str] = []
    lifespan = combine(
        recorded("a", happened, end_fails=EndError("a")),
        recorded("b", happened),
        recorded("c", happened, end_fails=EndError("c")),
    )
    with pytest.raises(EndError, match="a") as caught:
        async with lifespan(FastAPI()):
            happened.clear()
    assert happened == ["b ends"]
    assert str(caught.value.__context__) == "c"


async def test_they_end_when_the_app_is_ended_by_an_exception() -> None:
    happened: list[str] = []
    with pytest.raises(LookupError):
        async with combine(recorded("a", happened), recorded("b", happened))(FastAPI()):
            happened.clear()
            raise LookupError
    assert happened == ["b ends", "a ends"]


async def test_what_they_yield_is_one_state() -> None:
    lifespan = combine(
        recorded("a", [], state={"one": 1}),
        recorded("b", []),
        recorded("c", [], state={"two": 2}),
        recorded("d", [], state={}),
    )
    async with lifespan(FastAPI()) as state:
        assert state == {"one": 1, "two": 2}


async def test_none_at_all_is_a_lifespan_too() -> None:
    async with combine()(FastAPI()) as state:
        assert state == {}


async def test_a_key_that_two_yield_is_an_error_when_the_app_starts() -> None:
    happened: list[str] = []
    lifespan = combine(
        recorded("a", happened, state={"client": 1}),
        recorded("b", happened, state={"client": 2}),
        recorded("c", happened),
    )
    with pytest.raises(ValueError, match=r"Two lifespans yield 'client', the second is .*: rename"):
        async with lifespan(FastAPI()):
            pytest.fail("it has started")
    assert happened == ["a starts", "b starts", "b ends", "a ends"]


async def test_combinations_can_be_combined() -> None:
    happened: list[str] = []
    inner = combine(recorded("b", happened, state={"b": 1}), recorded("c", happened))
    async with combine(recorded("a", happened, state={"a": 1}), inner)(FastAPI()) as state:
        assert state == {"a": 1, "b": 1}
    assert happened == ["a starts", "b starts", "c starts", "c ends", "b ends", "a ends"]


@pytest.mark.parametrize("make", [FastAPI, Starlette])
def test_an_app_takes_it_and_requests_see_the_state(make: type[Starlette]) -> None:
    happened: list[str] = []
    app = make(
        lifespan=combine(recorded("a", happened, state={"greeting": "hello"}), recorded("b", []))
    )

    async def greet(request: Request) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(request.state.greeting)

    app.add_route("/", greet)
    with TestClient(app) as client:
        assert client.get("/").text == "hello"
        assert happened == ["a starts"]
    assert happened == ["a starts", "a ends"]


def test_an_app_does_not_start_when_one_of_them_does_not() -> None:
    happened: list[str] = []
    app = FastAPI(
        lifespan=combine(recorded("a", happened), recorded("b", [], start_fails=StartError()))
    )
    with pytest.raises(StartError), TestClient(app):
        pytest.fail("it has started")
    assert happened == ["a starts", "a ends"]


APP = """
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from fastkit.lifespan import combine


def named(name):
    @asynccontextmanager
    async def lifespan(app):
        print(name, "starts", flush=True)
        yield {name: name.upper()}
        print(name, "ends", flush=True)
        if name == "b":
            raise LookupError("b does not end well")

    return lifespan


app = FastAPI(lifespan=combine(named("a"), named("b"), named("c")))


@app.get("/")
async def state(request: Request) -> str:
    return request.state.a + request.state.b + request.state.c
"""


def test_a_server_runs_them(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "combined.py").write_text(APP)
    server = serve(tmp_path / "combined.py")
    assert httpx.get(server.base_url).json() == "ABC"
    server.stop()
    lines = [line for line in server.log.splitlines() if line.endswith((" starts", " ends"))]
    assert lines == ["a starts", "b starts", "c starts", "c ends", "b ends", "a ends"]
    assert "b does not end well" in server.log
