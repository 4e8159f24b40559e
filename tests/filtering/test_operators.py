"""Every operator gives the rows that a model in Python gives, on both databases."""

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from fastkit.filtering import (
    between,
    contains,
    endswith,
    eq,
    ge,
    gt,
    icontains,
    iendswith,
    in_,
    is_null,
    istartswith,
    le,
    lt,
    ne,
    not_in,
    search,
    startswith,
)
from tests.filtering.models import Kind, Rank, Row, Shade
from tests.filtering.support import filtered, found, ids, model_of, simple_lower

# Few letters, so that texts meet: wildcards and what classes of GLOB are made of, letters whose
# lower case is another's, letters with several lower or upper cases, and letters that combine.
ALPHABET = (
    "aAbB1 %_/\\*?[]^-!'\";:.#"
    "iI\u0130\u0131kK\u212asS\u017fßẞåÅ\u212bωΩ\u2126θΘϑ\u03f4\u03c3ςΣдДёЁüÜéÉǆǅǄᾳᾼŉﬁ"
    "\uab70\u13a0აᲐµ\u039cμ"
    "e\u0301\u0308\u0307\U0001f600\U0001f3fd\U00010400\U00010428"
)
texts = st.text(st.sampled_from(ALPHABET), max_size=6)
Texts = tuple[list[str | None], str]


@st.composite
def texts_and_a_part(draw: st.DrawFn) -> Texts:
    rows = draw(st.lists(st.none() | texts, min_size=1, max_size=8))
    whole = draw(st.sampled_from([row for row in rows if row] or ["a"]))
    start = draw(st.integers(0, len(whole) - 1))
    part = whole[start : draw(st.integers(start + 1, len(whole)))]
    case = draw(st.sampled_from(["upper", "lower", "swapcase", "title", "strip"]))
    changed: str = getattr(part, case)() or part
    return rows, draw(st.just(changed) | texts.filter(bool))


TEXT_OPERATORS: list[tuple[Any, Callable[[str, str], bool]]] = [
    (eq, operator.eq),
    (ne, operator.ne),
    (lt, lambda text, value: text.encode() < value.encode()),
    (ge, lambda text, value: text.encode() >= value.encode()),
    (contains, lambda text, value: value in text),
    (startswith, str.startswith),
    (endswith, str.endswith),
    (icontains, lambda text, value: simple_lower(value) in simple_lower(text)),
    (search, lambda text, value: simple_lower(value) in simple_lower(text)),
    (istartswith, lambda text, value: simple_lower(text).startswith(simple_lower(value))),
    (iendswith, lambda text, value: simple_lower(text).endswith(simple_lower(value))),
]


@pytest.mark.parametrize(("make", "holds"), TEXT_OPERATORS)
@given(data=texts_and_a_part())
@settings(max_examples=40)
def test_text(engine: Engine, make: Any, holds: Callable[[str, str], bool], data: Texts) -> None:
    texts, value = data
    rows = [{"text": text} for text in texts]
    params = filtered(str, make, Row.text)(x=value)
    expected = ids(rows, lambda row: row["text"] is not None and holds(row["text"], value))
    assert found(engine, rows, params) == expected


@pytest.mark.parametrize("sign", "%_/\\*?[]^-!'\"")
@pytest.mark.parametrize(("make", "holds"), TEXT_OPERATORS[4:])
def test_a_sign_stands_for_itself(
    engine: Engine, make: Any, holds: Callable[[str, str], bool], sign: str
) -> None:
    texts = [f"a{sign}b", "axb", "ab", sign, f"{sign}a", f"a{sign}", f"a{sign}{sign}b", "a[x]b", ""]
    rows = [{"text": text} for text in texts]
    for value in (sign, f"a{sign}b", f"{sign}{sign}", f"{sign}b", f"a{sign}", f"[{sign}]"):
        expected = [at for at, text in enumerate(texts) if holds(text, value)]
        assert found(engine, rows, filtered(str, make, Row.text)(x=value)) == expected


@pytest.mark.parametrize("make", [contains, icontains])
def test_each_letter_of_unicode_finds_what_it_is_in_lower_case(engine: Engine, make: Any) -> None:
    # All letters that are others in another case, in four texts, so that four queries a letter do.
    cased = [chr(point) for point in range(0x20000) if chr(point).swapcase() != chr(point)]
    cased = [letter for letter in cased if len(simple_lower(letter)) == 1]
    rows = [{"text": "".join(cased[start::8])} for start in range(8)]
    fold = simple_lower if make is icontains else str
    model = model_of(str | None, make(Row.text))
    for letter in cased[::61] + list("\u0130Ii\u212aKkßẞωΩ\u2126θ\u03f4å\u212b"):
        expected = [at for at, row in enumerate(rows) if fold(letter) in fold(row["text"])]
        assert found(engine, rows, model.model_validate({"x": letter})) == expected


