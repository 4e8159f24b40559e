"""Links to the other pages, in the body and in the `Link` header."""

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AliasChoices, ConfigDict, Field
from starlette.responses import Response

from fastkit.pagination import (
    CursorParams,
    LimitOffsetPage,
    LimitOffsetParams,
    Page,
    PageLinks,
    PageParams,
    paginate_sequence,
)
from fastkit.pagination._pages import add_links
from tests.errors.support import http_scope
from tests.pagination.links_app import app, walk
from tests.pagination.support import client
from tests.support import Serve


def links_of(target: str, **options: Any) -> dict[str, Any]:
    response = client(app, **options).get(target)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["links"]
    return found


def asked(link: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(link).query, keep_blank_values=True, strict_parsing=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"first": 1, "next": 2, "last": 2}),
        ("?page=1&size=100", {"first": 1, "last": 1}),
        ("?page=2&size=50", {"first": 1, "previous": 1, "last": 2}),
        ("?page=5&size=10", {"first": 1, "previous": 4, "next": 6, "last": 10}),
        ("?page=4&size=33", {"first": 1, "previous": 3, "last": 4}),
        ("?page=5&size=33", {"first": 1, "previous": 4, "last": 4}),
        ("?page=1000&size=33", {"first": 1, "previous": 4, "last": 4}),
    ],
)
def test_pages_link_to_their_neighbours_and_the_ends(query: str, expected: dict[str, int]) -> None:
    links = links_of(f"/pages{query}")
    found = {relation: link for relation, link in links.items() if link is not None}
    assert {relation: int(dict(asked(link))["page"]) for relation, link in found.items()} == (
        expected
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"first": 0, "next": 50, "last": 50}),
        ("?limit=100", {"first": 0, "last": 0}),
        ("?offset=5&limit=10", {"first": 0, "previous": 0, "next": 15, "last": 90}),
        ("?offset=50&limit=30", {"first": 0, "previous": 20, "next": 80, "last": 90}),
        ("?offset=99&limit=1", {"first": 0, "previous": 98, "last": 99}),
        ("?offset=110&limit=30", {"first": 0, "previous": 80, "last": 90}),
        ("?offset=130&limit=30", {"first": 0, "previous": 90, "last": 90}),
        (f"?offset={2**53 - 1}&limit=1", {"first": 0, "previous": 99, "last": 99}),
    ],
)
def test_stretches_link_to_their_neighbours_and_the_ends(
    query: str, expected: dict[str, int]
) -> None:
    links = links_of(f"/stretches{query}")
    found = {relation: link for relation, link in links.items() if link is not None}
    assert {relation: int(dict(asked(link))["offset"]) for relation, link in found.items()} == (
        expected
    )


def test_a_walk_links_to_its_neighbours_and_its_start() -> None:
    assert links_of("/walk?size=5&cursor=x&lang=eo") == {
        "first": "/walk?size=5&lang=eo",
        "previous": "/walk?size=5&lang=eo&cursor=a",
        "next": "/walk?size=5&lang=eo&cursor=b-_c",
        "last": None,
    }


def request_for(target: bytes, **scope: Any) -> Request:
    return Request(http_scope(target=target, **scope))


def test_a_walk_of_one_page_links_to_its_start_alone() -> None:
    page = walk(CursorParams())
    page.next_cursor = page.previous_cursor = None
    add_links(page, CursorParams(), request_for(b"/walk?cursor="), None)
    assert page.links == PageLinks(first="/walk")


@pytest.mark.parametrize(("total", "capped"), [(None, False), (60, True)])
@pytest.mark.parametrize("kind", ["page", "stretch"])
def test_where_the_end_is_not_known_there_is_no_link_to_it(
    kind: str, total: int | None, capped: bool
) -> None:
    params: PageParams | LimitOffsetParams
    page: Page[int] | LimitOffsetPage[int]
    shared: dict[str, Any] = {
        "items": [1],
        "total": total,
        "total_capped": capped,
        "has_next": True,
    }
    if kind == "page":
        params, page = PageParams(page=1, size=1), Page[int](page=1, size=1, **shared)
    else:
        params = LimitOffsetParams(limit=1)
        page = LimitOffsetPage[int](limit=1, offset=0, **shared)
    add_links(page, params, request_for(b"/"), None)
    assert page.links is not None
    assert page.links.last is None
    assert page.links.next in ("/?page=2", "/?offset=1")


