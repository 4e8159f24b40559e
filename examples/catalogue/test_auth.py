"""Sign-in, scopes, keys and what ends a login: on SQLite, on PostgreSQL, and with Redis."""

import json
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, create_engine, func, insert, inspect, make_url, select, text, update

from examples.catalogue.models import User, Work
from examples.catalogue.users import DEMO_KEY, DEMO_USERS
from fastkit.auth import BcryptHasher, hash_api_key
from tests.support import Server, find_redis, run_server, unavailable

APP = "examples.catalogue.app:app"
PASSWORDS = {user.username: user.password for user in DEMO_USERS}
SECRET = token_urlsafe(32)

Tokens = dict[str, Any]


@pytest.fixture
def client(server: Server) -> Generator[httpx.Client]:
    """Nobody: what is sent with a token says so."""
    with httpx.Client(base_url=server.base_url, timeout=30) as client:
        yield client


@pytest.fixture
def engine(database_url: str) -> Generator[Engine]:
    with engine_of(database_url) as engine:
        yield engine


@contextmanager
def engine_of(database_url: str) -> Generator[Engine]:
    """The app's database, beside the app."""
    url = make_url(database_url)
    name = "sqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg"
    engine = create_engine(url.set(drivername=name))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def served(database_url: str, **settings: object) -> Generator[tuple[Server, httpx.Client]]:
    """The app with other settings."""
    env = {"CATALOGUE_DATABASE_URL": database_url}
    env |= {f"CATALOGUE_{name.upper()}": str(value) for name, value in settings.items()}
    with (
        run_server(APP, env=env) as server,
        httpx.Client(base_url=server.base_url, timeout=30) as client,
    ):
        yield server, client


def log_in(client: httpx.Client, username: str, password: str | None = None) -> httpx.Response:
    form = {"grant_type": "password", "username": username}
    return client.post(
        "/auth/token", data={**form, "password": password or PASSWORDS.get(username, "a guess")}
    )


def tokens_of(response: httpx.Response) -> Tokens:
    assert response.status_code == 200, response.text
    tokens: Tokens = response.json()
    return tokens


def refresh(client: httpx.Client, tokens: Tokens) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return client.post("/auth/token", data=form)


