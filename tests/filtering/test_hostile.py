"""Whatever a client sends: rows or a 4xx, and never an error of the database."""

import asyncio
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, Field, ValidationError
from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from fastkit.filtering import (
    between,
    contains,
    endswith,
    eq,
    icontains,
    in_,
    is_null,
    istartswith,
    lt,
    ne,
    not_in,
    search,
    sort_by,
)
from tests.filtering.models import Kind, Rank, Row, Shade
from tests.filtering.support import ask, model_of, rows_app

pytestmark = pytest.mark.anyio

STRINGS = [
    "%00",
    "a%00b",
    "%ED%A0%80",  # a lone surrogate, in what would be its UTF-8
    "%FF%FE",
    "%F0%9F%98%80",
    "x" * 1_000_000,
    "x" * 1000,
    "%25",
    "'",
    "%22",
    "%5B%5D",
    "%5C",
    "[",
    "null",
    "None",
    "%20",
    "+",
]
NUMBERS = [
    str(number)
    for edge in (2**15, 2**31, 2**53, 2**63, 2**64, 10**400)
    for number in (edge - 1, edge, -edge, -edge - 1)
]
DECIMALS = [
    *NUMBERS,
    "1e999999",
    "-1e999999",
    "1e-999999",
    "1e999",
    "1e500",
    "1e308",
    "1e309",
    "1e40",
    "1e-40",
    "1e-400",
    "NaN",
    "sNaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "inf",
    "-0",
    "0.000000000000000000000000000001",
    "1_000",
    "\u0661",
    "0x10",
    "9" * 1001,
    "9" * 5000,
    "0." + "9" * 2000,
]
MOMENTS = [
    "2024-01-01T00:00:00",
    "2024-01-01T00:00:00Z",
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "9999-12-31T23:59:59.999999",
    "0000-01-01T00:00:00",
    "-1",
    "0",
    "1e20",
    "99999999999999999999",
    "2024-01-01",
    "0001-01-01",
    "9999-12-31",
    "23:59:59.999999",
    "00:00:00",
    "00:00:00%2B23:59",
    "23:59:59-14:00",
    "24:00:00",
    "2024-02-30T00:00:00",
]
UUIDS = [
    "00000000-0000-0000-0000-000000000001",
    "00000000000000000000000000000001",
    "urn:uuid:00000000-0000-0000-0000-000000000001",
    "{00000000-0000-0000-0000-000000000001}",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "0000",
]
WORDS = [
    "text",
    "-text",
    "on",
    "off",
    "ON",
    "other",
    "SMALL",
    "s",
    "dark",
    "true",
    "1",
    "0",
    "yes",
    "t",
    "2",
    "-1",
]
EVERYTHING = list(dict.fromkeys(STRINGS + DECIMALS + MOMENTS + UUIDS + WORDS))

CASES: list[tuple[Any, Any]] = [
    *[
        (str, make(Row.text))
        for make in (eq, ne, lt, contains, endswith, icontains, istartswith, search)
    ],
    (str, eq(Row.short)),
    (str, contains(Row.shout)),
    (str, eq(Row.shout)),
    (str, eq(Row.code)),
    (str, eq(Row.word)),
    (str, eq(Row.loose)),
    (Literal["on", "off"], eq(Row.word)),
    (Shade, eq(Row.shade)),
    (Kind, eq(Row.kind)),
    *[(int, make(Row.number)) for make in (eq, ne, lt)],
    (int, lt(Row.small)),
    (int, eq(Row.big)),
    (int, lt(Row.price)),
    (int, lt(Row.ratio)),
    (float, lt(Row.number)),
    (Decimal, lt(Row.small)),
    (Decimal, eq(Row.price)),
    (Decimal, lt(Row.price)),
    (Decimal, lt(Row.plain)),
    (float, lt(Row.price)),
    (float, lt(Row.plain)),
    (float, eq(Row.ratio)),
    (Decimal, lt(Row.ratio)),
    (float, lt(Row.real)),
    (Decimal, lt(Row.real)),
    (float, lt(Row.single)),
    (bool, eq(Row.flag)),
    (bool, is_null(Row.text)),
    (UUID, lt(Row.uid)),
    (datetime, lt(Row.at)),
    (AwareDatetime, lt(Row.at)),
    (datetime, lt(Row.local)),
    (AwareDatetime, lt(Row.stamp)),
    (date, lt(Row.day)),
    (time, lt(Row.clock)),
    (time, lt(Row.zoned)),
    (str, sort_by(text=Row.text)),
]


