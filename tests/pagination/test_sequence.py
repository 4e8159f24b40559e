"""Pages of what is in memory."""

from collections.abc import Sequence
from typing import Annotated, Any, overload

import pytest
from fastapi import FastAPI, Query
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from fastkit.pagination import (
    Capped,
    CursorParams,
    LimitOffsetPage,
    LimitOffsetParams,
    Page,
    PageParams,
    paginate_sequence,
)
from tests.pagination.support import client, refusals

LAST_PAGE = 2**31 - 1
LAST_OFFSET = 2**53 - 1


class Largest(PageParams):
    size: Annotated[int, Field(ge=1, le=2**31 - 1)] = 50


@given(
    count=st.integers(0, 250),
    page=st.one_of(st.integers(1, 30), st.integers(1, LAST_PAGE)),
    size=st.integers(1, 100),
)
@example(count=0, page=1, size=1)
@example(count=100, page=2, size=50)
@example(count=101, page=2, size=50)
@example(count=100, page=LAST_PAGE, size=100)
def test_a_page_is_what_a_count_on_the_fingers_says(count: int, page: int, size: int) -> None:
    everything = [*range(count)]
    chunks = [everything[at : at + size] for at in range(0, count, size)]
    found = paginate_sequence(everything, PageParams(page=page, size=size))
    assert found.items == (chunks[page - 1] if page <= len(chunks) else [])
    assert found.total == count
    assert found.has_next == (page < len(chunks))
    assert (found.page, found.size) == (page, size)
    assert found.links is None
    assert not found.total_capped


@given(
    count=st.integers(0, 250),
    offset=st.one_of(st.integers(0, 300), st.integers(0, LAST_OFFSET)),
    limit=st.integers(1, 100),
)
@example(count=100, offset=50, limit=50)
@example(count=100, offset=LAST_OFFSET, limit=100)
def test_a_stretch_is_what_a_count_on_the_fingers_says(count: int, offset: int, limit: int) -> None:
    found = paginate_sequence(range(count), LimitOffsetParams(offset=offset, limit=limit))
    assert found.items == [n for n in range(min(count, 500)) if offset <= n < offset + limit]
    assert found.total == count
    assert found.has_next == any(n >= offset + limit for n in range(count))
    assert (found.offset, found.limit) == (offset, limit)


@given(count=st.integers(0, 120), size=st.integers(1, 100))
def test_the_pages_together_are_the_whole(count: int, size: int) -> None:
    walked: list[int] = []
    page = 0
    more = True
    while more:
        page += 1
        found = paginate_sequence(range(count), PageParams(page=page, size=size))
        walked += found.items
        more = found.has_next
    assert walked == [*range(count)]


@pytest.mark.parametrize(
    "items",
    [range(3, 13), [*range(3, 13)], tuple(range(3, 13)), bytes(range(3, 13))],
    ids=["range", "list", "tuple", "bytes"],
)
def test_any_sequence_has_pages(items: Sequence[int]) -> None:
    found = paginate_sequence(items, PageParams(page=2, size=4))
    assert found.items == [7, 8, 9, 10]
    assert type(found.items) is list
    empty = paginate_sequence(items, Largest(page=LAST_PAGE, size=2**31 - 1))
    assert (empty.items, empty.total, empty.has_next) == ([], 10, False)


def test_a_text_is_a_sequence_too() -> None:
    assert paginate_sequence("abcde", LimitOffsetParams(offset=1, limit=2)).items == ["b", "c"]


def test_the_given_list_is_not_the_pages() -> None:
    numbers = [1, 2, 3]
    found = paginate_sequence(numbers, PageParams())
    numbers.clear()
    assert found.items == [1, 2, 3]


class Remote(Sequence[int]):
    """Where it costs something to look at an item."""

    def __init__(self) -> None:
        self.looked_at: list[object] = []

    def __len__(self) -> int:
        return 10**6

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        self.looked_at.append(index)
        return range(10**6)[index]


def test_only_what_is_on_the_page_is_looked_at() -> None:
    remote = Remote()
    assert paginate_sequence(remote, PageParams(page=3, size=2)).items == [4, 5]
    assert remote.looked_at == [slice(4, 6)]


def app_of_numbers() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def numbers(params: Annotated[Largest, Query()]) -> Page[int]:
        return paginate_sequence(range(1000), params)

    @app.get("/stretch")
    async def stretch(params: Annotated[LimitOffsetParams, Query()]) -> LimitOffsetPage[int]:
        return paginate_sequence(range(1000), params)

    return app


def test_through_fastapi() -> None:
    assert client(app_of_numbers()).get("/?page=500&size=2").json() == {
        "items": [998, 999],
        "total": 1000,
        "total_capped": False,
        "has_next": False,
        "links": None,
        "page": 500,
        "size": 2,
    }
    assert client(app_of_numbers()).get("/stretch?offset=998&limit=1").json() == {
        "items": [998],
        "total": 1000,
        "total_capped": False,
        "has_next": True,
        "links": None,
        "limit": 1,
        "offset": 998,
    }


@pytest.mark.parametrize(
    "query", [f"?page={LAST_PAGE}&size={2**31 - 1}", "?page=21", f"stretch?offset={LAST_OFFSET}"]
)
def test_past_the_end_there_is_nothing_and_the_total_is_right(query: str) -> None:
    body: dict[str, Any] = client(app_of_numbers()).get(f"/{query}").json()
    assert (body["items"], body["total"], body["has_next"]) == ([], 1000, False)


def test_a_number_of_a_page_that_no_database_takes_is_refused() -> None:
    assert refusals(app_of_numbers(), f"page={2**63}&size={2**63}") == [
        ("query", "page"),
        ("query", "size"),
    ]


@pytest.mark.parametrize("limit", [0, -1])
def test_counting_to_nothing_is_an_error(limit: int) -> None:
    with pytest.raises(ValueError, match=rf"^Capped\({limit}\) counts nothing: give 1 or more$"):
        Capped(limit)


def test_counting_to_one_is_none() -> None:
    assert Capped(1).limit == 1
    assert Capped(1000) == Capped(1000)


def test_other_parameters_are_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"^CursorParams says nothing of pages in memory: derive"):
        paginate_sequence([1], CursorParams())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
