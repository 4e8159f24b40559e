"""Two pages in Chromium, of one process and of two: what people see, and how a page comes back."""

# Playwright may be missing: then its names are for type checkers alone.
from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from examples.chat.conftest import Chat

if TYPE_CHECKING or find_spec("playwright"):
    from playwright.sync_api import Locator, Page, WebSocketRoute, expect

SOCKET = "**/ws?*"


@pytest.fixture
def room() -> str:
    return uuid4().hex[:24]


def join(page: Page, room: str, name: str) -> None:
    page.goto(f"/#/{room}")
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#here")).to_contain_text(f"{name} (you)")


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def said(page: Page) -> Locator:
    return page.get_by_role("log").locator("li p")


def state(page: Page) -> Locator:
    return page.locator("#state")


def remember_states(page: Page) -> Callable[[], list[str]]:
    """All that the page has said of its connection."""
    page.evaluate(
        """() => {
            const state = document.getElementById("state");
            window.states = [];
            new MutationObserver(() => window.states.push(state.textContent))
                .observe(state, {childList: true, characterData: true, subtree: true});
        }"""
    )
    return lambda: page.evaluate("window.states")


@pytest.fixture
def ada(chat: Chat, room: str, new_page: Callable[[str], Page]) -> Page:
    page = new_page(chat.one)
    join(page, room, "Ada")
    return page


@pytest.fixture
def ben(chat: Chat, room: str, new_page: Callable[[str], Page], ada: Page) -> Page:
    """After Ada, with a phone."""
    page = new_page(chat.two)
    page.set_viewport_size({"width": 390, "height": 844})
    join(page, room, "Ben")
    return page


def test_two_pages_talk(ada: Page, ben: Page, room: str) -> None:
    expect(ada.locator("#here li")).to_have_text(["Ada (you)", "Ben"])
    expect(ada.get_by_label("Message", exact=True)).to_be_focused()
    ada.keyboard.type("<img src=x onerror=alert(1)>")
    ada.keyboard.press("Shift+Enter")
    ada.keyboard.type("and a second line")
    ada.keyboard.press("Enter")
    first = "<img src=x onerror=alert(1)>\nand a second line"
    for page in (ada, ben):
        expect(said(page)).to_have_text([first])
        assert page.locator("img").count() == 0
    say(ben, "x" * 500)
    expect(said(ada)).to_have_text([first, "x" * 500])
    assert ben.evaluate("document.documentElement.scrollWidth") == 390

    ada.reload()  # is still Ada, and here
    expect(said(ada)).to_have_text([first, "x" * 500])
    expect(ada.locator("#here li")).to_have_text(["Ada (you)", "Ben"])
    ben.get_by_role("link", name="kitchen").click()
    expect(ben.locator("#room-title")).to_have_text("kitchen")
    expect(ada.locator("#here li")).to_have_text(["Ada (you)"])
    ben.go_back()
    expect(said(ben)).to_have_text([first, "x" * 500])
    expect(ada.locator("#here li")).to_have_text(["Ada (you)", "Ben"])
    ben.close()
    expect(ada.locator("#here li")).to_have_text(["Ada (you)"])
    expect(ada.locator("#changes")).to_have_text("Ben left.")


def test_pages_come_back_after_a_restart_with_all_that_was_said(
    chat: Chat, ada: Page, ben: Page
) -> None:
    say(ada, "before")
    expect(said(ben)).to_have_text(["before"])
    states = [remember_states(page) for page in (ada, ben)]
    chat.stop()
    for page in (ada, ben):
        expect(state(page)).not_to_have_text("You are here.")
        say(page, f"typed while away at {page.viewport_size}")
        expect(page.locator("#waiting li")).to_have_count(1)
    for number in range(2, 6):
        say(ada, str(number))
    say(ada, "too many")
    expect(ada.get_by_role("alert")).to_contain_text("This one stays in the field.")
    expect(ada.get_by_label("Message", exact=True)).to_have_value("too many")
    expect(ada.locator("#countdown")).to_contain_text("Again in")
    chat.start()
    for page, told in zip((ada, ben), states, strict=True):
        expect(said(page)).to_have_count(7)
        expect(page.locator("#waiting li")).to_have_count(0)
        expect(page.locator("#here li")).to_have_count(2)
        assert told()[0] == "The server restarts."
        assert told()[-1] == "You are here."
    assert said(ada).all_inner_texts() == said(ben).all_inner_texts()


def test_the_page_says_why_it_was_closed(ada: Page, ben: Page) -> None:
    """A browser reads as fast as it can, so what a server says to one that does not is said here by
    Playwright, between the page and the server."""
    sockets: list[WebSocketRoute] = []

    def between(page_side: WebSocketRoute) -> None:
        page_side.connect_to_server()
        sockets.append(page_side)

    ben.route_web_socket(SOCKET, between)
    ben.reload()
    expect(ben.locator("#here")).to_contain_text("Ben (you)")
    states = remember_states(ben)
    closings = {
        "The server has closed the connection, because this page read too slowly.": (
            1013,
            "Too slow.",
        ),
        "The server takes nobody in now: Too many connections.": (1013, "Too many connections."),
        "The server restarts.": (1012, ""),
        "The connection is lost.": (1011, ""),
    }
    for number, (words, (code, reason)) in enumerate(closings.items(), start=1):
        sockets[-1].close(code=code, reason=reason)
        say(ada, str(number))
        expect(said(ben)).to_have_count(number)
        expect(state(ben)).to_have_text("You are here.")
        assert states()[-2:] == [words, "You are here."]
    sockets[-1].close(code=1008, reason="At most 10 messages are taken in a second.")
    expect(state(ben)).to_have_text(
        "The server does not go on with this page: At most 10 messages are taken in a second."
    )
    ben.get_by_role("button", name="Connect now").click()
    expect(state(ben)).to_have_text("You are here.")

    ben.evaluate("sessionStorage.setItem('chat', JSON.stringify({name: '<b>'}))")
    ben.reload()
    expect(state(ben)).to_contain_text("The name is refused: A name has 1 to 24 letters")
    expect(ben.get_by_label("Your name")).to_be_focused()


@pytest.mark.parametrize("chat", ["redis"], indirect=True)
def test_what_cannot_be_sent_is_tried_again(chat: Chat, ada: Page, ben: Page) -> None:
    chat.kill_redis()
    say(ada, "Hello?")
    expect(ada.get_by_role("alert")).to_have_text(
        "Not sent yet: The server cannot reach the others now. It is tried again."
    )
    chat.start_redis()
    for page in (ada, ben):
        expect(said(page)).to_have_text(["Hello?"])
    expect(ada.get_by_role("alert")).to_have_text("")


def test_being_online_again_is_noticed_at_once(ada: Page, ben: Page) -> None:
    ben.context.set_offline(True)
    expect(state(ben)).to_have_text("This device is offline.")
    expect(ben.locator("#countdown")).to_have_text("Again when it is online.")
    say(ben, "written on a train")
    expect(ben.locator("#waiting li")).to_have_text("written on a train")
    ben.context.set_offline(False)
    expect(said(ada)).to_have_text("written on a train")
    expect(ben.locator("#waiting li")).to_have_count(0)
