"""JSON is written whatever the value is, and what JSON has is written as it is."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkit.errors._json import clean, dump, plain
from tests.errors.exceptions_app import Color, Hostile, HostileMapping, Unprintable
from tests.errors.support import strict_json

text = st.text(st.characters(codec=None, exclude_categories=()))
unicode = st.text()
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | unicode,
    lambda children: st.lists(children) | st.dictionaries(unicode, children),
    max_leaves=20,
)


@given(st.dictionaries(unicode, json_values))
def test_what_json_has_is_written_as_it_is(body: dict[str, Any]) -> None:
    assert strict_json(dump(body)) == body
    assert plain(body) == body


@given(st.dictionaries(text, text | st.floats() | st.lists(text)))
def test_what_json_has_not_is_written_in_its_place(body: dict[str, Any]) -> None:
    written = strict_json(dump(body))
    assert written.keys() == {clean(key) for key in body}


@given(text)
def test_clean_changes_lone_surrogates_and_nothing_else(value: str) -> None:
    cleaned = clean(value)
    cleaned.encode()
    pairs = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert cleaned == pairs
    if not any("\ud800" <= character <= "\udfff" for character in value):
        assert cleaned == value


def test_clean_joins_a_pair_of_surrogates() -> None:
    assert clean("\ud83d\ude00") == "\N{GRINNING FACE}"
    assert clean("\ude00\ud83d") == "��"


def test_text_that_looks_like_an_escape_is_left_alone() -> None:
    assert strict_json(dump({"a": "\\ud800", "b": "\N{GRINNING FACE}"})) == {
        "a": "\\ud800",
        "b": "\N{GRINNING FACE}",
    }


FORMS: list[tuple[Any, Any]] = [
    (float("nan"), "nan"),
    (float("-inf"), "-inf"),
    (10**5000, "<integer of 16610 bits>"),
    (Color.RED, "red"),
    ({Color.RED: Color.RED}, {"red": "red"}),
    ({1: 1, None: 2, 1.5: 4}, {"1": 1, "null": 2, "1.5": 4}),
    ({True: float("nan"), (1, "a"): 2}, {"true": "nan", '[1, "a"]': 2}),
    ((1, [2]), [1, [2]]),
    (frozenset({1}), [1]),
    (OrderedDict(a=1), {"a": 1}),
    (b"abc", "abc"),
    (b"\xff", "<bytes>"),
    (datetime(2000, 1, 1, tzinfo=UTC), "2000-01-01T00:00:00Z"),
    (Decimal("1.5"), "1.5"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (ValueError("hidden"), "<ValueError>"),
    (object(), "<object>"),
    (Unprintable(), "<Unprintable>"),
    (Hostile(), "<Hostile>"),
    (HostileMapping(), "<HostileMapping>"),
    ([1, HostileMapping(), 2], [1, "<HostileMapping>", 2]),
]


@pytest.mark.parametrize(
    ("value", "written"),
    FORMS,
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value_has_its_form(value: Any, written: Any) -> None:
    assert plain(value) == written
    assert strict_json(dump({"value": value})) == {"value": written}


class Text(str):
    """Says something else when asked for a string."""

    def __str__(self) -> str:
        raise RuntimeError("no string")


def test_a_string_is_its_characters() -> None:
    assert plain(Text("a")) == "a"
    assert type(plain(Text("a"))) is str


def test_a_cycle_ends() -> None:
    around: dict[str, Any] = {"a": 1}
    around["again"] = [around]
    assert plain(around) == {"a": 1, "again": ["..."]}
    assert strict_json(dump(around)) == {"a": 1, "again": ["..."]}


def test_the_same_value_twice_is_no_cycle() -> None:
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]]


def test_depth_ends_at_32() -> None:
    nested: Any = "bottom"
    for _ in range(100_000):
        nested = [nested]
    written: Any = plain(nested)
    depth = 0
    while written != "...":
        (written,) = written
        depth += 1
    assert (depth, written) == (32, "...")
    assert json.loads(dump({"deep": nested}))


class Growing(Mapping[str, Any]):
    """Is another one inside, without end."""

    def __getitem__(self, key: str) -> Any:
        return Growing()

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        yield "more"


def test_a_mapping_without_end_ends() -> None:
    assert dump({"growing": Growing()}).count(b"more") == 31
