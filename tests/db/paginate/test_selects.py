"""What may be selected: joins, rows, columns, tables, groups; and what is refused in words."""

from typing import Any, cast

import pytest
from sqlalchemy import (
    Interval,
    Row,
    String,
    and_,
    desc,
    func,
    literal_column,
    nulls_first,
    or_,
    select,
    text,
    true,
    type_coerce,
    union,
)
from sqlalchemy.orm import (
    aliased,
    contains_eager,
    defer,
    joinedload,
    selectinload,
    subqueryload,
    with_loader_criteria,
    with_polymorphic,
)

from fastkit.pagination import Capped, CursorParams, LimitOffsetParams, PageParams
from tests.db.paginate.models import Artist, Book, Note, Record, Song, Tag, Work, keyless, song_tag
from tests.db.paginate.support import Backend, all_pages, items, walk, walk_back

Original = aliased(Song, name="original")
BY_NAME = cast("Any", desc("name"))
ONE = cast("Any", literal_column("1"))


# One synchronous and one asynchronous session, on either database.
pytestmark = pytest.mark.parametrize(
    "shared_backend", ["sqlite", "postgresql+asyncpg"], indirect=True, scope="module"
)


def ids(pages: Any) -> list[int]:
    return [item.id for item in items(pages)]


def expected(backend: Backend, statement: Any) -> list[int]:
    return backend.run(
        lambda session: [getattr(each, "id", each) for each in session.scalars(statement).unique()]
    )


TO_ONE = select(Song).join(Song.artist)
MAYBE_ONE = select(Song).outerjoin(Song.artist)
TO_MANY = select(Song).join(Song.tags)
ENTITIES: dict[str, tuple[Any, list[Any]]] = {
    "inner to-one": (TO_ONE, [Artist.name.desc(), Song.year]),
    "to-one under a condition": (
        select(Song).join(Artist, and_(Artist.id == Song.artist_id, Artist.born > 1900)),
        [Artist.name, Song.year],
    ),
    "outer to-one": (MAYBE_ONE, [Artist.name, Artist.born.desc()]),
    "expression of a joined table": (MAYBE_ONE, [func.lower(Artist.name, type_=String).desc()]),
    "outer to-one, distinct": (MAYBE_ONE.distinct(), [Artist.name, Song.name]),
    "distinct by an expression": (
        select(Artist).distinct(),
        [func.lower(Artist.name, type_=String).desc()],
    ),
    "distinct of many by an expression": (
        select(Artist).join(Artist.songs).distinct(),
        [func.lower(Artist.name, type_=String), Artist.born],
    ),
    "self-join": (
        select(Song).outerjoin(Song.cover_of.of_type(Original)),
        [Original.name, Song.name.desc()],
    ),
    "many-to-many": (TO_MANY, [Song.name, Song.year.desc()]),
    "one-to-many": (select(Song).outerjoin(Song.records), [Song.year]),
    "one-to-many and to-one": (MAYBE_ONE.join(Song.records), [Artist.name, Song.year]),
    "a joined one of the many": (
        TO_MANY.outerjoin(Song.records).outerjoin(Song.artist),
        [Artist.born, Song.name],
    ),
    "from the many": (select(Song).select_from(Record).join(Record.song), [Song.name]),
    "several tables": (select(Song).where(Song.id == Record.song_id), [Song.name]),
    "column property": (select(Song), [Song.record_count.desc()]),  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    "two expressions that differ in a value": (
        select(Song),
        [(Song.id - 10) * (Song.id - 10), (Song.id - 9) * (Song.id - 9)],
    ),
    "joined eager loading": (select(Song).options(joinedload(Song.tags)), [Song.name]),
    "joined eager loading of a join": (TO_MANY.options(joinedload(Song.records)), [Song.name]),
    "select-in loading": (select(Song).options(selectinload(Song.tags)), [Song.name]),
    "subquery loading": (select(Song).options(subqueryload(Song.tags)), [Song.name]),
    "a key that is not loaded": (select(Song).options(defer(Song.name)), [Song.name]),
    "part of the primary key is given": (select(Song), [Song.id.desc()]),
    "subquery in WHERE": (
        select(Song).where(Song.id.in_(select(song_tag.c.song_id))),
        [nulls_first(Song.year)],
    ),
    "an alias of a subquery": (
        select(late := aliased(Song, select(Song).where(Song.id > 3).subquery(), name="late")),
        [late.year.desc()],
    ),
}


