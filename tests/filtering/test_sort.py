"""Sorting by names from a closed list."""

from itertools import product
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, ValidationError
from sqlalchemy import Engine, Text, func, select

from fastkit.filtering import FilterParams, apply_sort, sort_by
from fastkit.filtering._sort import OrderKey
from tests.filtering.models import Row
from tests.filtering.support import found, model_of

ROWS: list[dict[str, Any]] = [
    {"number": number, "text": text} for number, text in product((2, None, 1), ("b", None, "a"))
]
NAMES = sort_by(number=Row.number, text=Row.text)


class Query(FilterParams):
    sort: Annotated[list[str], NAMES] = ["-number"]  # noqa: RUF012


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        # NULL counts as the greatest.
        (["number", "text"], [8, 6, 7, 2, 0, 1, 5, 3, 4]),
        (["-number", "text"], [5, 3, 4, 2, 0, 1, 8, 6, 7]),
        (["-number", "-text"], [4, 3, 5, 1, 0, 2, 7, 6, 8]),
        (["text", "-number"], [5, 2, 8, 3, 0, 6, 4, 1, 7]),
        (["number", "number", "text"], None),
    ],
)
def test_several_keys_and_nulls(engine: Engine, sort: list[str], expected: Any) -> None:
    if expected is None:
        with pytest.raises(ValidationError, match="at most 2 items"):
            Query(sort=sort)
    else:
        assert found(engine, ROWS, Query(sort=sort)) == expected


def test_nulls_where_they_are_said_to_be_both_ways(engine: Engine) -> None:
    model = model_of(
        list[str],
        sort_by(
            first=Row.number.nulls_first(),
            last=Row.number.nulls_last(),
            down=Row.number.desc().nulls_last(),
            text=Row.text,
        ),
    )
    for sort, expected in {
        "first": [1, 2, 0],
        "-first": [1, 0, 2],
        "last": [2, 0, 1],
        "-last": [0, 2, 1],
        "down": [0, 2, 1],
        "-down": [2, 0, 1],
    }.items():
        rows: list[dict[str, Any]] = [{"number": 2}, {"number": None}, {"number": 1}]
        assert found(engine, rows, model(x=[sort])) == expected


def test_an_expression_and_a_name_that_is_no_identifier(engine: Engine) -> None:
    model = model_of(
        list[str],
        sort_by(
            **{"text.lower": func.lower(Row.text, type_=Text), "größe": Row.number, "x-y": Row.id}
        ),
    )
    rows = [{"text": "b"}, {"text": "A"}, {"text": "c"}]
    assert found(engine, rows, model(x=["text.lower"])) == [1, 0, 2]
    assert found(engine, rows, model(x=["-text.lower"])) == [2, 0, 1]
    assert found(engine, rows, model(x=["-x-y"])) == [2, 1, 0]


@pytest.mark.parametrize(
    ("column", "forwards", "backwards"),
    [
        (Row.text, "row.text NULLS LAST", "row.text DESC NULLS FIRST"),
        (Row.text.desc(), "row.text DESC NULLS FIRST", "row.text NULLS LAST"),
        (Row.text.nulls_first(), "row.text NULLS FIRST", "row.text DESC NULLS LAST"),
    ],
)
def test_a_key_and_its_exact_reverse(column: Any, forwards: str, backwards: str) -> None:
    key = OrderKey.of(column)
    assert str(key.expression()) == forwards
    assert str(key.mirrored().expression()) == backwards
    assert str(key.expression(nullable=False)) == forwards.partition(" NULLS")[0]


@given(st.text() | st.sampled_from(["secret", "id", "Number", " number", "--number", "+number"]))
def test_no_other_text_sorts(text: str) -> None:
    if text.removeprefix("-") not in ("number", "text"):
        with pytest.raises(ValidationError):
            Query(sort=[text or "-", "text"])
        with pytest.raises(ValidationError):
            model_of(str | None, NAMES)(x=text or "-")


@pytest.mark.parametrize("type_", [str, str | None])
def test_one_name(engine: Engine, type_: Any) -> None:
    rows = [{"number": 1}, {"number": 2}]
    model = model_of(type_, NAMES)
    assert found(engine, rows, model(x="-number")) == [1, 0]
    assert found(engine, rows, model()) == [0, 1]
    assert found(engine, rows, model.model_validate({"x": ""})) == [0, 1]