def test_a_total_that_is_too_small_hides_no_page_that_comes_before() -> None:
    members: dict[str, Any] = {"total": 5, "total_capped": False, "has_next": False}
    page = Page[int](items=[1], page=9, size=1, **members)
    add_links(page, PageParams(page=9, size=1), request_for(b"/"), None)
    assert page.links is not None
    assert page.links.previous == "/?page=8"


def test_of_nothing_the_first_page_is_the_last() -> None:
    page = paginate_sequence(range(0), PageParams(), request=request_for(b"/"))
    assert page.links == PageLinks(first="/?page=1", last="/?page=1")
    stretch = paginate_sequence(range(0), LimitOffsetParams(), request=request_for(b"/"))
    assert stretch.links == PageLinks(first="/?offset=0", last="/?offset=0")


def test_links_follow_one_another_through_all_pages() -> None:
    api = client(app)
    link: str | None = "/pages?size=7&tag=a&tag=b"
    last: str | None = None
    seen: list[int] = []
    while link is not None:
        body = api.get(link).json()
        seen += body["items"]
        link, last = body["links"]["next"], body["links"]["last"]
    assert seen == [*range(100)]
    back: list[int] = []
    link = last
    while link is not None:
        body = api.get(link).json()
        back = body["items"] + back
        link = body["links"]["previous"]
    assert back == seen


OTHERS = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "page"),
        st.text(st.characters(codec="utf-8")),
    ),
    max_size=6,
)


@given(others=OTHERS, at=st.integers(0, 6))
@example(others=[("tag", "a"), ("tag", "b"), ("q", "a&b=c#d+e %"), ("tag", "a")], at=1)
@example(others=[("pages", "1"), ("Page", "2"), ("page[]", "3"), ("empty", "")], at=0)
@example(others=[("q", '"><script>'), ("r", "\r\nSet-Cookie: a=b"), ("s", "\x00,;<>")], at=3)
def test_the_other_parameters_stay_as_they_are_and_in_order(
    others: list[tuple[str, str]], at: int
) -> None:
    pairs = [*others[:at], ("page", "2"), *others[at:]]
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    request, response = request_for(b"/pages?" + query.encode()), Response()
    params = PageParams(page=2)
    page = paginate_sequence(range(1000), params, request=request)
    assert page.links is not None
    for link, number in ((page.links.first, 1), (page.links.previous, 1), (page.links.next, 3)):
        assert link is not None
        assert link.isascii()
        assert asked(link) == [*others, ("page", str(number))]
    paginate_sequence(range(1000), params, request=request, response=response)
    assert header_links(response.headers["link"])["next"] == page.links.next


def test_a_repeated_page_number_is_replaced_as_a_whole() -> None:
    links = links_of("/pages?page=7&a=1&page=2&size=9&size=10")
    assert links["next"] == "/pages?a=1&size=9&size=10&page=3"


def header_links(header: str) -> dict[str, str]:
    """The links of a header field, by the grammar of RFC 8288, section 3, as strictly as it is."""
    token = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
    # RFC 3986: what a reference is made of.
    link = rf"<([A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*)>; ({token})=\"([a-z]+)\""
    assert re.fullmatch(rf"{link}(, {link})*", header), header
    assert not re.search(r"%(?![0-9A-F]{2})", header)
    found = re.findall(link, header)
    assert {parameter for _, parameter, _ in found} == {"rel"}
    relations = {relation: target for target, _, relation in found}
    assert len(relations) == len(found)
    return relations


def test_the_header_has_the_registered_relations() -> None:
    response = client(app).get("/of/x?page=2&size=10")
    links = response.json()["links"]
    assert header_links(response.headers["link"]) == {
        "first": links["first"],
        "prev": links["previous"],
        "next": links["next"],
        "last": links["last"],
    }
    assert header_links(client(app).get("/of/x?size=100").headers["link"]).keys() == {
        "first",
        "last",
    }


