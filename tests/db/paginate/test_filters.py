"""Filters of pages: of what is selected, of what is joined, and through relations."""

from typing import Annotated, Any

import pytest
from pydantic import create_model
from sqlalchemy import String, func, select, union
from sqlalchemy.orm import aliased, with_polymorphic

from fastkit.filtering import FilterParams, eq, ge, search
from fastkit.pagination import CursorParams, LimitOffsetParams, PageParams
from tests.db.paginate.models import Artist, Book, Note, Record, Song, Tag, Work
from tests.db.paginate.support import Backend, items

# One synchronous and one asynchronous session, on either database.
pytestmark = pytest.mark.parametrize(
    "shared_backend", ["sqlite", "postgresql+asyncpg"], indirect=True, scope="module"
)

Original = aliased(Song, name="original")
Performer = aliased(Artist, name="performer")
Both = with_polymorphic(Work, [Book])
TITLES = select(Record.title, Record.song_id).where(Record.number > 0).subquery()


def asking(filter_: Any, value: Any, kind: Any = PageParams) -> Any:
    """Parameters with that one filter."""
    x: Any = (Annotated[type(value), filter_], ...)
    model: Any = create_model("Query", __base__=(kind, FilterParams), x=x)
    return model(x=value)


# How many of what `music` has, or of the works, of which there are none.
FOUND: dict[str, tuple[Any, Any, Any, int]] = {
    "its own column": (select(Song), eq(Song.name), "s1", 4),
    "its column of columns": (select(Song.id), eq(Song.name), "s1", 4),
    "an expression": (select(Song), eq(func.upper(Song.name, type_=String)), "S1", 4),
    "an alias": (select(Original), eq(Original.name), "s1", 4),
    "a joined class": (select(Song).join(Song.artist), eq(Artist.name), "A1", 3),
    "a joined alias": (
        select(Song.id).outerjoin(Song.artist.of_type(Performer)),
        eq(Performer.name),
        "A1",
        3,
    ),
    "a joined one of the many": (select(Song).join(Song.tags), eq(Tag.name), "t0", 10),
    "a joined subquery": (
        select(Song).join(TITLES, TITLES.c.song_id == Song.id),
        eq(TITLES.c.title),
        "r2",
        5,
    ),
    "a subquery": (select(TITLES), eq(TITLES.c.title), "r2", 5),
    "groups": (select(Song.name).group_by(Song.name), ge(Song.id), 17, 3),
    "a relation": (select(Song), eq(Artist.name, through=Song.artist), "A1", 3),
    "a relation of columns": (select(Song.id), eq(Tag.name, through=Song.tags), "t0", 10),
    "a relation of an alias": (select(Original), eq(Artist.name, through=Original.artist), "A1", 3),
    "a relation of a joined class": (
        select(Song).join(Song.artist),
        eq(Song.name, through=Artist.songs),
        "s1",
        17,
    ),
    "a search": (select(Song), search(Song.name, eq(Artist.name, through=Song.artist)), "A1", 3),
    "an inherited column": (select(Book), eq(Work.title), "w", 0),
    "an inherited relation": (select(Book), ge(Note.id, through=Book.notes), 1, 0),
    "a relation of the parent": (select(Book), ge(Note.id, through=Work.notes), 1, 0),
    "a column of a subclass": (select(Both), ge(Both.Book.pages), 1, 0),
    "a relation of several classes": (select(Both), ge(Note.id, through=Both.notes), 1, 0),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_a_select_has_can_be_filtered_by(music: Backend, case: str) -> None:
    statement, filter_, value, count = FOUND[case]
    page = music.paginate(statement, asking(filter_, value))
    assert (len(page.items), page.total) == (count, count)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "another class": (select(Song), eq(Artist.name), "Artist.name"),
    "another class than the joined one": (select(Song).join(Song.artist), eq(Tag.name), "Tag.name"),
    "one of several": (select(Song), search(Song.name, Artist.name), "Artist.name"),
    "an expression": (
        select(Song),
        eq(func.upper(Artist.name, type_=String)),
        r"upper\(artist.name\)",
    ),
    "another class beside columns": (select(Song.id), eq(Artist.name), "Artist.name"),
    "the class of an alias": (select(Original), eq(Song.name), "Song.name"),
    "the class of a joined alias": (
        select(Song).join(Song.artist.of_type(Performer)),
        eq(Artist.name),
        "Artist.name",
    ),
    "the table of a subquery": (select(TITLES), eq(Record.title), "Record.title"),
    "a relation of another class": (
        select(Song),
        eq(Song.name, through=Artist.songs),
        "Artist.songs",
    ),
    "a relation of the class of an alias": (
        select(Original),
        eq(Tag.name, through=Song.tags),
        "Song.tags",
    ),
    "a relation of an alias": (select(Song), eq(Tag.name, through=Original.tags), "tags"),
}


@pytest.mark.parametrize("kind", [PageParams, LimitOffsetParams, CursorParams])
@pytest.mark.parametrize("case", REFUSED)
def test_what_a_select_lacks_is_refused_in_words(
    shared_backend: Backend, case: str, kind: Any
) -> None:
    statement, filter_, name = REFUSED[case]
    words = f"To filter by .*{name}, join its table in the select, or name the relations that lead"
    with pytest.raises(ValueError, match=words):
        shared_backend.paginate(statement, asking(filter_, "x", kind))


def test_of_a_select_with_a_limit_its_rows_are_filtered(music: Backend) -> None:
    limited = select(Song).order_by(Song.id.desc()).limit(4)
    page = music.paginate(limited, asking(eq(Song.name), "s1"))
    assert ([song.id for song in items([page])], page.total) == ([18], 1)
    walked = music.paginate(
        select(Song).where(Song.id > 15).limit(9), asking(ge(Song.id), 18, CursorParams)
    )
    assert [song.id for song in walked.items] == [18, 19]


def test_the_selects_own_order_stays(music: Backend) -> None:
    for statement in (select(Song), select(Song).join(Song.artist), select(Song).join(Song.tags)):
        page = music.paginate(statement.order_by(Song.id.desc()), asking(eq(Song.name), "s0"))
        found = [song.id for song in page.items]
        assert found == sorted(found, reverse=True)
        assert len(found) > 1


def test_what_is_no_select_is_refused_in_words_with_filters_too(shared_backend: Backend) -> None:
    statement = union(select(Song.id), select(Tag.id))
    with pytest.raises(TypeError, match="not a CompoundSelect"):
        shared_backend.paginate(statement, asking(eq(Song.name), "s1"))