def bearer(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def me(client: httpx.Client, tokens: Tokens) -> httpx.Response:
    return client.get("/auth/me", headers=bearer(tokens))


def problem(response: httpx.Response, status: int, challenge: str) -> None:
    """A refusal as the app's other errors are, with what the client has to do about it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    assert response.json()["status"] == status
    assert response.headers["www-authenticate"] == challenge


NOBODY = 'Bearer realm="catalogue"'
NO_TOKEN = f'{NOBODY}, error="invalid_token", error_description="The access token is not valid."'
NO_EDITOR = f'{NOBODY}, error="insufficient_scope", scope="works:write"'


WRITES = [
    ("POST", "/works", {"artist_id": 1, "year": 2026, "technique": "Ink"}),
    ("POST", "/works", {"no": "work"}),
    ("PATCH", "/works/1", {"title": "Mine"}),
    ("DELETE", "/works/1", None),
    ("DELETE", "/works/2147483647", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_only_an_editor_changes_works(
    client: httpx.Client, engine: Engine, method: str, path: str, body: object
) -> None:
    visitor = tokens_of(log_in(client, "demo-visitor"))
    with engine.connect() as connection:
        before = connection.execute(select(Work).order_by(Work.id)).all()
    problem(client.request(method, path, json=body), 401, NOBODY)
    forged = {"Authorization": "Bearer forged"}
    problem(client.request(method, path, json=body, headers=forged), 401, NO_TOKEN)
    refused = client.request(method, path, json=body, headers=bearer(visitor))
    problem(refused, 403, NO_EDITOR)
    with engine.connect() as connection:
        assert connection.execute(select(Work).order_by(Work.id)).all() == before


def test_a_disabled_user_is_told_nothing_that_a_stranger_is_not(client: httpx.Client) -> None:
    answers = [
        log_in(client, "demo-former"),
        log_in(client, "demo-visitor", "a guess"),
        log_in(client, "nobody"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {NOBODY}
    assert {answer.text for answer in answers} == {
        '{"error":"invalid_grant","error_description":"The username or the password is wrong."}'
    }


def test_guessing_is_slowed_down(client: httpx.Client) -> None:
    for _ in range(5):
        assert log_in(client, "a-target").status_code == 401
    slowed = log_in(client, "a-target")
    assert slowed.status_code == 429
    assert 0 < int(slowed.headers["retry-after"]) <= 120
    assert log_in(client, "demo-visitor").status_code == 200


def test_a_login_from_its_beginning_to_its_end(client: httpx.Client) -> None:
    answer = log_in(client, "demo-editor")
    first = tokens_of(answer)
    assert answer.headers["cache-control"] == "no-store"
    assert (first["token_type"], first["expires_in"], first["scope"]) == (
        "bearer",
        900,
        "works:write",
    )
    assert me(client, first).json() == {"sub": "demo-editor", "scopes": ["works:write"]}
    added = client.post(
        "/works", headers=bearer(first), json={"artist_id": 1, "year": 2026, "technique": "Ink"}
    )
    assert added.status_code == 201
    second = tokens_of(refresh(client, first))
    assert refresh(client, first).json()["refresh_token"] == second["refresh_token"]
    removed = client.delete(added.headers["location"], headers=bearer(second))
    assert removed.status_code == 204
    assert client.post("/auth/logout", headers=bearer(second)).status_code == 204
    for tokens in (first, second):
        problem(me(client, tokens), 401, NO_TOKEN)
        assert refresh(client, tokens).json()["error"] == "invalid_grant"


def test_signing_out_ends_this_login_or_all_of_them(client: httpx.Client) -> None:
    here, there, elsewhere = (tokens_of(log_in(client, "demo-visitor")) for _ in range(3))
    client.post("/auth/logout", headers=bearer(here))
    assert [me(client, each).status_code for each in (here, there, elsewhere)] == [401, 200, 200]
    editor = tokens_of(log_in(client, "demo-editor"))
    client.post("/auth/logout", params={"all": True}, headers=bearer(there))
    assert [me(client, each).status_code for each in (there, elsewhere, editor)] == [401, 401, 200]
    assert refresh(client, elsewhere).status_code == 401


def test_what_the_database_says_of_a_user_counts_at_once(
    client: httpx.Client, engine: Engine
) -> None:
    def change(**values: object) -> None:
        with engine.begin() as connection:
            connection.execute(update(User).where(User.username == "short-lived").values(**values))

    with engine.begin() as connection:
        hashed = BcryptHasher(rounds=4).hash("terre verte")
        values = {"hashed_password": hashed, "disabled": False, "scopes": "works:write"}
        connection.execute(insert(User).values(username="short-lived", **values))
    tokens = tokens_of(log_in(client, "short-lived", "terre verte"))
    change(scopes="")
    assert me(client, tokens).json()["scopes"] == []
    problem(client.delete("/works/1", headers=bearer(tokens)), 403, NO_EDITOR)
    change(disabled=True)
    problem(me(client, tokens), 401, NO_TOKEN)
    assert refresh(client, tokens).status_code == 401
    change(disabled=False, hashed_password=BcryptHasher(rounds=4).hash("another"))
    problem(me(client, tokens), 401, NO_TOKEN)
    assert refresh(client, tokens).status_code == 401


def test_what_happens_is_in_the_log_with_the_requests_id(
    server: Server, client: httpx.Client
) -> None:
    def logged(answer: httpx.Response, kind: str, more: str) -> None:
        log = server.wait_for_log(f"[{answer.headers['x-request-id']}] catalogue.auth: {kind}: ")
        (line,) = re.findall(rf"\[{answer.headers['x-request-id']}\] catalogue\.auth: (.*)", log)
        assert re.fullmatch(rf"{kind}: {more}", line), line

    subject = "subject demo-editor, login [0-9a-f]{32}, from 127.0.0.1, ok"
    answer = log_in(client, "demo-editor")
    logged(answer, "login", subject)
    first = tokens_of(answer)
    answer = refresh(client, first)
    logged(answer, "refresh", subject)
    second = tokens_of(answer)
    tokens_of(refresh(client, second))
    logged(refresh(client, first), "reuse", subject)
    logged(
        log_in(client, "typed-a-password-here", "or-there"),
        "login_failed",
        "subject None, login None, from 127.0.0.1, unknown user",
    )
    logged(
        log_in(client, "demo-former"),
        "login_failed",
        "subject demo-former, login None, from 127.0.0.1, disabled",
    )
    logged(
        client.post("/auth/logout", headers=bearer(tokens_of(log_in(client, "demo-editor")))),
        "logout",
        subject,
    )
    typed = [*PASSWORDS.values(), "typed-a-password-here", "or-there"]
    given = [first["access_token"], first["refresh_token"]]
    assert [secret for secret in typed + given if secret in server.log] == []


def test_machines_import_each_work_once(client: httpx.Client, engine: Engine) -> None:
    def send(works: object, **headers: str) -> httpx.Response:
        return client.post("/imports", json=works, headers=headers)

    one, two = (
        {"tate_id": number, "artist_id": 1, "year": 2026, "technique": "Ink"}
        for number in (1_900_000_001, 1_900_000_002)
    )
    challenge = 'ApiKey header="X-API-Key"'
    problem(send([one]), 401, challenge)
    problem(send([one], **{"X-API-Key": DEMO_KEY + "?"}), 401, challenge)
    editor = bearer(tokens_of(log_in(client, "demo-editor")))
    problem(send([one], **editor), 401, challenge)
    key = {"X-API-Key": DEMO_KEY}
    assert send([], **key).status_code == 422
    assert send([{**one, "tate_id": None}], **key).status_code == 422
    assert send([one, {**two, "artist_id": 2_147_483_647}], **key).status_code == 409
    assert send([one], **key).json() == {"machine": "demo", "added": 1, "known": 0}
    again = send([two, one, two], **key)
    assert again.status_code == 201
    assert again.json() == {"machine": "demo", "added": 1, "known": 2}
    with engine.begin() as connection:
        found = select(func.count()).where(Work.tate_id.in_([one["tate_id"], two["tate_id"]]))
        assert connection.scalar(found) == 2


def test_two_processes_with_one_secret_know_each_others_logins(database_url: str) -> None:
    with (
        served(database_url, secret=SECRET) as (first, here),
        served(database_url, secret=SECRET) as (_, there),
    ):
        assert "CATALOGUE_SECRET" not in first.log
        tokens = tokens_of(log_in(here, "demo-editor"))
        assert me(there, tokens).status_code == 200
        successor = tokens_of(refresh(there, tokens))
        assert refresh(here, tokens).json()["refresh_token"] == successor["refresh_token"]
        there.post("/auth/logout", headers=bearer(tokens))
        assert me(here, successor).status_code == 401


def test_a_secret_that_is_made_up_is_told_of(server: Server) -> None:
    assert server.log.count("CATALOGUE_SECRET is not set, so one is made up") == 1


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'catalogue.db'}"


def test_a_secret_that_can_be_guessed_is_refused(sqlite_url: str) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match="has 8 bytes and needs at least 32") as failure,
        served(sqlite_url, secret="alizarin"),  # noqa: S106
    ):
        pass
    assert "alizarin" not in str(failure.value)


def test_an_access_token_lasts_as_long_as_the_settings_say(sqlite_url: str) -> None:
    with served(sqlite_url, access_seconds=2) as (_, client):
        tokens = tokens_of(log_in(client, "demo-visitor"))
        assert tokens["expires_in"] == 2
        deadline = time.monotonic() + 30
        while (answer := me(client, tokens)).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        problem(answer, 401, NO_TOKEN)
        assert me(client, tokens_of(refresh(client, tokens))).status_code == 200


def test_without_the_demo_there_is_nothing_that_everybody_knows(sqlite_url: str) -> None:
    with served(sqlite_url) as (_, client):
        accounts = client.get("/demo/accounts").json()
        assert {user["username"]: user["password"] for user in accounts["users"]} == PASSWORDS
        assert accounts["import_key"] == DEMO_KEY
    with engine_of(sqlite_url) as engine, engine.begin() as connection:
        cheap = BcryptHasher(rounds=4).hash("caput mortuum")
        values = {"hashed_password": cheap, "disabled": False, "scopes": ""}
        connection.execute(insert(User).values(username="curator", **values))
    with served(sqlite_url, demo=False) as (_, client):
        assert client.get("/demo/accounts").json() is None
        assert [log_in(client, name).status_code for name in PASSWORDS] == [401, 401, 401]
        assert client.post("/imports", headers={"X-API-Key": DEMO_KEY}).status_code == 404
        # Who is not of the demo stays, and gets a hash that takes its time.
        tokens = tokens_of(log_in(client, "curator", "caput mortuum"))
        assert me(client, tokens).status_code == 200
    with engine_of(sqlite_url) as engine, engine.connect() as connection:
        (row,) = connection.execute(select(User.username, User.hashed_password)).all()
        assert row.username == "curator"
        assert row.hashed_password.startswith("$2b$12$")


def test_machines_have_keys_by_the_settings(sqlite_url: str) -> None:
    key = token_urlsafe(32)
    keys = json.dumps({"museum": hash_api_key(key)})
    with served(sqlite_url, import_keys=keys, demo=False) as (_, client):
        work = {"tate_id": 1_900_000_003, "artist_id": 1, "year": 2026, "technique": "Ink"}
        answer = client.post("/imports", json=[work], headers={"X-API-Key": key})
        assert answer.json() == {"machine": "museum", "added": 1, "known": 0}
        assert client.get("/demo/announced").json() == ["museum imported 1 of 1 works."]
    with (
        pytest.raises(pytest.fail.Exception, match="'museum' is no hash of one") as failure,
        served(sqlite_url, import_keys=json.dumps({"museum": key})),
    ):
        pass
    assert key not in str(failure.value)


def test_logins_are_kept_in_redis_by_a_setting(sqlite_url: str) -> None:
    found = find_redis()
    if isinstance(found, str):
        unavailable(found)
    settings = {"redis_url": found.url, "secret": SECRET}
    with served(sqlite_url, **settings) as (_, client):
        tokens = tokens_of(log_in(client, "demo-editor"))
    with served(sqlite_url, **settings) as (_, client):
        assert me(client, tokens).status_code == 200
        successor = tokens_of(refresh(client, tokens))
        client.post("/auth/logout", params={"all": True}, headers=bearer(successor))
        assert refresh(client, successor).status_code == 401
    with engine_of(sqlite_url) as engine:
        assert sorted(inspect(engine).get_table_names()) == ["artists", "users", "works"]


def test_a_redis_that_does_not_answer_is_a_503(sqlite_url: str) -> None:
    with served(sqlite_url, redis_url="redis://127.0.0.1:1") as (_, client):
        answer = log_in(client, "demo-editor")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/works", params={"size": 1}).status_code == 200


def test_the_tables_of_users_and_logins_are_the_apps_own(
    client: httpx.Client, engine: Engine
) -> None:
    tables = ["artists", "fastkit_logins", "users", "works"]
    assert sorted(inspect(engine).get_table_names()) == tables
    tokens = tokens_of(log_in(client, "demo-visitor"))
    with engine.connect() as connection:
        dump = repr(connection.execute(text("SELECT * FROM fastkit_logins")).all())
        users = repr(connection.execute(text("SELECT * FROM users")).all())
    assert "demo-visitor" in dump
    secrets = [tokens["access_token"], tokens["refresh_token"], *PASSWORDS.values()]
    assert [secret for secret in secrets if secret in dump + users] == []


def test_the_schema_says_what_takes_which_secret(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    schemes = schema["components"]["securitySchemes"]
    assert schemes["catalogue"]["flows"]["password"] == {
        "tokenUrl": "auth/token",
        "refreshUrl": "auth/token",
        "scopes": {"works:write": ""},
    }
    assert schemes["X-API-Key"]["type"] == "apiKey"
    secured = {
        f"{method.upper()} {path}": security
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if (security := operation.get("security"))
    }
    editors = [{"catalogue": ["works:write"]}]
    assert secured == {
        "POST /auth/logout": [{"catalogue": []}],
        "GET /auth/me": [{"catalogue": []}],
        "POST /works": editors,
        "PATCH /works/{work_id}": editors,
        "DELETE /works/{work_id}": editors,
        "POST /imports": [{"X-API-Key": []}],
    }
    responses = schema["paths"]["/works"]["post"]["responses"]
    assert responses["403"]["content"].keys() == {"application/problem+json"}
