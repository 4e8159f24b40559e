"""The app in a real server, asked by a real client: on SQLite, and on PostgreSQL where it is."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import Server, find_postgres, run_server, temporary_database

APP = "examples.catalogue.app:app"
WORKS = 4284
NOBODY = 2_147_483_647


@pytest.fixture
def work(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """A work that is there for one test."""
    added = add(client, title="Étude")
    yield added
    client.delete(f"/works/{added['id']}")


def add(client: httpx.Client, **values: object) -> dict[str, Any]:
    body = {"artist_id": an_artist(client), "year": 2026, "technique": "Ink", **values}
    response = client.post("/works", json=body)
    assert response.status_code == 201, response.text
    added: dict[str, Any] = response.json()
    return added


def an_artist(client: httpx.Client) -> int:
    return int(client.get("/works", params={"size": 1}).json()["items"][0]["artist"]["id"])


def total(client: httpx.Client) -> int:
    return int(client.get("/works", params={"size": 1}).json()["total"])


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of a problem, which must say what the response says, and have this app's headers."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert float(response.headers["x-process-time"]) >= 0
    assert response.headers["server-timing"].startswith("app;dur=")
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    return body


def test_a_work_is_created_read_changed_and_deleted(client: httpx.Client) -> None:
    artist_id = an_artist(client)
    body = {"artist_id": artist_id, "title": "  Étude № 1 ", "year": 2026, "technique": "Ink"}
    created = client.post("/works", json=body)
    assert created.status_code == 201
    work = created.json()
    assert work["title"] == "Étude № 1"
    assert work["artist"]["id"] == artist_id
    assert work["support"] is None
    location = created.headers["location"]
    assert client.get(location).json() == work

    changed = client.patch(location, json={"title": None, "support": "paper"})
    assert changed.status_code == 200
    assert changed.json() == {**work, "title": None, "support": "paper"}
    assert client.get(location).json() == changed.json()

    deleted = client.delete(location)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert problem(client.get(location), 404)["detail"] == "No such work."


def test_the_number_of_a_deleted_work_is_not_given_again(client: httpx.Client) -> None:
    first = add(client)["id"]
    client.delete(f"/works/{first}")
    second = add(client)["id"]
    client.delete(f"/works/{second}")
    assert second > first


def test_a_change_touches_only_what_was_sent(client: httpx.Client, work: dict[str, Any]) -> None:
    assert client.patch(f"/works/{work['id']}", json={}).json() == work


@pytest.mark.parametrize(
    "changes",
    [
        {"year": None},
        {"artist_id": None},
        {"technique": None},
        {"year": 0},
        {"technique": " "},
        {"title": "\0"},
        {"title": "é" * 501},
        {"artist_id": 2**31},
        {"id": 1},
        [],
        None,
    ],
    ids=repr,
)
def test_a_change_that_the_table_cannot_hold_is_a_422(
    client: httpx.Client, work: dict[str, Any], changes: object
) -> None:
    url = f"/works/{work['id']}"
    assert problem(client.patch(url, json=changes), 422)["errors"]
    assert client.get(url).json() == work


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("number", "status"), [(NOBODY, 404), (0, 422), (2**31, 422), (10**30, 422), ("x", 422)]
)
def test_a_work_that_is_not_there_is_a_problem(
    client: httpx.Client, method: str, number: object, status: int
) -> None:
    body = None if method != "PATCH" else {"year": 2000}
    problem(client.request(method, f"/works/{number}", json=body), status)


def test_an_unknown_artist_is_the_apps_own_problem(
    client: httpx.Client, work: dict[str, Any]
) -> None:
    body = {"artist_id": NOBODY, "year": 2026, "technique": "Ink"}
    created = problem(client.post("/works", json=body), 409)
    assert created["detail"] == "There is no such artist."
    assert created["artist_id"] == NOBODY
    problem(client.patch(f"/works/{work['id']}", json={"artist_id": NOBODY}), 409)
    assert client.get(f"/works/{work['id']}").json() == work


def test_a_number_of_the_museum_is_there_once(client: httpx.Client) -> None:
    first = client.get("/works", params={"size": 1}).json()["items"][0]
    body = {
        "artist_id": first["artist"]["id"],
        "tate_id": first["tate_id"],
        "year": 2026,
        "technique": "secret sauce",
    }
    response = client.post("/works", json=body)
    problem(response, 409)
    assert "insert" not in response.text.lower()
    assert "secret sauce" not in response.text
    assert total(client) == WORKS


def test_a_failing_commit_is_no_2xx_and_leaves_nothing(client: httpx.Client) -> None:
    for _ in range(7):  # more than the pool has connections
        problem(client.post("/demo/failing-commit"), 409)
    assert total(client) == WORKS
    announced = client.get("/demo/announced").json()
    assert all(message.endswith(" was taken back.") for message in announced[-7:])


def test_an_error_takes_back_what_was_added_before(client: httpx.Client) -> None:
    assert problem(client.post("/demo/rollback"), 409)["detail"] == "On second thoughts, no."
    assert total(client) == WORKS


def test_changes_are_announced_when_they_are_committed(client: httpx.Client) -> None:
    number = add(client)["id"]
    client.patch(f"/works/{number}", json={"year": 2000})
    client.patch(f"/works/{number}", json={"artist_id": NOBODY})
    client.delete(f"/works/{number}")
    assert client.get("/demo/announced").json()[-3:] == [
        f"Work {number} was added.",
        f"Work {number} was changed.",
        f"Work {number} was deleted.",
    ]


def test_a_crash_tells_the_request_id_and_nothing_else(
    server: Server, client: httpx.Client
) -> None:
    response = client.get("/demo/crash")
    body = problem(response, 500)
    assert body["request_id"] == response.headers["x-request-id"]
    assert "hunter2" not in response.text
    log = server.wait_for_log("hunter2")  # the traceback
    assert f"[{body['request_id']}] fastkit.errors: unhandled RuntimeError" in log


def test_a_password_is_in_neither_answer_nor_log(server: Server, client: httpx.Client) -> None:
    complete = {"name": "Ada", "email": "ada@example.org", "password": "correct horse battery"}
    assert client.post("/demo/sign-up", json=complete).status_code == 204
    for missing in ("name", "email"):
        body = {name: value for name, value in complete.items() if name != missing}
        response = client.post("/demo/sign-up", json=body)
        (error,) = problem(response, 422)["errors"]
        assert error["loc"] == ["body", missing]
        assert "correct horse" not in response.text
    short = client.post("/demo/sign-up", json={**complete, "password": "tr0ub4dor"})
    assert problem(short, 422)["errors"][0]["loc"] == ["body", "password"]
    assert "tr0ub4dor" not in short.text
    assert not re.search("correct horse|tr0ub4dor", server.log)


@pytest.mark.parametrize("year", ["NaN", "Infinity", "-Infinity", "1e400", '"\\ud800"'])
def test_a_year_that_json_cannot_write_is_a_422(client: httpx.Client, year: str) -> None:
    body = f'{{"artist_id": 1, "year": {year}, "technique": "Ink"}}'
    headers = {"content-type": "application/json"}
    problem(client.post("/works", content=body, headers=headers), 422)


def test_an_error_of_the_apps_own_brings_its_type_title_and_members(client: httpx.Client) -> None:
    assert problem(client.get("/demo/teapot"), 418) == {
        "type": "https://www.rfc-editor.org/rfc/rfc2324#section-2.3.2",
        "title": "I'm a teapot",
        "status": 418,
        "detail": "A catalogue brews no coffee.",
        "brews": ["tea"],
    }


def test_the_routers_own_errors_are_problems(client: httpx.Client) -> None:
    problem(client.get("/no/such/path"), 404)
    response = client.put("/works/1")
    problem(response, 405)
    assert response.headers["allow"]


def test_a_stream_comes_in_parts_and_has_both_times(client: httpx.Client) -> None:
    with client.stream("GET", "/demo/slow") as response:
        arrived = [(time.monotonic(), line) for line in response.iter_lines()]
    assert response.status_code == 200
    assert len({line for _, line in arrived}) == 5
    assert arrived[-1][0] - arrived[0][0] > 0.6
    record = records_from(client, "GET", "/demo/slow")[0]
    assert record["outcome"] == "ok"
    assert record["duration"] > 1.2
    assert record["duration"] > record["time_to_first_byte"] + 0.6
    assert float(response.headers["x-process-time"]) < record["duration"] - 0.6


def records_from(client: httpx.Client, method: str, route: str) -> list[dict[str, Any]]:
    """The newest record of a request to `route`, and those before it; for the newest one has to
    wait, because a request is recorded after its response."""
    deadline = time.monotonic() + 10
    while True:
        records: list[dict[str, Any]] = client.get("/demo/requests").json()
        for index, record in enumerate(records):
            if (record["method"], record["route"]) == (method, route):
                return records[index:]
        assert time.monotonic() < deadline, records
        time.sleep(0.02)


def test_requests_are_recorded_by_route_and_not_by_path(client: httpx.Client) -> None:
    for work in client.get("/works", params={"size": 2}).json()["items"]:
        client.patch(f"/works/{work['id']}", json={})
    client.patch("/wp-login.php")
    records = records_from(client, "PATCH", "<unmatched>")[:3]
    assert [(record["route"], record["status"], record["outcome"]) for record in records] == [
        ("<unmatched>", 404, "ok"),
        ("/works/{work_id}", 200, "ok"),
        ("/works/{work_id}", 200, "ok"),
    ]


def test_a_client_does_not_choose_the_request_id(client: httpx.Client) -> None:
    for sent in ("chosen-by-the-client", "x" * 4000):
        response = client.get("/works/1", headers={"X-Request-ID": sent})
        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    names = {path.name for path in (Path(__file__).parent / "page").iterdir()}
    files = {name: client.get(f"/page/{name}") for name in names}
    assert all(file.status_code == 200 for file in files.values())
    assert files["page.css"].headers["content-type"].startswith("text/css")
    assert files["cards.js"].headers["content-type"].startswith("text/javascript")
    loaded = re.findall(r"""(?:\bsrc|<link[^>]*\bhref)=["']([^"']*)""", page.text)
    loaded = [url for url in loaded if url != "data:,"]
    assert all(url.removeprefix("page/") in names for url in loaded)
    for name, file in files.items():
        assert not re.search(r"@import|url\(|//[a-z]+\.", file.text) or name == "index.html"
        for module in re.findall(r'from "./([^"]*)"', file.text):
            assert module in names
    problem(client.get("/page/app.py"), 404)


def test_each_card_of_the_page_has_its_demo(client: httpx.Client) -> None:
    cards = re.findall(r'data-demo="([\w-]+)"', client.get("/").text)
    demos = client.get("/page/cards.js").text
    for card in cards:
        assert re.search(rf'^  async "?{card}"?\(out', demos, re.MULTILINE), card
    assert len(cards) == len(set(cards)) == 20
    assert client.get("/docs").status_code == 200


def test_the_schema_documents_the_declared_problems(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    responses = schema["paths"]["/works/{work_id}"]["get"]["responses"]
    assert responses["404"]["content"].keys() == {"application/problem+json"}
    assert "default" in responses
    assert "/" not in schema["paths"]


def test_workers_that_start_together_fill_the_database_once(
    database_url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        if database_url.startswith("sqlite"):
            url = f"sqlite+aiosqlite:///{tmp_path / 'catalogue.db'}"
        else:
            found = find_postgres()
            assert not isinstance(found, str)
            url = stack.enter_context(temporary_database(found)).url("asyncpg")
        env = {"CATALOGUE_DATABASE_URL": url}
        together = stack.enter_context(run_server(APP, env=env, args=("--workers", "3")))
        deadline = time.monotonic() + 120
        while together.log.count("Application startup complete.") < 3:
            assert time.monotonic() < deadline, together.log
            time.sleep(0.05)
        assert "Traceback" not in together.log
        later = stack.enter_context(run_server(APP, env=env))
        with httpx.Client(base_url=later.base_url, timeout=30) as client:
            assert total(client) == WORKS