@pytest.mark.parametrize("case", ENTITIES)
def test_each_object_is_on_one_page(music: Backend, case: str) -> None:
    statement, order = ENTITIES[case]
    forwards = walk(music, statement, 3, order_by=order)
    found = ids(forwards)
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(expected(music, statement))
    assert all(len(page.items) == 3 for page in forwards[:-1])
    back = walk_back(music, statement, forwards[-1], 3, order_by=order)
    assert [ids([page]) for page in back] == [ids([page]) for page in forwards[-2::-1]]
    numbered = all_pages(music, statement, 3, order_by=order)
    assert ids(numbered) == found
    assert {page.total for page in numbered} == {len(found)}
    beyond = music.paginate(statement, PageParams(page=99, size=3), order_by=order)
    assert (beyond.items, beyond.total, beyond.has_next) == ([], len(found), False)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (
            [func.count().desc(), func.min(Record.title)],
            [3, 7, 11, 15, 19, 2, 6, 10, 14, 18, 1, 5, 9, 13, 17],
        ),
        ([func.count(Song.id)], [1, 5, 9, 13, 17, 2, 6, 10, 14, 18, 3, 7, 11, 15, 19]),
        # As many columns as keys, of which one is an aggregate all the same.
        (
            [Song.id % 4 + Song.id * 0, func.min(Record.title), Song.id],
            [1, 5, 9, 13, 17, 2, 6, 10, 14, 18, 3, 7, 11, 15, 19],
        ),
        (
            [Song.id - func.coalesce(Song.artist_id, 0) * 9, func.min(Record.title)],
            [3, 7, 2, 6, 15, 1, 10, 19, 14, 9, 18, 13, 5, 11, 17],
        ),
    ],
)
def test_sorted_by_an_aggregate_of_the_many(
    music: Backend, order: list[Any], expected: list[int]
) -> None:
    statement = select(Song).join(Song.records)
    found = ids(walk(music, statement, 2, order_by=order))
    assert found == ids(all_pages(music, statement, 2, order_by=order))
    assert found == expected


FEW, LATE, OTHER = Song.id < 18, Song.id > 2, Song.name != "s4"
CONDITIONS: dict[str, list[Any]] = {
    "none": [],
    "one": [FEW],
    "two": [FEW, LATE],
    "a conjunction": [FEW & LATE],
    "a conjunction of three": [and_(FEW, LATE, OTHER)],
    "a conjunction in one": [and_(FEW, and_(LATE, OTHER))],
    "one and a conjunction": [FEW, LATE & OTHER],
    "two conjunctions": [FEW & LATE, OTHER & (Song.id != 7)],
    "a conjunction in a disjunction": [or_(FEW & LATE, OTHER)],
    "a disjunction in a conjunction": [FEW & or_(LATE, OTHER)],
    "a negated conjunction": [~(FEW & LATE)],
    "what is true": [true(), FEW],
}
EXTRAS: dict[str, Any] = {
    "nothing": select(Song),
    "LIMIT": select(Song).limit(3),
    "ORDER BY and LIMIT": select(Song).order_by(Song.name, Song.id.desc()).limit(3),
    "ORDER BY and OFFSET": select(Song).order_by(Song.id.desc()).limit(99).offset(2),
    "ORDER BY": select(Song).order_by(Song.name.desc(), Song.id.desc()),
    "JOIN": select(Song).join(Song.records),
    "outer JOIN": MAYBE_ONE,
    "GROUP BY": select(Song).join(Song.records).group_by(Song.id),
    "DISTINCT": select(Song).distinct(),
}


