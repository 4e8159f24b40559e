"""Selects that SQLAlchemy changes, or of which it hides a part: pages are right, or refused."""

from typing import Annotated, Any, cast

import pytest
from fastapi.exceptions import RequestValidationError
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    bindparam,
    func,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    aliased,
    column_property,
    mapped_column,
    with_polymorphic,
)
from sqlalchemy.sql.elements import ColumnElement

from fastkit.filtering import FilterParams, sort_by
from fastkit.pagination import CursorParams, LimitOffsetParams, PageParams
from tests.db.paginate.models import Base, Book, Disc, Note, Poem, Song, Tag, Track, Work
from tests.db.paginate.support import Backend, all_pages, items, walk, walk_back

# One synchronous and one asynchronous session, on either database.
pytestmark = pytest.mark.parametrize(
    "shared_backend", ["sqlite", "postgresql+asyncpg"], indirect=True, scope="module"
)

Cover = aliased(Song)
One, Two = aliased(Song), aliased(Song)
LOW, LENGTH = func.lower(Song.name, type_=String), func.length(Song.name, type_=Integer)
Verse = aliased(Poem)
EARLIER = select(func.count(Verse.id)).where(Verse.id < Work.id).correlate(Work).scalar_subquery()
EVERY = (CursorParams(), PageParams(), LimitOffsetParams())


def plain(row: Any) -> Any:
    parts: Any = tuple(row) if isinstance(row, Row) else (row,)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return tuple(getattr(part, "id", part) for part in parts)


def check(backend: Backend, statement: Any, order: list[Any]) -> list[Any]:
    """The rows, which a walk has in the same order as numbered pages."""
    whole = backend.run(
        lambda session: [plain(row) for row in session.execute(statement).unique().all()]
    )
    pages = walk(backend, statement, 2, order_by=order, into=plain)
    found = items(pages)
    assert sorted(found, key=repr) == sorted(whole, key=repr)
    back = walk_back(backend, statement, pages[-1], 2, order_by=order, into=plain)
    assert [page.items for page in back] == [page.items for page in pages[-2::-1]]
    numbered = all_pages(backend, statement, 2, order_by=order, into=plain)
    assert items(numbered) == found
    assert {page.total for page in numbered} == {len(whole)}
    return found