# For each kind of column: values, and the type of the parameter.
aware = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC]))
zones = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
prices = st.decimals(-1000, 1000, places=2).map(lambda value: value + 0)
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "number": (int, st.integers(-3, 3), st.integers(-4, 4)),
    "small": (int, st.integers(-3, 3), st.integers(-(2**40), 2**40) | st.integers(-3, 3)),
    "big": (int, st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)),
    "price": (Decimal, prices, prices | st.decimals(-9, 9, places=4)),
    "ratio": (float, st.floats(-9, 9, width=32), st.floats(-9, 9)),
    "uid": (UUID, st.uuids(), st.uuids()),
    "at": (datetime, aware, aware.flatmap(lambda at: zones.map(at.astimezone))),
    "local": (datetime, st.datetimes(), st.datetimes()),
    "day": (date, st.dates(), st.dates()),
    "clock": (time, st.times(), st.times()),
}
ORDERED: list[tuple[Any, Callable[[Any, Any], bool]]] = [
    (eq, operator.eq),
    (ne, operator.ne),
    (lt, operator.lt),
    (le, operator.le),
    (gt, operator.gt),
    (ge, operator.ge),
]


@pytest.mark.parametrize("column", KINDS)
@given(data=st.data())
@settings(max_examples=20)
def test_comparisons(engine: Engine, column: str, data: st.DataObject) -> None:
    type_: Any
    type_, stored, asked = KINDS[column]
    values = data.draw(st.lists(st.none() | stored, max_size=8))
    rows = [{column: value} for value in values]
    present = [value for value in values if value is not None]
    pool = st.sampled_from(present) | asked if present else asked
    attribute = getattr(Row, column)

    def holding(predicate: Callable[[Any], bool]) -> list[int]:
        return ids(rows, lambda row: row[column] is not None and predicate(row[column]))

    make, holds = data.draw(st.sampled_from(ORDERED))
    value = data.draw(pool)
    params = filtered(type_, make, attribute)(x=value)
    assert found(engine, rows, params) == holding(lambda other: holds(other, value))

    several_of: Any = list[type_]
    several = data.draw(st.lists(pool, min_size=1, max_size=4))
    params = filtered(several_of, in_, attribute)(x=several)
    assert found(engine, rows, params) == holding(lambda other: other in several)
    params = filtered(several_of, not_in, attribute)(x=several)
    assert found(engine, rows, params) == holding(lambda other: other not in several)

    two_of: Any = tuple[type_, type_]
    low, high = data.draw(pool), data.draw(pool)
    params = filtered(two_of, between, attribute)(x=(low, high))
    assert found(engine, rows, params) == holding(lambda other: low <= other <= high)

    params = filtered(bool, is_null, attribute)(x=True)
    assert found(engine, rows, params) == ids(rows, lambda row: row[column] is None)
    params = filtered(bool, is_null, attribute)(x=False)
    assert found(engine, rows, params) == holding(lambda _: True)


@pytest.mark.parametrize(
    ("column", "type_", "values"),
    [
        ("flag", bool, (False, True)),
        ("kind", Kind, tuple(Kind)),
        ("word", str, ("on", "off")),
        ("loose", str, ("on", "off")),
        ("shade", Shade, tuple(Shade)),
        ("number", Rank, tuple(Rank)),
        ("zoned", time, (time(1, tzinfo=UTC), time(2, tzinfo=UTC))),
        ("code", str, (str(UUID(int=1)), str(UUID(int=2)))),
    ],
)
def test_values_that_are_equal_or_not(
    engine: Engine, column: str, type_: Any, values: tuple[Any, Any]
) -> None:
    attribute = getattr(Row, column)
    rows: list[Mapping[str, Any]] = [
        {column: None},
        *(
            {column: getattr(value, "value", value) if column == "shade" else value}
            for value in values
        ),
    ]
    first = values[0]
    several_of: Any = list[type_]
    assert found(engine, rows, model_of(type_ | None, eq(attribute))(x=first)) == [1]
    assert found(engine, rows, model_of(type_ | None, ne(attribute))(x=first)) == [2]
    assert found(engine, rows, model_of(several_of | None, in_(attribute))(x=[first])) == [1]
    assert found(engine, rows, model_of(several_of, in_(attribute))(x=list(values))) == [1, 2]
    assert found(engine, rows, model_of(several_of, not_in(attribute))(x=[first])) == [2]
    assert found(engine, rows, model_of(bool | None, is_null(attribute))(x=True)) == [0]


