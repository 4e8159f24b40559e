"""The page and the API docs, in Chromium: who signs in, what is refused, what is renewed."""

# Playwright may be missing: then its names are for type checkers alone.
from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import Server, run_server, unavailable

if TYPE_CHECKING or find_spec("playwright"):
    from playwright.sync_api import Locator, Page, Response, Route, expect

ACCESS_SECONDS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('catalogue') / 'catalogue.db'}"
    env = {"CATALOGUE_DATABASE_URL": url, "CATALOGUE_ACCESS_SECONDS": str(ACCESS_SECONDS)}
    with run_server("examples.catalogue.app:app", env=env) as server:
        yield server


@pytest.fixture
def page(new_page: Callable[[str], Page], server: Server) -> Page:
    page = new_page(server.base_url)
    opened(page)
    return page


def opened(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("listitem").filter(has_text="raw-umber")).to_be_visible()
    expect(page.locator("#rows tr")).to_have_count(10)


def who(page: Page) -> Locator:
    return page.locator("#who")


def sign_in(page: Page, username: str) -> None:
    page.get_by_role("button", name=f"Sign in as {username}").click()
    expect(who(page)).to_contain_text(f"Signed in as {username}.")


def card(page: Page, demo: str) -> Locator:
    return page.locator(f'[data-demo="{demo}"]')


def edit(page: Page, button: str) -> Locator:
    """Click it, and wait for the last of what is answered."""
    found = card(page, "edit")
    found.get_by_role("button", name=button).click()
    expect(found.get_by_role("status")).to_contain_text("Details follow.")
    return found.locator(".exchange").last


def answers(page: Page, path: str) -> list[int]:
    """The statuses of what will be answered there."""
    found: list[int] = []

    def remember(response: Response) -> None:
        if response.url.endswith(path):
            found.append(response.status)

    page.on("response", remember)
    return found


def test_an_editor_signs_in_and_edits_with_the_keyboard(page: Page) -> None:
    page.get_by_label("Username").focus()
    page.keyboard.type("demo-editor")
    page.keyboard.press("Tab")
    page.keyboard.type("crimson-lake")
    page.keyboard.press("Enter")
    expect(who(page)).to_have_text("Signed in as demo-editor. Scopes: works:write.")
    expect(who(page)).to_be_focused()  # what had the focus is gone
    expect(who(page)).to_have_attribute("role", "status")
    expect(page.get_by_label("Password", exact=True)).to_be_hidden()
    expect(page.locator(".needs").first).to_be_hidden()

    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Sign out", exact=True)).to_be_focused()
    edits = card(page, "edit")
    edits.get_by_label("Title").fill("Blaue Stunde")
    edits.get_by_role("button", name="Add a work").focus()
    page.keyboard.press("Enter")
    expect(edits.locator(".answer")).to_have_text("201 Created")
    number = edits.get_by_label("Number").input_value()
    edits.get_by_label("Title").fill("Wei\u00dfe Stunde")
    expect(edit(page, "Change its title").locator(".answer")).to_have_text("200 OK")
    page.get_by_label("Search in titles, artists and techniques").fill("e Stunde")
    row = page.get_by_role("row").filter(has_text=number)
    expect(row).to_contain_text("Wei\u00dfe Stunde")
    expect(edit(page, "Delete it").locator(".answer")).to_have_text("204 No Content")
    expect(row).to_have_count(0)


def test_tokens_are_in_the_memory_of_the_page_alone(page: Page) -> None:
    sign_in(page, "demo-editor")
    kept = "Object.keys(localStorage).length + Object.keys(sessionStorage).length"
    assert page.evaluate(kept) == 0
    assert page.context.cookies() == []
    assert not re.search(r"ey[\w-]{20}", page.content())
    opened(page)
    expect(who(page)).to_have_text("Nobody is signed in.")


def test_a_stranger_and_a_visitor_are_refused_in_words(page: Page) -> None:
    refused = edit(page, "Add a work")
    expect(refused.locator(".answer")).to_have_text("401 Unauthorized")
    expect(refused).to_contain_text('"detail": "Not authenticated."')
    sign_in(page, "demo-visitor")
    expect(who(page)).to_contain_text("Scopes: none, so may only read.")
    refused = edit(page, "Add a work")
    expect(refused.locator(".answer")).to_have_text("403 Forbidden")
    expect(refused).to_contain_text('error="insufficient_scope", scope="works:write"')
    needs = card(page, "lifecycle")
    expect(needs.locator(".needs")).to_be_visible()
    needs.get_by_role("button").click()
    expect(needs.get_by_role("status")).to_contain_text("403: sign in as somebody with")
    expect(needs.locator(".exchange")).to_have_count(1)


def test_a_login_that_fails_says_so_and_keeps_what_was_typed(page: Page) -> None:
    page.get_by_role("button", name="Sign in as demo-former").click()
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("Not signed in: The username or the password is wrong.")
    page.get_by_label("Username").fill("demo-visitor")
    page.get_by_label("Password", exact=True).fill("a guess")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(alert).to_have_text("Not signed in: The username or the password is wrong.")
    expect(page.get_by_label("Username")).to_have_value("demo-visitor")
    expect(who(page)).to_have_text("Nobody is signed in.")


def test_an_access_token_is_renewed_before_it_expires(page: Page) -> None:
    sign_in(page, "demo-editor")
    refused = answers(page, "/works/2147483647")
    exchanged = answers(page, "/auth/token")
    time.sleep(ACCESS_SECONDS + 1)
    card(page, "edit").get_by_label("Number").fill("2147483647")
    expect(edit(page, "Delete it").locator(".answer")).to_have_text("404 Not Found")
    assert (refused, exchanged) == ([404], [200])
    expect(page.locator("#renewals")).to_have_text("1")
    expect(who(page)).to_have_text("Signed in as demo-editor. Scopes: works:write.")