@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_a_where_clause_of_any_form_hides_nothing(
    music: Backend, extra: str, conditions: list[Any]
) -> None:
    statement = EXTRAS[extra].where(*conditions)
    whole = expected(music, statement)
    pages = all_pages(music, statement, 2)
    assert {page.total for page in pages} == {len(whole)}
    if "ORDER BY" in extra:
        assert ids(pages) == whole
        return
    walked = ids(walk(music, statement, 2))
    for found in (ids(pages), walked):
        assert len(found) == len(whole)
        assert extra == "LIMIT" or sorted(found) == sorted(whole)


@pytest.mark.parametrize("params", [CursorParams(size=2), PageParams(size=2)])
def test_contains_eager_has_whole_collections(music: Backend, params: Any) -> None:
    statement = (
        select(Song)
        .join(Song.records)
        .join(Song.artist)
        .options(contains_eager(Song.records), contains_eager(Song.artist))
        .where(Record.title != "r1")
    )

    def seen(song: Song) -> Any:
        return song.id, sorted(record.title for record in song.records), bool(song.artist)

    page = music.paginate(statement, params, into=seen, order_by=[Song.id.desc()])
    assert page.items == [(19, ["r0", "r2"], True), (18, ["r0"], True)]


def test_the_selects_own_order_is_kept_where_there_is_no_other(music: Backend) -> None:
    own = MAYBE_ONE.order_by(Artist.name.desc(), Song.year)
    assert ids(all_pages(music, own, 3)) == expected(music, own.order_by(Song.id))
    many = own.join(Song.tags)
    found = ids(all_pages(music, many, 3))
    assert sorted(found) == sorted(set(expected(music, many)))
    assert ids(all_pages(music, own, 3, order_by=[Song.id])) == list(range(20))
    simple = select(Song).order_by(Song.name)
    assert ids(all_pages(music, simple, 3)) == expected(music, simple.order_by(Song.id))


def test_without_an_order_rows_come_by_primary_key(music: Backend) -> None:
    assert ids(all_pages(music, select(Song), 6)) == list(range(20))
    assert ids(walk(music, select(Song), 6)) == list(range(20))


def test_a_limit_in_the_select_limits_all_pages(music: Backend) -> None:
    limited = select(Song).order_by(Song.id.desc()).limit(7)
    assert ids(all_pages(music, limited, 3)) == [19, 18, 17, 16, 15, 14, 13]
    unordered = select(Song).where(Song.id > 3).limit(16).offset(0)
    assert ids(walk(music, unordered, 3, order_by=[Song.id])) == list(range(4, 20))
    records = select(Record).limit(5).order_by(Record.song_id, Record.number)
    assert len(items(all_pages(music, records, 2))) == 5


def test_a_composite_primary_key(music: Backend) -> None:
    statement = select(Record).join(Record.song).join(Song.tags)
    found = [(r.song_id, r.number) for r in items(walk(music, statement, 3))]
    assert found == sorted(set(found))
    assert len(found) > 9
    numbered = all_pages(music, statement, 3, order_by=[Record.title])
    assert sorted((r.song_id, r.number) for r in items(numbered)) == found
    assert {page.total for page in numbered} == {len(found)}


