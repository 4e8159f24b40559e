"""Works by page, by offset and by cursor, filtered, sorted and searched."""

import csv
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.support import run_server

WORKS = 4284
KINDS = {"works": "size", "works/by-offset": "limit", "works/by-cursor": "size"}
every_kind = pytest.mark.parametrize("path", KINDS)
Work = dict[str, Any]

with (Path(__file__).parent / "data" / "works.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))


def get(client: httpx.Client, path: str, **params: Any) -> dict[str, Any]:
    response = client.get(f"/{path}", params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def following(response: httpx.Response, relation: str) -> str | None:
    """The URL of another page, from the `Link` header or from the body."""
    links = response.json()["links"]
    if links is None:
        target = response.links.get(relation, {}).get("url")
    else:
        assert "link" not in response.headers
        target = links["previous" if relation == "prev" else relation]
    return target and urljoin(str(response.url), target)


def walk(client: httpx.Client, path: str, **params: Any) -> list[Work]:
    """All works of a list, by its links."""
    works: list[Work] = []
    url: str | None = str(client.base_url.join(f"/{path}"))
    query = {KINDS[path]: 100, **params}
    while url is not None:
        response = client.get(url, params=query or None)
        assert response.status_code == 200, response.text
        works += response.json()["items"]
        url, query = following(response, "next"), {}
    return works


@every_kind
def test_the_catalogue_has_every_work_of_the_file_once(client: httpx.Client, path: str) -> None:
    works = walk(client, path)
    assert len({work["id"] for work in works}) == len(works) == WORKS
    assert {work["tate_id"] for work in works} == {int(row["tate_id"]) for row in ROWS}
    assert len({work["artist"]["name"] for work in works}) == 701
    assert sum(work["title"] is None for work in works) == 781
    assert sum(work["support"] is None for work in works) == 645
    (phaethon,) = [work for work in works if work["title"] == "Phaëthon"]
    assert phaethon["artist"]["name"] == "Ayres, OBE Gillian"
    assert (phaethon["year"], phaethon["technique"]) == (1990, "Oil paint")


@pytest.mark.parametrize(
    "sort",
    [
        ["-year", "title"],
        ["support", "-technique"],
        ["artist", "-title"],
        ["-support", "-artist", "year"],
    ],
    ids=" ".join,
)
def test_a_list_is_the_same_however_it_is_read(client: httpx.Client, sort: list[str]) -> None:
    by_page, by_offset, by_cursor = (
        [work["id"] for work in walk(client, path, sort=sort, technique="etching")]
        for path in KINDS
    )
    assert by_page == by_offset == by_cursor
    assert len(set(by_page)) == len(by_page)
    assert len(by_page) == sum("etching" in row["technique"].lower() for row in ROWS)


def test_works_are_sorted_by_several_keys_and_their_number(client: httpx.Client) -> None:
    works = walk(client, "works/by-cursor", sort=["-year", "support"], since=2003)
    # NULL counts as greater than any text; how texts are ordered is the database's to say.
    for one, other in pairwise(works):
        assert one["year"] >= other["year"]
        if one["year"] == other["year"]:
            if one["support"] is None:
                assert other["support"] is None
            if one["support"] == other["support"]:
                assert one["id"] < other["id"]
    assert any(work["support"] is None for work in works)


def test_a_walk_goes_back_the_way_it_came(client: httpx.Client) -> None:
    params: Any = {"sort": ["title", "-year"], "size": 100, "technique": "drypoint"}
    response = client.get("/works/by-cursor", params=params)
    forwards = [response.json()["items"]]
    while url := following(response, "next"):
        response = client.get(url)
        forwards.append(response.json()["items"])
    assert len(forwards) > 1
    backwards = [forwards[-1]]
    while url := following(response, "prev"):
        response = client.get(url)
        backwards.append(response.json()["items"])
    assert backwards == forwards[::-1]


@contextmanager
def added(client: httpx.Client, **values: Any) -> Generator[Work]:
    artist_id = get(client, "works", size=1)["items"][0]["artist"]["id"]
    body = {"artist_id": artist_id, "year": 1000, "technique": "Drypoint", **values}
    response = client.post("/works", json=body)
    assert response.status_code == 201, response.text
    try:
        yield response.json()
    finally:
        client.delete(f"/works/{response.json()['id']}")


def test_a_work_that_is_added_on_the_way_shifts_pages_and_no_walk(client: httpx.Client) -> None:
    first: dict[str, list[int]] = {}
    second: dict[str, list[int]] = {}
    urls: dict[str, str | None] = {}
    for path in KINDS:
        params: Any = {"sort": "year", KINDS[path]: 10}
        response = client.get(f"/{path}", params=params)
        first[path] = [work["id"] for work in response.json()["items"]]
        urls[path] = following(response, "next")
    with added(client):
        for path, url in urls.items():
            assert url is not None
            second[path] = [work["id"] for work in client.get(url).json()["items"]]
    twice = {path: {*first[path]} & {*second[path]} for path in KINDS}
    assert len(twice["works"]) == len(twice["works/by-offset"]) == 1
    assert twice["works/by-cursor"] == set()


def found_in(row: dict[str, str], text: str) -> bool:
    return any(text in row[name].lower() for name in ("title", "artist", "technique"))


FILTERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, str]], object]]] = {
    "search, in the title": ({"q": "untitled"}, lambda row: found_in(row, "untitled")),
    "search, in the artist": ({"q": "HOCKNEY"}, lambda row: found_in(row, "hockney")),
    "artist, beyond ASCII": ({"artist": "thérèse"}, lambda row: "Thérèse" in row["artist"]),
    "technique": ({"technique": "wood"}, lambda row: "wood" in row["technique"].lower()),
    "a wildcard is a character": ({"q": "%"}, lambda row: found_in(row, "%")),
    "one support": ({"support": "canvas"}, lambda row: row["support"] == "canvas"),
    "two supports": (
        {"support": ["canvas", "fabric"]},
        lambda row: row["support"] in ("canvas", "fabric"),
    ),
    "without a title": ({"untitled": "true"}, lambda row: not row["title"]),
    "with a title": ({"untitled": "false"}, lambda row: row["title"]),
    "since": ({"since": 2008}, lambda row: int(row["year"]) >= 2008),
    "until": ({"until": 1991}, lambda row: int(row["year"]) <= 1991),
    "all of it": (
        {"q": "paint", "support": "canvas", "since": 1995, "until": 1999, "untitled": "false"},
        lambda row: (
            found_in(row, "paint")
            and row["support"] == "canvas"
            and 1995 <= int(row["year"]) <= 1999
            and row["title"]
        ),
    ),
    "nothing": ({"q": "", "artist": "", "support": "", "since": "", "sort": ""}, lambda row: True),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_find_what_the_file_has(client: httpx.Client, name: str) -> None:
    params, holds = FILTERS[name]
    expected = {int(row["tate_id"]) for row in ROWS if holds(row)}
    assert get(client, "works", **params)["total"] == len(expected)
    stretch = get(client, "works/by-offset", **params)
    assert stretch["total"] == min(len(expected), 1000)
    assert stretch["total_capped"] is (len(expected) > 1000)
    if len(expected) < 1000:
        found = [work["tate_id"] for work in walk(client, "works/by-cursor", **params)]
        assert len(found) == len(expected)
        assert {*found} == expected


def test_works_of_an_artist_by_number(client: httpx.Client) -> None:
    works = get(client, "works", artist="hockney")["items"]
    (number,) = {work["artist"]["id"] for work in works}
    found = get(client, "works", artist_id=[number, 2**31 - 1], size=1)
    assert found["total"] == sum("hockney" in row["artist"].lower() for row in ROWS)


def test_a_walk_has_no_total(client: httpx.Client) -> None:
    assert get(client, "works/by-cursor")["total"] is None


def test_totals_hold_past_the_end(client: httpx.Client) -> None:
    page = get(client, "works", page=9999)
    assert (page["items"], page["total"], page["has_next"]) == ([], WORKS, False)
    stretch = get(client, "works/by-offset", offset=10**6)
    assert (stretch["items"], stretch["total"], stretch["total_capped"]) == ([], 1000, True)


@pytest.mark.parametrize(
    ("path", "relations"),
    [("works", {"first", "prev", "next", "last"}), ("works/by-cursor", {"first", "prev", "next"})],
)
def test_the_link_header_leads_on_and_keeps_the_filters(
    client: httpx.Client, path: str, relations: set[str]
) -> None:
    params: Any = {"q": "ink", "support": ["paper", "canvas"], "sort": "-year", "size": 1}
    response = client.get(f"/{path}", params=params)
    response = client.get(response.links["next"]["url"])
    assert {*response.links} == relations
    for link in response.links.values():
        query = httpx.URL(link["url"]).params
        assert query.get_list("support") == ["paper", "canvas"]
        assert (query["q"], query["sort"], query["size"]) == ("ink", "-year", "1")
        assert client.get(link["url"]).status_code == 200


REFUSED = [
    ("works", "size=101", "size"),
    ("works", "size=0", "size"),
    ("works", "page=0", "page"),
    ("works", f"page={2**63}", "page"),
    ("works", "sort=artist_id", "sort"),
    ("works", "sort=id&sort=nope", "sort"),
    ("works", "artits=hockney", "artits"),
    ("works", "limit=10", "limit"),
    ("works", "since=0", "since"),
    ("works", "untitled=perhaps", "untitled"),
    ("works", "q=%00", "q"),
    ("works", "q=" + "x" * 101, "q"),
    ("works", f"artist_id={2**31}", "artist_id"),
    ("works/by-offset", "limit=101", "limit"),
    ("works/by-offset", "offset=-1", "offset"),
    ("works/by-offset", f"offset={2**63}", "offset"),
    ("works/by-cursor", "cursor=made-up", "cursor"),
    ("works/by-cursor", "page=2", "page"),
]


@pytest.mark.parametrize(("path", "query", "name"), REFUSED)
def test_what_cannot_be_asked_for_is_a_422_that_names_it(
    client: httpx.Client, path: str, query: str, name: str
) -> None:
    response = client.get(f"/{path}?{query}")
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["loc"][:2] == ["query", name]


def test_a_cursor_is_good_for_its_own_order_and_filters(client: httpx.Client) -> None:
    cursor = get(client, "works/by-cursor", sort="year", q="ink", size=1)["next_cursor"]
    good = {"sort": "year", "q": "ink", "cursor": cursor}
    assert client.get("/works/by-cursor", params=good).status_code == 200
    for other in ({"sort": "-year"}, {"q": "in"}, {"cursor": cursor[:-2]}):
        assert client.get("/works/by-cursor", params={**good, **other}).status_code == 422


def test_a_secret_signs_cursors(client: httpx.Client, database_url: str) -> None:
    unsigned = get(client, "works/by-cursor", size=1)["next_cursor"]
    env = {"CATALOGUE_DATABASE_URL": database_url, "CATALOGUE_CURSOR_SECRET": "0123456789abcdef"}
    with (
        run_server("examples.catalogue.app:app", env=env) as server,
        httpx.Client(base_url=server.base_url, timeout=30) as signing,
    ):
        signed = get(signing, "works/by-cursor", size=1)["next_cursor"]
        assert get(signing, "works/by-cursor", size=1, cursor=signed)["items"][0]["id"] == 2
        for cursor, other in ((unsigned, signing), (signed, client)):
            refused = other.get("/works/by-cursor", params={"cursor": cursor})
            assert refused.status_code == 422


def test_openapi_shows_what_may_be_asked_for(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, size in KINDS.items():
        parameters = {each["name"]: each for each in paths[f"/{path}"]["get"]["parameters"]}
        assert parameters["sort"]["schema"]["items"]["enum"][:4] == [
            "id",
            "-id",
            "artist",
            "-artist",
        ]
        assert parameters["support"]["schema"]["type"] == "array"
        assert parameters[size]["schema"]["maximum"] == 100
        assert not any(each["required"] for each in parameters.values())
