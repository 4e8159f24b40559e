"""The app in a real server: on SQLite, and on PostgreSQL where it is."""

from collections.abc import Iterator

import httpx
import pytest

from examples.catalogue.users import DEMO_USERS
from tests.support import Server, find_postgres, run_server, temporary_database, unavailable

APP = "examples.catalogue.app:app"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('catalogue') / 'catalogue.db'}"
        return
    found = find_postgres()
    if isinstance(found, str):
        unavailable(found)
    with temporary_database(found) as database:
        yield database.url("asyncpg")


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[Server]:
    with run_server(APP, env={"CATALOGUE_DATABASE_URL": database_url}) as server:
        yield server


@pytest.fixture(scope="module")
def editor(server: Server) -> dict[str, str]:
    """The header of a request that may change works."""
    user = next(user for user in DEMO_USERS if user.scopes and not user.disabled)
    form = {"grant_type": "password", "username": user.username, "password": user.password}
    response = httpx.post(f"{server.base_url}/auth/token", data=form, timeout=30)
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


@pytest.fixture
def client(server: Server, editor: dict[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, headers=editor, timeout=30) as client:
        yield client