Outer = select(Song.id.label("song"), Artist.name.label("artist")).outerjoin(Song.artist).subquery()
ROWS: dict[str, tuple[Any, list[Any]]] = {
    "columns": (select(Song.id, Song.name), [Song.name]),
    "a column": (select(Song.name), [Song.year]),
    "a labelled expression": (select(func.lower(Song.name).label("low"), Song.year), [Song.year]),
    "JSON": (select(Record.song_id, Record.data), [Record.title]),
    "an entity and JSON": (select(Song, Record.data).join(Song.records), [Record.number.desc()]),
    "entities": (select(Song, Artist).join(Song.artist), [Artist.name.desc()]),
    "entities that may lack": (select(Song, Artist).outerjoin(Song.artist), [Artist.born]),
    "an entity and a column of many": (select(Song, Tag.name).join(Song.tags), [Tag.name]),
    "two aliases": (
        select(Song.id, Original.id).outerjoin(Song.cover_of.of_type(Original)),
        [Original.year],
    ),
    "two nameless aliases": (
        select((one := aliased(Tag)).id, (two := aliased(Tag)).id).join(two, one.id < two.id),
        [one.name],
    ),
    "a full join": (
        select(Song.id, Artist.id).join_from(Song, Artist, Song.artist_id == Artist.id, full=True),
        [Artist.id, Song.name],
    ),
    "an outer join under a condition of its left side": (
        select(Song.id, Record.title).outerjoin(
            Record, and_(Record.song_id == Song.id, Song.id == 7)
        ),
        [Record.title.desc()],
    ),
    "one row that constants tell": (
        select(Song.id, Artist.name).join(Artist, and_(Artist.id == 1, Song.id == 3)),
        [Artist.name],
    ),
    "an outer join in a subquery": (select(Outer).distinct(), [Outer.c.artist.desc()]),
    "a table": (select(Song.__table__), [Song.__table__.c.year]),
    "distinct columns": (select(Song.name, Song.year).distinct(), [Song.year.desc()]),
    "distinct expression": (
        select(func.lower(Song.name, type_=String)).distinct(),
        [func.lower(Song.name, type_=String).desc()],
    ),
    "groups": (
        select(Song.name, func.count().label("n")).group_by(Song.name),
        [func.count().desc()],
    ),
    "groups by what is not selected": (
        select(func.count()).select_from(Song).group_by(Song.year, Song.name),
        [],
    ),
    "groups by an expression": (
        select(func.max(Song.id))
        .group_by(func.lower(Song.name, type_=String))
        .having(func.count() > 1),
        [func.max(Song.id)],
    ),
    "groups by an expression, in an order that ties": (
        select(func.max(Song.id)).group_by(func.lower(Song.name, type_=String)),
        [func.count()],
    ),
    "a union": (
        select(union(select(Song.name), select(Tag.name)).subquery()).distinct(),
        [],
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_each_row_is_on_one_page(music: Backend, case: str) -> None:
    statement, order = ROWS[case]

    def plain(row: Any) -> Any:
        parts: Any = tuple(row) if isinstance(row, Row) else (row,)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return tuple(getattr(part, "id", part) for part in parts)

    whole = music.run(lambda session: [plain(row) for row in session.execute(statement)])
    pages = walk(music, statement, 3, order_by=order, into=plain)
    found = items(pages)
    assert sorted(found, key=repr) == sorted(whole, key=repr)
    assert all(len(page.items) == 3 for page in pages[:-1])
    back = walk_back(music, statement, pages[-1], 3, order_by=order, into=plain)
    assert [page.items for page in back] == [page.items for page in pages[-2::-1]]
    numbered = all_pages(music, statement, 3, order_by=order, into=plain)
    assert items(numbered) == found
    assert {page.total for page in numbered} == {len(whole)}


def test_nulls_of_an_outer_join_in_a_subquery_are_where_nulls_are(music: Backend) -> None:
    for order in ([Outer.c.artist], [Outer.c.artist.desc()]):
        page = music.paginate(select(Outer), PageParams(), order_by=order)
        nulls = [artist is None for _, artist in page.items]
        assert nulls == sorted(nulls, reverse=order != [Outer.c.artist])
        assert any(nulls)


@pytest.mark.parametrize("options", [[], [joinedload(Song.tags)]])
def test_equal_rows_are_as_many_as_they_are(music: Backend, options: list[Any]) -> None:
    repeated = select(Record.song_id, Record.data).subquery()
    numbers = select(repeated.c.song_id).subquery()
    for source, column in ((repeated, repeated.c.data), (numbers, numbers.c.song_id)):
        statement = select(Song, column).join(source, source.c.song_id == Song.id)
        pages = all_pages(music, statement.options(*options), 3)
        found = [song.id for song, _ in items(pages)]
        assert found.count(7) == 3
        assert len(found) == 30
        assert {page.total for page in pages} == {30}


def test_rows_without_a_key_that_are_distinct(music: Backend) -> None:
    pages = all_pages(music, select(Song, ONE).distinct(), 3)
    assert [song.id for song, _ in items(pages)] == list(range(20))


def test_rows_are_rows_and_single_columns_their_values(music: Backend) -> None:
    for params in (PageParams(size=2), CursorParams(size=2)):
        (row, _) = music.paginate(select(Song.id, Song.name), params).items
        assert (row.id, row.name, len(row)) == (0, "s0", 2)
        assert music.paginate(select(Song.id), params).items == [0, 1]
        (pair, _) = music.paginate(select(Song, Artist.name).join(Song.artist), params).items
        assert (pair.Song.id, pair.name, len(pair)) == (0, "A0", 2)


def test_groups_of_objects(music: Backend) -> None:
    statement = (
        select(Artist).join(Artist.songs).group_by(Artist.id).having(func.count(Song.id) > 4)
    )
    order = [func.count(Song.id).desc(), Artist.name]
    assert ids(walk(music, statement, 1, order_by=order)) == [0, 2]
    page = music.paginate(statement, PageParams(size=1), order_by=order)
    assert (page.total, ids([page]), page.has_next) == (2, [0], True)


def test_inheritance(shared_backend: Backend) -> None:
    shared_backend.add(
        *(Work(id=i, title=f"w{i % 3}", notes=[Note(), Note()]) for i in range(1, 5))
    )
    shared_backend.add(
        *(Book(id=i, title=f"b{i % 3}", pages=i % 4 or None, notes=[Note()]) for i in range(5, 15))
    )
    both = with_polymorphic(Work, [Book])
    cases: list[tuple[Any, Any, int]] = [
        (select(Book), [Work.title, Book.pages.desc()], 10),
        (select(Work), [Work.title], 14),
        (select(both), [both.Book.pages, both.title], 14),
        (select(aliased(Book)), [], 10),
        (select(Book).join(Book.notes), [Book.pages, Book.title], 10),
        (select(Work).join(Work.notes), [Work.kind], 14),
    ]
    for statement, order, count in cases:
        found = ids(walk(shared_backend, statement, 3, order_by=order))
        assert len(found) == len(set(found)) == count
        numbered = all_pages(shared_backend, statement, 3, order_by=order)
        assert ids(numbered) == found
        assert {page.total for page in numbered} == {count}


def test_loader_criteria_count_too(music: Backend) -> None:
    statement = select(Song).options(with_loader_criteria(Song, Song.year == 2001))
    page = music.paginate(statement, PageParams(page=5))
    assert page.total == len(expected(music, statement)) < 10


def test_a_table_without_a_primary_key_has_pages_but_no_cursors(shared_backend: Backend) -> None:
    rows = [{"name": f"n{i % 3}", "number": i % 2} for i in range(10)]
    shared_backend.run(lambda session: session.execute(keyless.insert(), rows))
    pages = all_pages(shared_backend, select(keyless), 3)
    assert sorted(items(pages)) == sorted((row["name"], row["number"]) for row in rows)
    with pytest.raises(ValueError, match="no primary key"):
        shared_backend.paginate(select(keyless), CursorParams())
    assert len(items(walk(shared_backend, select(keyless).distinct(), 4))) == 6


@pytest.mark.parametrize(
    ("statement", "order", "error", "message"),
    [
        (union(select(Song.id), select(Tag.id)), [], TypeError, "not a CompoundSelect"),
        (select(Song.id).limit(3), [], ValueError, "has a LIMIT"),
        (select(Song), [Artist.name], ValueError, "join its table"),
        (select(Song), [func.lower(Artist.name)], ValueError, "join its table"),
        (TO_MANY, [Tag.name], ValueError, "several values"),
        (select(Song.name).distinct(), [Song.year], ValueError, "DISTINCT"),
        (select(Song), [BY_NAME], ValueError, "'name' is text: order by the column"),
        (
            select(Song).join(Song.records).group_by(Song.id, Record.number),
            [],
            ValueError,
            "grouped by record.number may repeat their Song",
        ),
        (
            select(Song).select_from(Artist).outerjoin(Artist.songs),
            [],
            ValueError,
            "may lack its Song",
        ),
    ],
)
@pytest.mark.parametrize("params", [CursorParams(), PageParams(), LimitOffsetParams()])
def test_what_cannot_be_paged_is_refused_in_words(
    shared_backend: Backend,
    params: Any,
    statement: Any,
    order: Any,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        shared_backend.paginate(statement, params, order_by=order)


def test_what_cursors_cannot_do_is_refused_in_words(shared_backend: Backend) -> None:
    with pytest.raises(ValueError, match="give it as order_by="):
        shared_backend.paginate(select(Song).order_by(Song.name), CursorParams())
    with pytest.raises(TypeError, match="cannot hold a value"):
        shared_backend.paginate(select(Song), CursorParams(), order_by=[ONE])
    for keyless_select in (
        select(ONE),
        select(func.count(Song.id)).group_by(text("song.name")),
    ):
        with pytest.raises(ValueError, match="equal rows apart"):
            shared_backend.paginate(keyless_select, CursorParams())
    with pytest.raises(TypeError, match=r"cannot hold a value of .*Interval"):
        interval = type_coerce(Song.year, Interval)
        shared_backend.paginate(select(Song), CursorParams(), order_by=[interval])
    with pytest.raises(ValueError, match="several values"):
        shared_backend.paginate(TO_MANY.order_by(Tag.name), PageParams())
    for order in ("name", BY_NAME, nulls_first(BY_NAME)):
        with pytest.raises(ValueError, match="'name' is text"):
            shared_backend.paginate(TO_MANY.order_by(order), PageParams())


TOTALS = [
    (None, 20, False),
    ("exact", 20, False),
    ("none", None, False),
    (Capped(5), 5, True),
    (Capped(20), 20, False),
    (1234, 1234, False),
]


@pytest.mark.parametrize(("policy", "total", "capped"), TOTALS)
@pytest.mark.parametrize("number", [1, 3, 4, 9])
def test_totals(music: Backend, policy: Any, total: Any, capped: bool, number: int) -> None:
    for statement in (select(Song), TO_ONE, TO_MANY, select(Song.id)):
        count = len(set(expected(music, statement)))
        page = music.paginate(statement, PageParams(page=number, size=7), total=policy)
        stretch = LimitOffsetParams(offset=number * 7 - 7, limit=7)
        same = music.paginate(statement, stretch, total=policy)
        expected_total = min(count, total) if total in (5, 20) else total
        assert page.total == same.total == expected_total
        assert page.total_capped is same.total_capped is (capped and count > 5)
        assert page.has_next is same.has_next is (number * 7 < count)
        assert len(page.items) == len(same.items) == max(0, min(7, count - number * 7 + 7))


@pytest.mark.parametrize(("policy", "total", "capped"), TOTALS[1:])
def test_totals_of_cursor_pages(music: Backend, policy: Any, total: Any, capped: bool) -> None:
    assert music.paginate(select(Song), CursorParams()).total is None
    page = music.paginate(select(Song), CursorParams(size=3), total=policy)
    assert (page.total, page.total_capped) == (total, capped)


def test_a_full_or_empty_first_page_counts_only_if_it_must(music: Backend) -> None:
    with music.statements() as seen:
        music.paginate(select(Song), PageParams(size=50))
        assert len(seen) == 1
        assert music.paginate(select(Song).where(Song.id > 99), PageParams()).total == 0
        assert len(seen) == 2
        music.paginate(select(Song), PageParams(size=20))
        assert len(seen) == 4