def test_an_access_token_that_is_refused_is_renewed_once_for_all_who_wait(page: Page) -> None:
    page.clock.set_fixed_time(time.time())  # so the page does not know that time has passed
    sign_in(page, "demo-editor")
    refused = answers(page, "/works/2147483647")
    exchanged = answers(page, "/auth/token")
    time.sleep(ACCESS_SECONDS + 1)
    card(page, "edit").get_by_label("Number").fill("2147483647")
    both = '[data-action="change"], [data-action="delete"]'
    card(page, "edit").locator(both).evaluate_all("(both) => both.forEach((each) => each.click())")
    found = card(page, "edit").locator(".answer")
    expect(found).to_have_text(["404 Not Found", "404 Not Found"])
    assert (sorted(refused), exchanged) == ([401, 401, 404, 404], [200])
    expect(page.locator("#renewals")).to_have_text("1")


def test_signing_out_ends_the_login(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.headers.get("authorization", "")))
    sign_in(page, "demo-editor")
    (token,) = set(filter(None, sent))
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(who(page)).to_have_text("Signed out here. Nobody is signed in.")
    expect(who(page)).to_be_focused()
    expect(page.get_by_label("Password", exact=True)).to_have_value("")
    assert page.request.get("/auth/me", headers={"Authorization": token}).status == 401
    sent.clear()
    expect(edit(page, "Add a work").locator(".answer")).to_have_text("401 Unauthorized")
    assert set(sent) == {""}  # the page has forgotten the token, too


def test_signing_out_everywhere_ends_the_other_logins(page: Page) -> None:
    other = page.context.new_page()
    opened(other)
    for each in (page, other):
        sign_in(each, "demo-editor")
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(who(page)).to_have_text("Signed out everywhere. Nobody is signed in.")
    expect(edit(other, "Add a work").locator(".answer")).to_have_text("401 Unauthorized")
    expect(who(other)).to_have_text("The login has ended. Sign in again. Nobody is signed in.")


@pytest.mark.parametrize(
    ("demo", "shown"),
    [
        ("one-answer", ["401 Unauthorized"] * 3),
        ("reuse", ["401 Unauthorized"] * 2),
        ("guessing", ["401 Unauthorized", "429 Too Many Requests"]),
        ("machines", ["401 Unauthorized", "201 Created"]),
        ("walk", []),
        ("own", ["418 I'm a Teapot", "409 Conflict"]),
        ("nan", ["422 Unprocessable Content"]),
        ("conflict", ["409 Conflict"]),
        ("lifecycle", ["201 Created", "200 OK", "204 No Content"]),
    ],
)
def test_cards_show_what_they_say_at_the_width_of_a_phone(
    page: Page, demo: str, shown: list[str]
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page, "demo-editor")
    card(page, demo).get_by_role("button").click()
    expect(card(page, demo).get_by_role("status")).to_contain_text("Details follow.")
    expect(card(page, demo).locator(".answer")).to_have_count(len(shown))
    texts = card(page, demo).locator(".answer").all_inner_texts()
    assert [text[:3] for text in texts] == [text[:3] for text in shown]
    if demo == "reuse":
        expect(card(page, demo)).to_contain_text("get the same successor.")
    if demo == "walk":
        expect(card(page, demo).get_by_role("status")).to_contain_text("0 of them twice.")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_page_is_refused_whatever_is_not_its_own(page: Page) -> None:
    def is_blocked(script: str) -> bool:
        told = "document.addEventListener('securitypolicyviolation', () => resolve(true));"
        late = "setTimeout(() => resolve(false), 5000);"
        return bool(page.evaluate(f"() => new Promise((resolve) => {{ {told} {late} {script} }})"))

    inline = "const made = document.createElement('script'); made.text = '0';"
    assert is_blocked(f"{inline} document.body.append(made);")
    assert is_blocked("fetch('https://elsewhere.invalid/').catch(() => {});")


SWAGGER = re.compile("^https://")


def from_package(route: Route) -> None:
    """Swagger UI, which the docs page has from elsewhere, as a Python package brings it."""
    name = route.request.url.rpartition("/")[2]
    path = Path(str(files("fastapi_offline") / "static" / name))
    if path.is_file():
        route.fulfill(path=path)
    else:
        route.abort()


def test_swagger_ui_authorizes(page: Page) -> None:
    if find_spec("fastapi_offline") is None:
        unavailable("fastapi-offline is not installed: install the dependency group `integration`.")
    page.route(SWAGGER, from_package)
    exchanged = answers(page, "/auth/token")
    page.goto("/docs")
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".modal-ux")
    expect(dialog).to_contain_text("auth/token")
    dialog.get_by_label("username:").fill("demo-editor")
    dialog.get_by_label("password:", exact=True).fill("crimson-lake")
    dialog.get_by_role("button", name="Apply given OAuth2 credentials").click()
    expect(dialog.get_by_text("Logout")).to_be_visible()
    assert exchanged == [200]
    dialog.get_by_role("button", name="Close").first.click()

    me = page.locator(".opblock", has_text="/auth/me")
    me.locator(".opblock-summary-control").click()
    me.get_by_role("button", name="Try it out").click()
    me.get_by_role("button", name="Execute").click()
    answer = me.locator(".live-responses-table")
    expect(answer).to_contain_text('"sub": "demo-editor"')
    expect(answer).to_contain_text('"works:write"')