def test_links_are_in_the_header_or_in_the_body_and_only_when_asked_for() -> None:
    response = client(app).get("/header")
    assert response.json()["links"] is None
    assert "link" not in client(app).get("/pages").headers


def test_a_link_header_that_is_there_stays() -> None:
    first, *others = client(app).get("/header").headers.get_list("link")
    assert first == '</style.css>; rel="preload"'
    assert [*header_links(", ".join(others))] == ["first", "next", "last"]


def test_a_clients_parser_finds_them() -> None:
    assert client(app).get("/of/a%2Cb%3Bc=%22d%22?size=10&page=2&q=a%2Cb%3B%3E").links["next"][
        "url"
    ] == ("/of/a%2Cb%3Bc=%22d%22?size=10&q=a%2Cb%3B%3E&page=3")


def test_a_response_without_the_request_is_an_error() -> None:
    with pytest.raises(TypeError, match="give the request too"):
        paginate_sequence([1], PageParams(), response=Response())


HOSTILE = {
    "two slashes": "//evil.example",
    "three slashes": "///evil.example/x",
    "slash and backslash": "/\\evil.example",
    "two backslashes": "\\\\evil.example",
    "slash and tab": "/\t/evil.example",
    "slash and newline": "/\n/evil.example",
    "a scheme": "/javascript:alert(1)",
    "a scheme without a slash": "javascript:alert(1)",
    "dots": "/..//evil.example",
    "dots that are left": "/./..//evil.example",
    "a user": "//user@evil.example:80/",
    "a header": '/x>; rel="next"\r\nSet-Cookie: a=b',
    "quotes": "/a\"b'c<d>e",
    "a query": "/a?page=9#b",
    "percent": "/100%/%41",
    "spaces": "/a b  c",
    "no ascii": "/naïve/日本/😀",
    "controls": "/\x00\x01\x7f\x85\u2028",
    "brackets": "/[::1]/{x}|^`",
    "nothing": "",
}


@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("root", ["", "/api", "//evil.example", "/é\r\n"])
def test_a_path_that_means_harm_stays_a_path(path: str, root: str) -> None:
    request = request_for(b"/", path=path, root_path=root, query_string=b"page=1")
    response = Response()
    page = paginate_sequence(range(100), PageParams(), request=request)
    paginate_sequence(range(100), PageParams(), request=request, response=response)
    assert page.links is not None
    link = page.links.next
    assert link is not None
    assert header_links(response.headers["link"])["next"] == link
    base = "https://shop.example/somewhere/else"
    followed = urlsplit(urljoin(base, link))
    assert (followed.scheme, followed.netloc) == ("https", "shop.example")
    assert followed.query == "page=2"
    assert followed.fragment == ""
    assert httpx.URL(base).join(link).host == "shop.example"


@given(path=st.text(st.characters(codec="utf-8")), root=st.text(st.characters(codec="utf-8")))
def test_whatever_the_path_is_the_link_is_a_header_and_leads_back(path: str, root: str) -> None:
    request = request_for(b"/", path="/" + path, root_path=root)
    response = Response()
    paginate_sequence(range(100), PageParams(), request=request, response=response)
    link = header_links(response.headers["link"])["next"]
    assert link.startswith("/")
    assert not link.startswith("//")
    assert httpx.URL("https://shop.example").join(link).host == "shop.example"


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/pages", "", "/pages"),
        # The proxy has taken the prefix off, or has left it on.
        ("/pages", "/api", "/api/pages"),
        ("/api/pages", "/api", "/api/pages"),
        ("/pages", "/api/", "/api/pages"),
        ("/api/pages", "/api/", "/api/pages"),
        ("/pages", "/a/b", "/a/b/pages"),
        ("/a/b/pages", "/a/b", "/a/b/pages"),
        # A part of a name is no prefix.
        ("/apis/pages", "/api", "/api/apis/pages"),
        ("/api", "/api", "/api"),
        ("/sub/pages", "", "/sub/pages"),
        ("/api/sub/pages", "/api", "/api/sub/pages"),
        ("/", "/", "/"),
    ],
)
def test_links_have_the_prefix_once(path: str, root: str, expected: str) -> None:
    request = request_for(b"/", path=path, root_path=root)
    page = paginate_sequence(range(100), PageParams(), request=request)
    assert page.links is not None
    assert page.links.next == f"{expected}?page=2"