@pytest.mark.parametrize(
    ("column", "type_", "value", "expected"),
    [
        # A number of another kind is compared as it is, and neither rounded nor cut.
        ("number", Decimal, "1.5", []),
        ("number", Decimal, "1.0", [1]),
        ("number", float, "1.5", []),
        ("number", float, "1", [1]),
        ("price", float, "1.1", [1]),
        ("price", Decimal, "1.101", []),
        ("price", Decimal, "1.10", [1]),
        ("price", int, "1", []),
        ("plain", float, "1.1", [1]),
        ("plain", Decimal, "1.1", [1]),
        ("ratio", Decimal, "1.1", [1]),
        ("ratio", int, "1", []),
        # Stored in single precision, which few numbers in double precision are equal to.
        ("real", float, "1.5", [1]),
        ("single", Decimal, "1.5", [1]),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_numbers_of_one_kind_for_columns_of_another(
    engine: Engine, column: str, type_: Any, value: str, expected: list[int], several: bool
) -> None:
    stored: Any = {"number": 1, "price": Decimal("1.10"), "real": 1.5, "single": 1.5}.get(
        column, 1.1
    )
    rows: list[dict[str, Any]] = [{column: None}, {column: stored}, {column: 2}]
    attribute = getattr(Row, column)
    several_of: Any = list[type_]
    if several:
        params = model_of(several_of, in_(attribute)).model_validate({"x": [value]})
    else:
        params = model_of(type_, eq(attribute)).model_validate({"x": value})
    assert found(engine, rows, params) == expected


def test_a_types_own_conversion_is_applied(engine: Engine) -> None:
    rows: list[dict[str, Any]] = [{"shout": "Hello"}, {"shout": "other"}]
    assert found(engine, rows, model_of(str | None, eq(Row.shout))(x="hellO")) == [0]
    assert found(engine, rows, model_of(str | None, icontains(Row.shout))(x="ell")) == [0]
    assert found(engine, rows, model_of(str | None, contains(Row.shout))(x="ell")) == []


def test_search_finds_a_text_in_any_of_several_columns(engine: Engine) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "Anna", "short": None},
        {"text": None, "short": "hANNe"},
        {"text": "Otto", "short": "x"},
        {"text": None, "short": None},
    ]
    both = model_of(str | None, search(Row.text, Row.short))
    assert found(engine, rows, both(x="ann")) == [0, 1]
    assert found(engine, rows, both(x="anna")) == [0]
    exact = model_of(str | None, search(Row.text, eq(Row.short)))
    assert found(engine, rows, exact(x="x")) == [2]
    assert found(engine, rows, exact(x="hann")) == []


def test_a_thousand_values(engine: Engine) -> None:
    rows = [{"number": number} for number in range(3)]
    params = model_of(list[int], in_(Row.number))(x=range(1, 1001))
    assert found(engine, rows, params) == [1, 2]


def test_one_statement_for_all_values_of_a_filter_and_another_for_each_operator(
    engine: Engine,
) -> None:
    rows = [{"text": text} for text in ("a", "b", "xa", "ax", "xax", "A")]
    seen: list[tuple[str, list[int]]] = []
    for make in (contains, startswith, endswith, icontains, istartswith, iendswith):
        seen += [
            (make.__name__, found(engine, rows, model_of(str, make(Row.text))(x=value)))
            for value in ("a", "b")
        ]
    assert seen == [
        ("contains", [0, 2, 3, 4]),
        ("contains", [1]),
        ("startswith", [0, 3]),
        ("startswith", [1]),
        ("endswith", [0, 2]),
        ("endswith", [1]),
        ("icontains", [0, 2, 3, 4, 5]),
        ("icontains", [1]),
        ("istartswith", [0, 3, 5]),
        ("istartswith", [1]),
        ("iendswith", [0, 2, 5]),
        ("iendswith", [1]),
    ]


@pytest.mark.parametrize("letter", ["ω", "*", "\U0001f600", "a"])
@pytest.mark.parametrize("make", [contains, icontains])
def test_the_longest_pattern_is_within_what_the_database_takes(
    engine: Engine, make: Any, letter: str
) -> None:
    rows = [{"text": letter * 1000}, {"text": letter * 999}]
    assert found(engine, rows, model_of(str, make(Row.text))(x=letter * 1000)) == [0]