@pytest.fixture
async def a_row(async_engine: AsyncEngine) -> Any:
    async with async_engine.begin() as connection:
        await connection.execute(insert(Row).values(id=1, text="x"))
    yield
    async with async_engine.begin() as connection:
        await connection.execute(delete(Row))


@pytest.mark.usefixtures("a_row")
@pytest.mark.parametrize(
    ("type_", "filter_"),
    CASES,
    ids=[
        f"{number}-{getattr(type_, '__name__', type_)}" for number, (type_, _) in enumerate(CASES)
    ],
)
async def test_each_value_for_each_kind_of_filter(
    async_engine: AsyncEngine, type_: Any, filter_: Any
) -> None:
    app = rows_app(async_engine, model_of(type_ | None, filter_))
    answers = {value: (await ask(app, f"x={value}"))[0] for value in EVERYTHING}
    assert {value for value, status in answers.items() if status not in (200, 422)} == set()
    assert answers["x" * 1_000_000] == 422
    assert 200 in answers.values()


LISTS: list[tuple[Any, Any]] = [
    (list[str], in_(Row.text)),
    (list[int], in_(Row.small)),
    (list[Decimal], not_in(Row.price)),
    (set[UUID], in_(Row.uid)),
    (frozenset[Kind], in_(Row.kind)),
    (list[str], in_(Row.word)),
    (list[datetime], in_(Row.at)),
    (tuple[int, int], between(Row.small)),
    (tuple[Decimal, Decimal], between(Row.price)),
    (tuple[datetime, datetime], between(Row.local)),
]


@pytest.mark.usefixtures("a_row")
@pytest.mark.parametrize(("type_", "filter_"), LISTS, ids=[str(type_) for type_, _ in LISTS])
async def test_each_value_for_filters_that_take_several(
    async_engine: AsyncEngine, type_: Any, filter_: Any
) -> None:
    app = rows_app(async_engine, model_of(type_ | None, filter_))
    answers = {value: (await ask(app, f"x={value}&x={value}"))[0] for value in EVERYTHING}
    assert {value for value, status in answers.items() if status not in (200, 422)} == set()
    assert set(answers.values()) == {200, 422}


# At and beyond what a column of 16 or 32 bits holds: no such rows, and no error.
@pytest.mark.usefixtures("a_row")
@pytest.mark.parametrize("column", ["small", "number", "big"])
async def test_numbers_that_the_column_cannot_hold(async_engine: AsyncEngine, column: str) -> None:
    async with async_engine.begin() as connection:
        await connection.execute(insert(Row).values(id=2, **{column: 7}))
    attribute = getattr(Row, column)
    answers: dict[int, Any] = {}
    for number in (2**15, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1):
        for model in (model_of(int, lt(attribute)), model_of(list[int], in_(attribute))):
            status, body = await ask(rows_app(async_engine, model), f"x={number}")
            answers.setdefault(number, []).append(body if status == 200 else status)
    assert answers == {
        2**15: [[2], []],
        2**31: [[2], []],
        2**63 - 1: [[2], []],
        2**63: [422, 422],
        -(2**63): [[], []],
        -(2**63) - 1: [422, 422],
    }


@pytest.mark.usefixtures("a_row")
@pytest.mark.parametrize(
    ("column", "stored", "type_", "asked"),
    [
        ("price", Decimal("1.10"), float, "1.1"),
        ("price", Decimal("1.10"), Decimal, "1.100"),
        ("plain", 1.1, float, "1.1"),
        ("ratio", 1.1, Decimal, "1.1"),
        ("number", 7, Decimal, "7.0"),
        ("number", 7, float, "7.0"),
        ("number", 2, Rank, "2"),
        ("shade", "dark", Shade, "dark"),
        ("word", "on", str, "on"),
        ("code", str(UUID(int=10)), str, UUID(int=10).hex.upper()),
        ("at", datetime(2024, 1, 1, tzinfo=UTC), datetime, "2024-01-01T05:30:00%2B05:30"),
    ],
)
async def test_a_value_is_found_in_each_form(
    async_engine: AsyncEngine, column: str, stored: Any, type_: Any, asked: str
) -> None:
    async with async_engine.begin() as connection:
        await connection.execute(insert(Row).values(id=2, **{column: stored}))
    attribute = getattr(Row, column)
    several_of: Any = list[type_]
    one = rows_app(async_engine, model_of(type_, eq(attribute)))
    several = rows_app(async_engine, model_of(several_of, in_(attribute)))
    assert await ask(one, f"x={asked}") == (200, [2])
    assert await ask(several, f"x={asked}&x={asked}") == (200, [2])