@pytest.fixture(scope="module")
def works(shared_backend: Backend) -> Backend:
    """Works of three classes with notes, discs with tracks, and songs with tags and covers."""
    tags = [Tag(id=i, name=f"t{i % 2}") for i in range(1, 5)]
    songs = [
        Song(id=i, name=f"s{i % 3}", cover_of_id=i // 2 or None, tags=tags[: i % 4])
        for i in range(1, 8)
    ]
    shared_backend.add(
        *songs,
        *(Work(id=i, title=f"w{i % 3}", notes=[Note(), Note()]) for i in range(1, 5)),
        *(Book(id=i, title=f"b{i % 3}", pages=i % 4 or None, notes=[Note()]) for i in range(5, 10)),
        *(Poem(id=i, title=f"p{i % 3}", verses=i % 2 or None) for i in range(10, 14)),
        *(
            Disc(id=i, name=f"d{i % 2}", tracks=[Track() for _ in range(i % 3)])
            for i in range(1, 7)
        ),
    )
    return shared_backend


def test_an_alias_without_a_name_is_a_member_of_its_rows(works: Backend) -> None:
    both = select(Song, Cover).join(Cover, Song.cover_of)
    assert {len(row) for row in check(works, both, [Cover.name])} == {2}
    check(works, select(Song.name, Cover).join(Cover, Song.cover_of), [Song.name])


class Twins(CursorParams, FilterParams):
    sort: Annotated[str, sort_by(one=One.name, two=Two.name)] = "one"


def test_a_cursor_is_bound_to_the_name_it_is_sorted_by(works: Backend) -> None:
    twins = select(One, Two).join(Two, One.cover_of)
    cursor = works.paginate(twins, Twins(size=1, sort="one")).next_cursor
    assert works.paginate(twins, Twins(size=1, cursor=cursor)).items
    with pytest.raises(RequestValidationError):
        works.paginate(twins, Twins(size=1, sort="two", cursor=cursor))


NESTED: dict[str, tuple[Any, list[Any]]] = {
    "objects of an outer many-to-many": (select(Song).outerjoin(Song.tags), [Song.name]),
    "a joined subclass": (
        select(Note.id, Book.title).join(Book, Book.id == Note.work_id),
        [Book.pages, Book.title],
    ),
    "an outer joined subclass": (
        select(Note.id, Book.title).outerjoin(Book, Book.id == Note.work_id),
        [Book.pages, Book.title],
    ),
    "objects and an outer joined subclass": (
        select(Note).outerjoin(Book, Book.id == Note.work_id),
        [Book.pages.desc()],
    ),
    "with_polymorphic": (
        select(Note.id, (every := with_polymorphic(Work, [Book])).title).outerjoin(
            every, every.id == Note.work_id
        ),
        [every.Book.pages],
    ),
    "a flat alias": (
        select(Note.id, (flat := aliased(Book, flat=True)).title).outerjoin(
            flat, flat.id == Note.work_id
        ),
        [flat.pages],
    ),
}


@pytest.mark.parametrize("case", NESTED)
def test_joins_in_brackets(works: Backend, case: str) -> None:
    assert len(check(works, *NESTED[case])) > 4


def test_rows_of_an_outer_many_to_many_have_pages_but_no_cursors(works: Backend) -> None:
    for statement in (
        select(Song.id, Tag.name).outerjoin(Song.tags),
        select(Song, Tag).outerjoin(Song.tags),
    ):
        pages = all_pages(works, statement, 3, order_by=[Tag.name, Song.id], into=plain)
        assert [row[0] for row in items(pages)] == [2, 3, 6, 7, 1, 2, 3, 3, 5, 6, 7, 7, 4]
        with pytest.raises(ValueError, match="equal rows apart"):
            works.paginate(statement, CursorParams())


def test_what_is_eagerly_joined_is_no_part_of_the_select(works: Backend) -> None:
    counted = select(Disc, func.count(Track.id)).outerjoin(Disc.tracks).group_by(Disc.id)
    assert check(works, counted, [func.count(Track.id)]) == [
        (3, 0), (6, 0), (1, 1), (4, 1), (2, 2), (5, 2)
    ]  # fmt: skip
    assert len(check(works, select(Disc, Track).join(Disc.tracks), [Disc.name])) == 6
    assert len(check(works, select(Disc).join(Disc.tracks), [Disc.name])) == 4
    grouped = select(Disc).outerjoin(Disc.tracks).group_by(Disc.id)
    assert len(check(works, grouped, [func.count(Track.id)])) == 6


def test_groups_by_what_may_be_several_columns(works: Backend) -> None:
    count = func.count()
    assert check(works, select(LOW, count).group_by(LOW), [count]) == [
        ("s0", 2), ("s2", 2), ("s1", 3)
    ]  # fmt: skip
    assert (
        len(check(works, select(func.max(Song.id), count).group_by(LOW, LENGTH), [count.desc()]))
        == 3
    )
    tagged = select(Song, func.count(Tag.id)).outerjoin(Song.tags).group_by(cast("Any", Song))
    assert len(check(works, tagged, [func.count(Tag.id)])) == 7
    nameless = func.unknown(Song.name)
    for order in ([], [count]):
        with pytest.raises(TypeError, match="cannot hold a value"):
            works.paginate(
                select(count).select_from(Song).group_by(nameless), CursorParams(), order_by=order
            )


@pytest.mark.parametrize(
    "order",
    [
        [Poem.verses],
        [Poem.verses.desc()],
        [Poem.title],
        [func.coalesce(Poem.verses, 7, type_=Integer)],
        [EARLIER],
        [func.coalesce(Poem.verses, EARLIER, type_=Integer)],
    ],
)
def test_sorted_by_a_column_that_one_class_of_a_table_has(works: Backend, order: Any) -> None:
    assert len(check(works, select(Work), order)) == 13
    assert len(check(works, select(Work.id), order)) == 13
    assert len(check(works, select(Work).outerjoin(Work.notes), order)) == 13


def test_a_class_that_shares_a_table_has_its_own_rows(works: Backend) -> None:
    limited = select(Poem).limit(3).order_by(Poem.id)
    assert [poem.id for poem in items(all_pages(works, limited, 2))] == [10, 11, 12]
    for statement in (select(Poem), select(Poem).outerjoin(Poem.notes), select(Poem.id)):
        assert len(check(works, statement, [Poem.title])) == 4
    poem = aliased(Poem)
    assert len(check(works, select(poem), [poem.verses, poem.title])) == 4
    joined = select(Work.id).outerjoin(poem, poem.id == Work.id)
    assert len(check(works, joined, [poem.verses])) == 13


NUMBER: ColumnElement[int] = func.row_number(type_=Integer).over(order_by=Song.id.desc())


class Counted(Base):
    __table__ = Song.__table__
    __mapper_args__ = {"include_properties": ["id"]}  # noqa: RUF012
    number = column_property(func.row_number().over(order_by=Song.__table__.c.id))


def test_windows_belong_into_a_subquery(works: Backend) -> None:
    numbered = select(Song.id, NUMBER.label("number"))
    for statement, order in (
        (numbered, []),
        (select(Song, NUMBER + 1), []),
        (select(Counted), []),
        (select(Song), [NUMBER]),
        (select(Song.id), [NUMBER.desc()]),
    ):
        with pytest.raises(ValueError, match=r"window function.*make it a"):
            works.paginate(statement, CursorParams(), order_by=order)
    page = works.paginate(numbered, PageParams(page=2, size=3), order_by=[Song.id])
    assert [tuple(row) for row in page.items] == [(4, 4), (5, 3), (6, 2)]
    inside = numbered.subquery()
    check(works, select(inside).distinct(), [inside.c.number])
    last = select(func.max(inside.c.number)).scalar_subquery()
    check(works, select(Song.id, last), [Song.name])


@pytest.mark.filterwarnings("ignore:Passing expression to")
@pytest.mark.parametrize("params", EVERY)
def test_distinct_on_belongs_into_a_subquery(works: Backend, params: Any) -> None:
    for statement in (select(Song), select(Song.id, Song.name)):
        some = [statement.distinct(Song.name)]
        if hasattr(postgresql, "distinct_on"):  # SQLAlchemy 2.1
            some.append(statement.ext(postgresql.distinct_on(Song.name)))
        for distinct in some:
            with pytest.raises(ValueError, match=r"DISTINCT ON.*make it a subquery"):
                works.paginate(distinct, params)


def test_citext(works: Backend) -> None:
    table = Table(
        "folded",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(collation="NOCASE").with_variant(postgresql.CITEXT(), "postgresql")),
    )
    if not works.is_sqlite:
        works.execute("CREATE EXTENSION IF NOT EXISTS citext")
    works.run(lambda session: table.create(session.connection()))
    names = ["B", "a", "b", "A", "c", "C", "aB", "Ab", None]
    works.execute(*(table.insert().values(id=i, name=name) for i, name in enumerate(names)))
    found = check(works, select(table), [table.c.name])
    assert [i for i, _ in found] == [1, 3, 6, 7, 0, 2, 4, 5, 8]
    check(works, select(table), [table.c.name.desc()])


