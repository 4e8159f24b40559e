"""Walks over rows of every kind give each row once, in the order of one big query."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import inf, nan
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import String, delete, func, insert, nulls_first, nulls_last, select
from sqlalchemy.orm import Session, aliased

from fastkit.pagination import CursorParams
from tests.db.paginate.models import Color, Size, Thing
from tests.db.paginate.support import Backend, all_pages, items, walk, walk_back

_TEXTS = ["", "a", "A", "b", "B", "ab", "é", "É", "ß", "Z", "a b", "'\"%_\\", "𝄞"]
_HALF_PAST = timezone(timedelta(hours=5, minutes=30))
# A few values of each type, so that rows tie; the hardest ones among them.
VALUES: dict[str, Sequence[Any]] = {
    "rank": [-(2**63), -1, 0, 1, 2**31, 2**63 - 1],
    "label": [*_TEXTS, "x" * 1500],
    "number": [-5, 0, 1, 2**31 - 1],
    "name": [*_TEXTS, "long " * 500],
    "folded": _TEXTS,
    "spoken": _TEXTS,
    "padded": ["", "a", "A", "ab", "abc", "abcde"],
    "reversed": ["ab", "ba", "aab", "b", ""],
    "guid": [UUID(int=0), UUID(int=7), UUID(int=2**127), UUID(int=2**128 - 1)],
    "uuid": [UUID(int=0), UUID(int=7), UUID(int=2**127), UUID(int=2**128 - 1)],
    "token": [str(UUID(int=number)) for number in (0, 7, 2**127, 2**128 - 1)],
    "amount": [Decimal(each) for each in ("0", "-0.01", "1.5", "1.236", "1.239", "9999999999.99")],
    "exact": [0.1, 0.30000000000000004, 0.3, -1e9],
    "rounded": [Decimal("0.1"), Decimal("0.12345678901234"), Decimal("0.12345678901235")],
    "real": [0.1, 0.2, 0.3, 1e-30, -3.5, 1e30],
    "double": [0.1, 0.2, 0.30000000000000004, 1e300, -1e-300, 0.0, -0.0, inf, -inf],
    "aware": [
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(1880, 5, 1, 3, tzinfo=UTC),
        datetime(2024, 5, 1, 12, tzinfo=_HALF_PAST),
        datetime(2024, 5, 1, 6, 30, tzinfo=UTC),
        datetime(2024, 5, 1, 6, 30, 0, 1, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    "naive": [
        datetime(1, 1, 1),
        datetime(2024, 5, 1),
        datetime(2024, 5, 1, 0, 0, 0, 1),
        datetime(2024, 5, 1, 12),
        datetime(9999, 12, 31),
    ],
    "day": [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)],
    "clock": [time(0), time(12), time(12, 0, 0, 1), time(23, 59, 59, 999999)],
    "zoned": [time(12, tzinfo=UTC), time(12, 30, tzinfo=_HALF_PAST), time(0, tzinfo=UTC)],
    "flag": [True, False],
    "color": list(Color),
    "size": list(Size),
    "grade": ["low", "high"],
    "late": [1, 2],
}
REQUIRED = {"rank", "label"}
SPECIAL: dict[str, list[Any]] = {
    "double": [nan],
    "real": [nan, inf, -inf],
    "amount": [Decimal("NaN")],
}

few = settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def rows_of(columns: Sequence[str], *, special: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "rank": st.just(0),
        "label": st.just(""),
    }
    for name in columns:
        values = [*VALUES[name], *(SPECIAL.get(name, []) if special else [])]
        some = st.sampled_from(values)
        fields[name] = some if name in REQUIRED else st.none() | some
    key = st.tuples(st.integers(0, 3), st.sampled_from(["a", "A", "b", "", "é", "z" * 30]))
    return st.dictionaries(key, st.fixed_dictionaries(fields), max_size=24).map(
        lambda found: [
            {"shelf": shelf, "code": code, **row} for (shelf, code), row in found.items()
        ]
    )


def fill(backend: Backend, rows: Sequence[dict[str, Any]]) -> None:
    backend.execute(delete(Thing))
    if rows:
        backend.run(lambda session: session.execute(insert(Thing), rows))
    if backend.is_sqlite:
        # As CURRENT_TIMESTAMP, and with it a default of func.now(), stores it.
        backend.execute(
            "UPDATE thing SET naive = substr(naive, 1, 19)"
            " WHERE shelf % 2 AND naive LIKE '%.000000'"
        )


def key_of(thing: Any) -> tuple[int, str]:
    return thing.shelf, thing.code


def place_nulls(column: Any, descending: bool, nulls: bool | None) -> tuple[Any, Any]:
    """A key, and the same with the place of its NULLs said: they are greater than all else."""
    turned = column.desc() if descending else column.asc()
    if nulls is None:
        return turned, turned.nulls_first() if descending else turned.nulls_last()
    placed = nulls_first(turned) if nulls else nulls_last(turned)
    return placed, placed


def check_walk(
    backend: Backend, statement: Any, keys: Sequence[Any], whole: Any, size: int
) -> None:
    def read(session: Session) -> list[tuple[int, str]]:
        return [key_of(row) for row in session.scalars(whole)]

    expected = backend.run(read)
    forwards = walk(backend, statement, size, order_by=keys)
    pages = [[key_of(item) for item in page.items] for page in forwards]
    assert [key for page in pages for key in page] == expected
    assert all(len(page) == size for page in pages[:-1])
    back = walk_back(backend, statement, forwards[-1], size, order_by=keys)
    assert [[key_of(item) for item in page.items] for page in back] == pages[-2::-1]
    by_number = items(all_pages(backend, statement, size, order_by=keys))
    assert [key_of(item) for item in by_number] == expected


@given(data=st.data())
@few
def test_a_walk_is_the_whole_order_forwards_and_backwards(backend: Backend, data: Any) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3, unique=True), "keys")
    fill(backend, data.draw(rows_of(names, special=not backend.is_sqlite), "rows"))
    subject: Any = aliased(Thing) if data.draw(st.booleans(), "aliased") else Thing
    keys: list[Any] = []
    placed_keys: list[Any] = []
    for name in names:
        column = getattr(subject, name)
        if name in ("name", "label") and data.draw(st.booleans(), "lower"):
            column = func.lower(column, type_=String)
        nulls = data.draw(st.sampled_from([None, True, False]), "nulls")
        given, placed = place_nulls(column, data.draw(st.booleans(), "descending"), nulls)
        keys.append(given)
        placed_keys.append(placed)
    if data.draw(st.booleans(), "part of the primary key"):
        keys.append(subject.code.desc())
        placed_keys.append(subject.code.desc())
    statement = select(subject)
    whole = statement.order_by(*placed_keys, subject.shelf, subject.code)
    check_walk(backend, statement, keys, whole, data.draw(st.integers(1, 5), "size"))


# What a driver does with a value it does alike in both kinds of session.
@pytest.mark.parametrize(
    "shared_backend", ["sqlite", "psycopg", "postgresql+asyncpg"], indirect=True, scope="module"
)
@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_walk_over_all_values_of_a_type(backend: Backend, name: str) -> None:
    values = [*VALUES[name], *([] if backend.is_sqlite else SPECIAL.get(name, []))]
    values += [] if name in REQUIRED else [None]
    rows: list[dict[str, Any]] = [
        {"rank": 0, "label": "", "shelf": shelf, "code": f"{number}", name: value}
        for shelf in range(2)
        for number, value in enumerate(values)
    ]
    fill(backend, rows)
    for descending in (False, True):
        key, placed = place_nulls(getattr(Thing, name), descending, None)
        whole = select(Thing).order_by(placed, Thing.shelf, Thing.code)
        check_walk(backend, select(Thing), [key], whole, 3)


@given(data=st.data())
@few
def test_rows_that_come_and_go_do_not_disturb_the_others(backend: Backend, data: Any) -> None:
    names = ["name", "flag", "rank", "naive"]
    names = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True), "keys")
    rows = rows_of(names, special=False)
    before = data.draw(rows.filter(bool), "rows")
    fill(backend, before)
    order = [getattr(Thing, name) for name in names]
    order = [key.desc() if data.draw(st.booleans(), "descending") else key for key in order]
    size = data.draw(st.integers(1, 4), "size")
    backward = data.draw(st.booleans(), "backward")
    untouched = present = {(row["shelf"], row["code"]) for row in before}
    seen: list[tuple[int, str]] = []
    pages = walk(backend, select(Thing), size, order_by=order)
    page = pages[-1] if backward else pages[0]
    number = 0
    while True:
        seen += [key_of(item) for item in page.items]
        cursor = page.previous_cursor if backward else page.next_cursor
        if cursor is None:
            break
        # The rows at the ends of a page are the worst ones to lose.
        ends = {key_of(item) for item in page.items[:1] + page.items[-1:]}
        gone = {end for end in ends if data.draw(st.booleans(), "lose")} & present
        if present:
            gone |= set(data.draw(st.lists(st.sampled_from(sorted(present)), max_size=2), "gone"))
        # A walk with more rows to come than it takes would not end.
        new = data.draw(rows, "new")[: min(3, 20 - number)]
        for row in new:
            number += 1
            row["code"] = f"{data.draw(st.sampled_from('Aaz'), 'where')} {number}"
        change(backend, gone, new)
        untouched = untouched - gone
        present = (present - gone) | {(row["shelf"], row["code"]) for row in new}
        params = CursorParams(size=size, cursor=cursor)
        page = backend.paginate(select(Thing), params, order_by=order)
    assert len(seen) == len(set(seen))
    assert untouched <= set(seen)


def change(backend: Backend, gone: set[tuple[int, str]], new: Sequence[dict[str, Any]]) -> None:
    def work(session: Session) -> None:
        for shelf, code in gone:
            session.execute(delete(Thing).where(Thing.shelf == shelf, Thing.code == code))
        if new:
            session.execute(insert(Thing), new)

    backend.run(work)