@pytest.mark.usefixtures("a_row")
async def test_any_text_for_any_filter(async_engine: AsyncEngine) -> None:
    apps = [rows_app(async_engine, model_of(type_ | None, filter_)) for type_, filter_ in CASES]
    runner = asyncio.get_running_loop()
    seen: set[int] = set()

    async def send(number: int, value: str) -> None:
        seen.add((await ask(apps[number], f"x={quote(value)}"))[0])

    @given(st.integers(0, len(apps) - 1), st.text(max_size=30))
    @settings(max_examples=60)
    def fuzz(number: int, value: str) -> None:
        asyncio.run_coroutine_threadsafe(send(number, value), runner).result()

    await asyncio.to_thread(fuzz)
    assert seen == {200, 422}


@pytest.mark.usefixtures("a_row")
@pytest.mark.parametrize(
    ("given_", "holds"),
    [(text, True) for text in ("1", "true", "True", "TRUE", "on", "yes", "y", "t", "T")]
    + [(text, False) for text in ("0", "false", "off", "no", "n", "f", "F")],
)
async def test_each_form_of_a_bool(async_engine: AsyncEngine, given_: str, holds: bool) -> None:
    app = rows_app(async_engine, model_of(bool | None, is_null(Row.text)))
    assert await ask(app, f"x={given_}") == (200, [] if holds else [1])
    assert (await ask(app, "x=2"))[0] == 422


@pytest.mark.parametrize(
    ("type_", "filter_", "value", "error"),
    [
        (str, eq(Row.text), "a\x00", "string_nul"),
        (str, contains(Row.shout), "a\x00", "string_nul"),
        (str, eq(Row.text), "x" * 1001, "string_too_long"),
        (str, eq(Row.text), "\ud800", "string_unicode"),
        (str, eq(Row.code), "1", "uuid_parsing"),
        (str, eq(Row.word), "other", "enum"),
        (int, eq(Row.number), 2**63, "int_range"),
        (int, eq(Row.price), 2**63, "int_range"),
        (float, eq(Row.ratio), float("nan"), "finite_number"),
        (float, eq(Row.price), float("inf"), "finite_number"),
        (Decimal, eq(Row.price), "NaN", "finite_number"),
        (Annotated[Decimal, Field(allow_inf_nan=True)], eq(Row.price), "NaN", "finite_number"),
        (Decimal, eq(Row.price), "1e1000", "decimal_max_digits"),
        (Decimal, eq(Row.price), "1e-1001", "decimal_max_digits"),
        (datetime, eq(Row.at), "2024-01-01T00:00:00", "timezone_aware"),
        (datetime, eq(Row.at), "0001-01-01T00:00:00+14:00", "datetime_range"),
        (datetime, eq(Row.local), "2024-01-01T00:00:00Z", "timezone_naive"),
        (time, eq(Row.clock), "00:00:00Z", "timezone_naive"),
        (time, eq(Row.zoned), "00:00:00", "timezone_aware"),
        (time, eq(Row.zoned), "00:00:00-16:00", "time_offset"),
        (datetime, eq(Row.stamp), "0001-01-01T00:00:00+14:00", "datetime_range"),
        (list[UUID], in_(Row.uid), [UUID(int=0)] * 1001, "too_long"),
        (list[bool], in_(Row.flag), [True] * 1001, "too_long"),
        (list[str], in_(Row.text), ["a", "\x00"], "string_nul"),
        (tuple[int, int], between(Row.number), ["1"], "missing"),
        (tuple[int, int], between(Row.number), ["1", "2", "3"], "too_long"),
    ],
)
def test_what_is_said_of_it(type_: Any, filter_: Any, value: Any, error: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model_of(type_ | None, filter_).model_validate({"x": value})
    assert [each["type"] for each in caught.value.errors()] == [error]
    assert caught.value.errors()[0]["loc"][0] == "x"


def test_numbers_that_are_neither_too_many_nor_too_long_pass() -> None:
    model = model_of(Decimal | None, eq(Row.price))
    assert model.model_validate({"x": "-0"}).model_dump() == {"x": Decimal(0)}
    assert model.model_validate({"x": "1e500"}).model_dump() == {"x": Decimal("1e500")}
    words = model_of(list[UUID] | None, in_(Row.uid))
    assert len(words.model_validate({"x": [UUID(int=0)] * 1000}).model_dump()["x"]) == 1000