def test_an_optional_list_and_one_that_is_required(engine: Engine) -> None:
    class Required(FilterParams):
        sort: Annotated[list[str], NAMES]

    assert found(engine, [{"number": 1}, {"number": 2}], Required(sort=["-number"])) == [1, 0]
    with pytest.raises(ValidationError, match="missing"):
        Required.model_validate({"sort": [""]})
    optional = model_of(list[str] | None, NAMES)
    assert found(engine, [{"number": 1}, {"number": 2}], optional(x=["-number"])) == [1, 0]
    assert found(engine, [{"number": 1}, {"number": 2}], optional(x=None)) == [0, 1]


@pytest.mark.parametrize("type_", [list[str], list[str] | None])
def test_what_stands_before_it_bounds_the_list_further(type_: Any) -> None:
    model = model_of(type_, Field(max_length=1), NAMES)
    assert model(x=["text"]).x == ["text"]
    with pytest.raises(ValidationError, match="at most 1 item"):
        model(x=["text", "number"])
    with pytest.raises(ValidationError, match="'-text'"):
        model(x=["bogus"])
    shown = model.model_json_schema()["properties"]["x"]
    array = shown["anyOf"][0] if "anyOf" in shown else shown
    assert array["maxItems"] == 1
    assert array["items"]["enum"] == ["number", "-number", "text", "-text"]


@pytest.mark.parametrize("type_", [list[str], list[str] | None])
def test_what_stands_before_it_may_be_a_function(type_: Any) -> None:
    def not_both(names: list[str] | None) -> list[str] | None:
        if len(names or ()) > 1:
            raise ValueError("one or the other")
        return names

    model = model_of(type_, AfterValidator(not_both), NAMES)
    assert model(x=["text"]).x == ["text"]
    if type_ != list[str]:
        assert model(x=None).x is None
    with pytest.raises(ValidationError, match="one or the other"):
        model(x=["text", "number"])


def test_the_selects_own_order_gives_way_and_stays_without_another() -> None:
    statement = select(Row.id).order_by(Row.text)
    assert str(apply_sort(statement, Query(sort=["number"]))).endswith(
        "ORDER BY row.number NULLS LAST"
    )
    assert apply_sort(statement, Query(sort=[])) is statement
    assert apply_sort(statement, FilterParams()) is statement


@pytest.mark.parametrize(
    ("default", "words"),
    [
        (["price"], "its default 'price' is none of number, -number, text, -text"),
        (["number", "--text"], "its default '--text' is none of"),
    ],
)
def test_a_default_that_is_none_of_the_names(default: list[str], words: str) -> None:
    with pytest.raises(TypeError, match=rf"Wrong\.sort: {words}"):

        class Wrong(FilterParams):  # pyright: ignore[reportUnusedClass]
            sort: Annotated[list[str], NAMES] = default

    with pytest.raises(TypeError, match=r"Single\.sort: its default"):

        class Single(FilterParams):  # pyright: ignore[reportUnusedClass]
            sort: Annotated[str, NAMES] = default[-1]


def test_a_default_that_cannot_be_checked() -> None:
    with pytest.raises(TypeError, match=r"Made\.sort: .* write it as = \[\.\.\.\]"):

        class Made(FilterParams):  # pyright: ignore[reportUnusedClass]
            sort: Annotated[list[str], NAMES] = Field(default_factory=lambda: ["number"])


def test_two_fields_that_sort() -> None:
    with pytest.raises(TypeError, match=r"Two\.then: sort sorts already: name its columns there"):

        class Two(FilterParams):  # pyright: ignore[reportUnusedClass]
            sort: Annotated[list[str], NAMES] = []  # noqa: RUF012
            then: Annotated[list[str], NAMES] = []  # noqa: RUF012


def test_names_that_cannot_be() -> None:
    with pytest.raises(TypeError, match="nothing to sort by"):
        sort_by()
    for name in ("", "-", "-number"):
        with pytest.raises(TypeError, match="- in front means descending"):
            sort_by(**{"number": Row.number, name: Row.text})