@pytest.mark.parametrize(
    ("target", "root", "expected"),
    [
        ("/pages", "", "/pages"),
        ("/pages", "/api", "/api/pages"),
        ("/api/pages", "/api", "/api/pages"),
        ("/sub/pages", "", "/sub/pages"),
        # That proxies keep the prefix is what Starlette's mounts need.
        ("/api/sub/pages", "/api", "/api/sub/pages"),
    ],
)
def test_links_are_right_behind_a_proxy_and_in_a_mounted_app(
    target: str, root: str, expected: str
) -> None:
    assert links_of(target, root_path=root)["next"] == f"{expected}?page=2"


def test_links_keep_the_names_that_clients_use() -> None:
    links = links_of("/aliased?page[number]=2&page[size]=5&page=9")
    assert links["next"] == "/aliased?page%5Bsize%5D=5&page=9&page%5Bnumber%5D=3"
    assert client(app).get(links["next"]).json()["page"] == 3
    walked = links_of("/walk-aliased?page%5Bafter%5D=x&cursor=kept")
    assert walked["first"] == "/walk-aliased?cursor=kept"
    assert walked["next"] == "/walk-aliased?cursor=kept&page%5Bafter%5D=b-_c"


class ByName(PageParams):
    model_config = ConfigDict(populate_by_name=True)

    page: Annotated[int, Field(ge=1, le=9, alias="p")] = 1


class ByChoice(PageParams):
    page: Annotated[int, Field(ge=1, le=9, validation_alias=AliasChoices("p", "q"))] = 1


@pytest.mark.parametrize(("model", "names"), [(ByName, ["p", "page"]), (ByChoice, ["p", "q"])])
def test_links_have_the_number_under_one_of_its_names(
    model: type[PageParams], names: list[str]
) -> None:
    for name in names:
        request = request_for(f"/pages?{name}=2&a=1".encode())
        params = model.model_validate({name: "2"})
        assert params.page == 2
        page = paginate_sequence(range(1000), params, request=request)
        assert page.links is not None
        assert page.links.next == "/pages?a=1&p=3"


def test_links_are_described_in_openapi() -> None:
    schema = app.openapi()["components"]["schemas"]["PageLinks"]
    assert [*schema["properties"]] == ["first", "previous", "next", "last"]


def test_a_method_in_a_form_has_links_to_its_own_path() -> None:
    search = FastAPI()

    @search.post("/search")
    async def read(request: Request, params: Annotated[PageParams, Query()]) -> Page[int]:
        return paginate_sequence(range(100), params, request=request)

    assert client(search).post("/search").json()["links"]["next"] == "/search?page=2"


def test_through_a_real_server_behind_a_proxy(serve: Serve) -> None:
    server = serve("tests.pagination.links_app:app", args=["--root-path", "/api"])
    with httpx.Client(base_url=server.base_url) as api:
        # What a proxy sends that takes the prefix off, for uvicorn puts it on again.
        assert api.get("/pages?a=1").json()["links"]["next"] == "/api/pages?a=1&page=2"
        assert api.get("/sub/pages").json()["links"]["next"] == "/api/sub/pages?page=2"
        for target in (b"/of/a%22%3e,?q=%e9", b"/of/%2F%2Fevil", b"/of/%e9%00"):
            url = httpx.URL(server.base_url).copy_with(raw_path=target)
            response = api.get(url)
            assert response.status_code == 200, (target, response.text)
            link = header_links(response.headers["link"])["next"]
            assert link == response.json()["links"]["next"]
            assert link.startswith("/api/of/")


def test_two_slashes_through_a_real_server(serve: Serve) -> None:
    server = serve("tests.pagination.links_app:app")
    url = httpx.URL(server.base_url).copy_with(raw_path=b"//evil.example/x")
    link = httpx.get(url).json()["links"]["next"]
    assert link == "/evil.example/x?page=2"
