"""Databases that a file's tests share: each test says what is in their tables."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from tests.db.paginate.models import Artist, Base, Record, Song, Tag, keyless
from tests.db.paginate.support import DRIVERS, Backend, open_backend
from tests.support import Postgres, temporary_database


@pytest.fixture(scope="module", params=DRIVERS)
def shared_backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    driver: str = request.param
    if driver.startswith("sqlite"):
        file = tmp_path_factory.mktemp("paginate") / "test.db"
        with open_backend(f"{driver}:///{file}", is_async="aio" in driver) as backend:
            yield backend
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    with temporary_database(server) as database:
        url = database.url(driver.removeprefix("postgresql+").removesuffix("+async"))
        with open_backend(url, is_async=driver != "psycopg") as backend:
            yield backend


@pytest.fixture
def backend(shared_backend: Backend) -> Iterator[Backend]:
    """A database with empty tables on each driver, sync and async."""
    yield shared_backend
    tables = [*reversed(Base.metadata.sorted_tables), keyless]
    shared_backend.execute("UPDATE song SET cover_of_id = NULL", *(t.delete() for t in tables))


@pytest.fixture(scope="module")
def music(shared_backend: Backend) -> Backend:
    """20 songs by 4 artists, most with tags and records, and some with nothing of all that."""
    artists = [Artist(id=i, name=f"A{i % 3}", born=None if i == 2 else 1900 + i) for i in range(4)]
    tags = [Tag(id=i, name=f"t{i % 2}") for i in range(4)]
    songs = [
        Song(
            id=i,
            name=f"s{i * 7 % 5}",
            year=None if i % 4 == 0 else 2000 + i % 3,
            artist_id=None if i % 6 == 5 else i % 4,
        )
        for i in range(20)
    ]

    def fill(session: Session) -> None:
        session.add_all([*artists, *tags])
        session.flush()
        session.add_all(songs)
        session.flush()
        for song in songs:
            song.tags = [tag for tag in tags if song.id % (tag.id + 2) == 0]
            song.cover_of_id = song.id // 2 if song.id % 3 else None
            session.add_all(
                Record(song_id=song.id, number=n, title=f"r{n}", data={"n": n})
                for n in range(song.id % 4)
            )

    shared_backend.run(fill)
    return shared_backend