def test_an_object_that_a_subquery_repeats_comes_once(works: Backend) -> None:
    twice = aliased(Song, union_all(select(Song), select(Song)).subquery())
    tagged = aliased(Song, select(Song).join(Song.tags).subquery())
    named = aliased(Song, select(Song).join(Song.tags).cte())
    for subject, count in ((twice, 7), (tagged, 6), (named, 6)):
        assert len(check(works, select(subject), [subject.name])) == count
        page = works.paginate(select(subject), PageParams(size=3), total="none")
        assert (len(page.items), page.has_next) == (3, True)


class Concrete(DeclarativeBase): ...


class Person(ConcreteBase, Concrete):
    __tablename__ = "person"
    __mapper_args__ = {"polymorphic_identity": "person", "concrete": True}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)


class Singer(Person):
    __tablename__ = "singer"
    __mapper_args__ = {"polymorphic_identity": "singer", "concrete": True}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.mark.parametrize("params", EVERY)
def test_concrete_classes_are_paged_one_by_one(works: Backend, params: Any) -> None:
    with pytest.raises(ValueError, match=r"Person come from several tables.* one by one"):
        works.paginate(select(Person), params)
    works.run(lambda session: Concrete.metadata.create_all(session.connection()))
    works.execute("DELETE FROM singer", "INSERT INTO singer VALUES (1, 'x')")
    assert works.paginate(select(Singer), params, order_by=[Singer.name]).items


class Shouted(String):
    def column_expression(self, colexpr: Any) -> Any:
        return func.upper(colexpr, type_=self)


class Whispered(String):
    def bind_expression(self, bindvalue: Any) -> Any:
        return func.lower(bindvalue, type_=String)


@pytest.mark.parametrize("type_", [Shouted(), Whispered()])
def test_cursors_need_the_values_that_are_stored(works: Backend, type_: Any) -> None:
    order = [type_coerce(Song.name, type_)]
    with pytest.raises(TypeError, match="SQL changes on its way: sort by another"):
        works.paginate(select(Song), CursorParams(), order_by=order)
    assert works.paginate(select(Song), PageParams(), order_by=order).items


def test_a_parameter_of_the_selects_own_keeps_its_value(works: Backend) -> None:
    statement = select(Song).where(Song.id > bindparam("fastkit_key_0", 2))
    assert check(works, statement, [Song.id.desc()]) == [(7,), (6,), (5,), (4,), (3,)]
