"""What is compared does equal work: the same request has the same answer."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.types import ASGIApp, Message

from benchmarks import (
    auth,
    auth_apps,
    db,
    errors,
    filtering,
    imports,
    logins,
    pagination,
    timing,
    websockets,
)
from benchmarks.harness import Call, Group, Limit, Line, Report, Table, ask, compare, peer

pytestmark = [
    pytest.mark.anyio,
    # advanced-alchemy imports what SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("ignore:The declarative_mixin decorator:DeprecationWarning"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def parts(messages: Sequence[Message]) -> tuple[int, dict[str, str], bytes]:
    start, *rest = messages
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(message["body"] for message in rest)


async def answers(group: Group) -> dict[str, tuple[int, dict[str, str], bytes]]:
    return {case.name: parts(await ask(case.app, group.call)) for case in group.cases}


async def test_error_bodies_say_the_same() -> None:
    with errors.logs_written():
        found = {group.title: await answers(group) for group in errors.groups(Report("", ()))}
    assert {body for _, _, body in found.pop("200").values()} == {b'{"id":8}'}
    for title, by_app in found.items():
        assert {status for status, _, _ in by_app.values()} == {errors.QUESTIONS[title].call.status}
        types = {name: headers["content-type"] for name, (_, headers, _) in by_app.items()}
        assert types.pop("FastAPI's default") != "application/problem+json"
        assert set(types.values()) == {"application/problem+json"}
    for title in ("404, raised", "404, no such route"):
        details = {json.loads(body)["detail"] for _, _, body in found[title].values()}
        assert len(details) == 1
    (_, _, default), *others = found["422, two invalid values"].values()
    locations = [error["loc"] for error in json.loads(default)["detail"]]
    assert len(locations) == 2
    for _, _, body in others:
        assert [error["loc"] for error in json.loads(body)["errors"]] == locations


@pytest.mark.parametrize(
    ("title", "logged"),
    [
        ("500, nothing logged", []),
        ("500, fastkit's line in the log", ["fastkit.errors"]),
        ("500, and the server's traceback", ["fastkit.errors", "server"]),
    ],
)
async def test_a_crash_is_logged_as_the_group_says(
    title: str, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (group,) = (group for group in errors.groups(Report("", ())) if group.title == title)
    (fastkit,) = (case.app for case in group.cases if case.name == "fastkit")
    await ask(fastkit, group.call)
    assert [record.name for record in caplog.records] == logged


async def test_middleware_adds_headers_and_changes_nothing_else() -> None:
    (group,) = timing.groups(Report("", ()))
    found = await answers(group)
    assert {(status, body) for status, _, body in found.values()} == {(200, b'{"id":7}')}
    added = {
        name: set(headers) - {"content-length", "content-type"}
        for name, (_, headers, _) in found.items()
    }
    both = {"x-process-time", "x-request-id"}
    expected = {
        "bare route": set[str](),
        "fastkit, timing + request id": both,
        "fastkit, the same with on_finish": both,
        "fastkit, timing alone": {"x-process-time"},
        'the tutorial\'s @app.middleware("http")': {"x-process-time"},
        "fastkit, request id alone": {"x-request-id"},
        "asgi-correlation-id": {"x-request-id"},
        "prometheus-fastapi-instrumentator": set[str](),
    }
    assert added == {name: expected[name] for name in found}


@asynccontextmanager
async def database(name: str, folder: Path) -> AsyncGenerator[list[Group]]:
    report = Report("", ())
    if name == "sqlite":
        async with db.prepared(db.sqlite_engine(str(folder))) as engine:
            yield db.groups(report, engine)
        return
    with db.postgres_url(report) as url:
        if url is None:
            pytest.skip(report.notes[0])
        async with db.prepared(db.postgres_engine(url)) as engine:
            yield db.groups(report, engine)


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
async def test_each_session_reads_and_commits(name: str, tmp_path: Path) -> None:
    async with database(name, tmp_path) as (untouched, select, insert):
        for group, expected in ((untouched, {"id": 1}), (select, {"name": "first"})):
            for status, _, body in (await answers(group)).values():
                assert (status, json.loads(body)) == (200, expected)
        for case in insert.cases:
            status, _, body = parts(await ask(case.app, insert.call))
            assert status == 200
            # Read in another session, so only what was committed is found.
            call = Call(path=f"/items/{json.loads(body)['id']}")
            status, _, body = parts(await ask(select.cases[0].app, call))
            assert (status, json.loads(body)) == (200, {"name": "another"})


@asynccontextmanager
async def filled(name: str, folder: Path) -> AsyncGenerator[list[Group]]:
    report = Report("", ())
    url = pagination.sqlite_url(str(folder), driver="sqlite+aiosqlite")
    if name == "postgresql":
        with db.postgres_url(report) as found:
            if found is None:
                pytest.skip(report.notes[0])
            async with pagination.prepared(create_async_engine(found), rows=500) as engine:
                yield await pagination.groups(name, pagination.async_apps(report, engine), deep=5)
        return
    async with pagination.prepared(create_async_engine(url), rows=500) as engine:
        if name == "sqlite":
            yield await pagination.groups(name, pagination.async_apps(report, engine), deep=5)
            return
        sync_engine = create_engine(pagination.sqlite_url(str(folder), driver="sqlite"))
        try:
            yield await pagination.groups(name, pagination.sync_apps(report, sync_engine), deep=5)
        finally:
            sync_engine.dispose()


@pytest.mark.parametrize("name", ["sqlite", "sqlite, sync", "postgresql"])
async def test_each_page_has_the_same_items_and_total(name: str, tmp_path: Path) -> None:
    async with filled(name, tmp_path) as (first, deep, walk, deep_walk, depth):
        bodies = {
            group.title: {
                case: json.loads(body) for case, (_, _, body) in (await answers(group)).items()
            }
            for group in (first, deep, walk, deep_walk, depth)
        }
    for group, start in ((first, 1), (deep, 201)):
        for body in bodies[group.title].values():
            items = body.get("items", body.get("data"))
            assert [item["id"] for item in items] == list(range(start, start + 50))
            assert body.get("total", body.get("total_count")) == 500
    for group in (walk, deep_walk):
        written, fastkit, *others = bodies[group.title].values()
        assert len(written["items"]) == 50
        for body in (fastkit, *others):
            assert body["items"] == written["items"]
        for cursor in ("next_cursor", "previous_cursor"):
            assert (written.pop(cursor) is None) == (fastkit.pop(cursor) is None)
        assert fastkit == written
        assert [body["total"] for body in others] == [None, 500][: len(others)]
    ends = [next(iter(bodies[group.title].values()))["items"] for group in (walk, deep_walk)]
    assert [body["items"] for body in bodies[depth.title].values()] == ends


async def test_filters_make_the_same_statement() -> None:
    none, given = filtering.groups(Report("", ()))
    for group, parts_of_it in ((none, 3), (given, 7)):
        found = await answers(group)
        assert {(status, body) for status, _, body in found.values()} == {
            (200, b'{"parts":%d}' % parts_of_it)
        }


async def test_each_token_is_its_users_and_a_forged_one_or_none_is_nobodys() -> None:
    group = await auth.bearer_group(Report("", ()))
    found = await answers(group)
    assert {(status, body) for status, _, body in found.values()} == {
        (200, b'{"username":"user-0"}')
    }
    for case in group.cases[:-1]:
        assert isinstance(case.app, auth_apps.Bearing)
        message, _, signature = case.app.token.rpartition(".")
        forged = auth_apps.Bearing(case.app.app, f"{message}.{signature[::-1]}")
        for app in (forged, case.app.app):
            # For a wrong signature authx has a 422, and fastapi-jwt a 500.
            status, _, _ = parts(await ask(app, replace(group.call, raises=(Exception,))))
            is_odd = app is forged and case.name in ("authx", "fastapi-jwt")
            assert status in ((422, 500) if is_odd else (401,)), case.name


async def test_each_refused_login_has_the_same_answer() -> None:
    found = await answers(auth.refused_group())
    assert len(found) == 6
    assert len({(status, body) for status, _, body in found.values()}) == 1
    status, _, body = found["wrong password"]
    assert (status, json.loads(body)["error"]) == (401, "invalid_grant")


def tutorial_app(name: str) -> ASGIApp:
    app = auth_apps.tutorial_app(rounds=auth_apps.CHEAP)
    return auth_apps.Bearing(app, auth_apps.tutorial_token(name))


@pytest.mark.parametrize("name", [auth_apps.DISABLED, "gone"])
@pytest.mark.parametrize(
    "make",
    [
        tutorial_app,
        auth_apps.authx_app,
        auth_apps.fastapi_jwt_app,
        auth_apps.fastapi_users_app,
    ],
)
async def test_who_is_disabled_or_gone_is_refused_by_the_others_too(
    make: Callable[[str], ASGIApp], name: str
) -> None:
    for case in peer(Report("", ()), "", partial(make, name)):
        status, _, _ = parts(await ask(case.app, auth.ME))
        assert status in (400, 401)


async def test_each_refresh_is_one_of_a_login_that_goes_on(tmp_path: Path) -> None:
    async with auth.open_stores(Report("", ()), str(tmp_path)) as stores:
        for group in auth.refresh_groups(stores):
            for case in group.cases:
                app = case.app
                assert isinstance(app, auth.Client | auth.Crowd)
                clients = app.clients if isinstance(app, auth.Crowd) else [app]
                shown: set[str] = set()
                for _ in range(3):
                    status, _, _ = parts(await ask(app, group.call))
                    assert status == 200, case.name
                    shown |= {client.refresh_token for client in clients}
                assert len(shown) == 3 * len(clients)


@pytest.mark.parametrize("served", {each.factory: each for each in logins.SERVED}.values())
async def test_each_app_lets_everybody_in_with_the_right_password(served: logins.Served) -> None:
    app = getattr(auth_apps, served.factory)(rounds=auth_apps.CHEAP)
    for path in logins.ENDPOINTS:
        assert parts(await ask(app, Call(path=path)))[::2] == (200, b'{"hello":"world"}')
    for name in auth_apps.NAMES:
        client = auth.Client(app, name)
        assert parts(await ask(client, auth.TOKEN))[0] == 200
        found = await ask(auth_apps.Bearing(app, client.access_token), auth.ME)
        assert json.loads(parts(found)[2]) == {"username": name}
    with pytest.raises(KeyError, match="access_token"):
        await ask(auth.Client(app, "nobody"), auth.TOKEN)


async def test_the_waits_of_both_endpoints_are_found() -> None:
    with logins.served() as clients:
        for client in clients.values():
            waits = await logins.slowest(client, auth_apps.NAMES[:1])
            assert set(waits) == set(logins.ENDPOINTS)
            assert min(waits.values()) > 0


@pytest.mark.parametrize("served", [*websockets.SERVED, *websockets.ON_UVLOOP])
def test_everybody_is_sent_what_one_sends(served: websockets.Served) -> None:
    report = Report("", ())
    with websockets.serve(report, [served]) as found:
        if not found:
            pytest.skip(report.notes[0])
        (running,) = found
        crowd = running.crowd
        websockets.grow(running, 5)
        crowd.keep_numbers = True
        cpu_time, per_second = websockets.saturate(running, 20)
        p50, p99 = websockets.pace(running, 100, 0.2)
        numbers = [client.numbers for client in crowd.clients]
    assert numbers == [list(range(numbers[0][0], numbers[0][0] + 40))] * 5
    assert cpu_time > 0
    assert per_second > 0
    assert 0 < p50 <= p99


async def test_each_server_has_its_place_in_each_table() -> None:
    load = websockets.Load(
        sizes=(3, 4),
        rounds=2,
        deliveries=12,
        turns=2,
        turn_seconds=0.1,
        per_second=200,
        stuck_seconds=1,
        stuck_others=3,
    )
    report = await websockets.measure(load)
    one, other, memory, *beside_a_stuck_one = (
        report.tables[:4],
        report.tables[4:8],
        *report.tables[8:],
    )
    for cpu_time, on_uvloop, *latencies in (one, other):
        titles = [line.name for line in cpu_time.lines]
        assert titles[:2] == ["the tutorial's loop", "fastkit"]
        assert cpu_time.lines[0].values == [1.0, 1.0]
        assert [line.name for line in on_uvloop.lines] == titles[:2]
        assert [[line.name for line in table.lines] for table in latencies] == [titles] * 2
    assert [len(line.values) for line in memory.lines] == [2] * len(titles)
    missed, more = beside_a_stuck_one
    # One second is too short for anybody to be held up.
    assert {value for line in missed.lines for value in line.values} == {0.0}
    assert [line.name for line in more.lines] == [line.name for line in missed.lines]


async def test_an_app_that_answers_otherwise_is_not_measured() -> None:
    group = timing.groups(Report("", ()))[0]
    wrong = Group(group.title, Call(path="/nothing"), group.cases)
    with pytest.raises(RuntimeError, match="bare route answers 'GET of one item' with"):
        await compare(wrong, rounds=1)


async def test_each_app_has_a_ratio_a_round_to_the_first() -> None:
    group = timing.groups(Report("", ()))[0]
    table = await compare(group, rounds=2)
    assert [line.name for line in table.lines] == [case.name for case in group.cases]
    assert all(len(line.values) == 2 for line in table.lines)
    assert table.lines[0].values == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "broken"), [((1.0, 1.0, 9.0), False), ((1.0, 1.2, 1.2), True), ((1.0, 1.02), False)]
)
def test_a_line_is_broken_by_a_median_beyond_the_allowance(
    values: tuple[float, ...], broken: bool
) -> None:
    report = Report("", (), [Table("group", "ratio", [Line("app", values, Limit(1.0, 0.9))])])
    assert report.broken == (["group: app"] if broken else [])


def test_the_table_has_the_median_the_quartiles_and_the_limits() -> None:
    lines = [Line("first", [1.0, 1.0]), Line("other", [1.0, 2.0, 3.0], Limit(2.5, 1.5))]
    assert str(Table("group", "ratio", lines)).splitlines() == [
        "group  ratio        IQR  must hold  goal",
        "-----  -----  ---------  ---------  ----",
        "first   1.00  1.00-1.00",
        "other   2.00  1.50-2.50       2.50  1.50",
    ]


def test_every_block_is_imported() -> None:
    assert {
        "auth",
        "db",
        "errors",
        "filtering",
        "lifespan",
        "pagination",
        "request_id",
        "timing",
        "websockets",
    } <= set(imports.BLOCKS)
