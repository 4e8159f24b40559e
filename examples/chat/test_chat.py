"""The endpoint, through real servers: names, rooms, history, and who cannot keep up."""

import json
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from examples.chat.conftest import Chat
from examples.chat.messages import NAME_RULE

PATIENCE = 30  # seconds

Message = dict[str, Any]


class Client:
    """Somebody in a room."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def send(self, **message: object) -> None:
        self._socket.send(json.dumps(message, ensure_ascii=False))

    def receive(self) -> Message:
        message: Message = json.loads(self._socket.recv(timeout=PATIENCE))
        return message

    def until(self, kind: str) -> Message:
        """The next message of this kind."""
        while (message := self.receive())["kind"] != kind:
            pass
        return message

    def until_here(self, *names: str) -> None:
        while self.until("here")["here"] != sorted(names):
            pass

    def enter(self, room: str, after: str | None = None) -> Message:
        self.send(kind="enter", room=room, after=after)
        return self.until("entered")

    def say(self, text: str, room: str, ref: str | None = None) -> Message:
        self.send(kind="say", room=room, text=text, ref=ref or uuid4().hex)
        message: Message = self.until("sent")["message"]
        return message

    def closed(self) -> tuple[int, str]:
        """Read all that is left, and how it was closed."""
        with pytest.raises(ConnectionClosed) as caught:
            self.until("the end")
        assert caught.value.rcvd is not None, "it was cut off"
        return caught.value.rcvd.code, caught.value.rcvd.reason


@contextmanager
def connected(base_url: str, name: str, *, sock: socket.socket | None = None) -> Generator[Client]:
    url = f"{base_url.replace('http', 'ws')}/ws?{urlencode({'name': name})}"
    with connect(url, sock=sock, compression=None) as websocket:
        yield Client(websocket)


@pytest.fixture
def room() -> str:
    return uuid4().hex[:24]


def texts(entered: Message) -> list[str]:
    return [message["text"] for message in entered["messages"]]


def test_a_room_hears_what_is_said_in_it(chat: Chat, room: str) -> None:
    with (
        connected(chat.one, "Ada") as ada,
        connected(chat.two, "Zoë") as zoe,
        connected(chat.two, "Elsewhere") as elsewhere,
    ):
        assert ada.enter(room)["messages"] == []
        zoe.enter(room)
        elsewhere.enter(f"not-{room[:20]}")
        said = ada.say("  <b>Hello</b> \U0001f44b ", room)
        assert said["text"] == "<b>Hello</b> \U0001f44b"
        assert (said["name"], said["room"]) == ("Ada", room)
        assert zoe.until("said") == said
        answer = zoe.say("Hello yourself", room)
        assert ada.until("said") == answer
        own = elsewhere.say("alone", f"not-{room[:20]}")
        assert elsewhere.enter(f"not-{room[:20]}")["messages"] == [own]


def test_whoever_comes_later_or_again_gets_what_was_said(chat: Chat, room: str) -> None:
    with connected(chat.one, "Ada") as ada:
        ada.enter(room)
        said = [ada.say(f"{number}", room) for number in range(3)]
        with connected(chat.two, "Ben") as ben:
            assert ben.enter(room)["messages"] == said
            # Within seconds, some come again: their ids tell.
            again = ben.enter(room, after=said[1]["id"])
            assert said[2] in again["messages"]
            assert again["complete"]
        milliseconds = int(said[0]["id"].partition("-")[0])
        for number in range(60):
            ada.say(f"more {number}", room)
        with connected(chat.two, "Ben") as ben:
            missed = ben.enter(room, after=f"{milliseconds - 60_000}-0")
            assert texts(missed) == [f"more {number}" for number in range(10, 60)]
            assert not missed["complete"]
            last = missed["messages"][-1]
            assert ben.enter(room, after=last["id"])["complete"]
            later = f"{milliseconds + 3_600_000}-0"
            assert ben.enter(room, after=later)["messages"] == []


def test_what_is_sent_twice_is_said_once(chat: Chat, room: str) -> None:
    ref = uuid4().hex
    with connected(chat.one, "Ada") as first, connected(chat.two, "Ada") as second:
        first.enter(room)
        second.enter(room)
        said = first.say("once", room, ref)
        assert second.say("once", room, ref) == said
        assert first.enter(room)["messages"] == [said]


def test_a_room_knows_who_is_here(chat: Chat, room: str) -> None:
    with connected(chat.one, "Ada") as ada:
        assert ada.enter(room)["here"] == ["Ada"]
        with connected(chat.two, "Ben") as ben:
            assert ben.enter(room)["here"] == ["Ada", "Ben"]
            ada.until_here("Ada", "Ben")
            with connected(chat.one, "Cleo") as cleo, connected(chat.one, "Ben") as same:
                cleo.enter(room)
                same.enter(room)
                ada.until_here("Ada", "Ben", "Cleo")
                ben.enter(f"not-{room[:20]}")
                cleo.enter(f"not-{room[:20]}")
                ada.until_here("Ada", "Ben")  # who is in both by two connections
        ada.until_here("Ada")


@pytest.mark.parametrize("name", ["", " ", "-x", "a" * 25, "<b>", "a\nb", "\u202egnp"])
def test_a_name_that_is_none_is_refused_in_words(chat: Chat, name: str) -> None:
    with connected(chat.one, name) as client:
        assert client.closed() == (4000, NAME_RULE)


def test_what_is_not_understood_is_said_to_be_so(chat: Chat, room: str) -> None:
    say = {"kind": "say", "room": room, "text": "hello", "ref": uuid4().hex}
    with connected(chat.one, "Ada") as ada:
        ada.enter(room)
        for wrong, why in (
            ({"kind": "shout"}, "Input tag 'shout'"),
            ({}, "Unable to extract tag"),
            ({"kind": "enter", "room": "No Room"}, "room: "),
            ({"kind": "enter", "room": room, "after": "yesterday"}, "after: "),
            (say | {"text": "x" * 501}, "text: "),
            (say | {"text": " "}, "text: "),
            (say | {"ref": "mine"}, "ref: "),
        ):
            ada.send(**wrong)
            refused = ada.until("refused")
            assert refused["ref"] is None
            assert refused["why"].startswith(why)
        assert ada.say("Still here", room)["text"] == "Still here"


def test_there_are_limits(chat: Chat) -> None:
    name = f"Ada {uuid4().hex[:8]}"
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(chat.one, name)).enter("lobby")
        with connected(chat.one, name) as sixth:
            assert sixth.closed() == (1013, "Too many connections.")
    with connected(chat.one, "Ada") as ada:
        ada.send(kind="say", text="x" * 5_000)
        assert ada.closed() == (1009, "A message has at most 4096 bytes.")


def test_a_client_that_is_too_slow_is_told_so(chat: Chat, room: str) -> None:
    address = urlsplit(chat.one)
    # The less the kernel takes for it, the sooner the server notices.
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect((address.hostname, address.port))
    with (
        httpx.Client(base_url=chat.one, timeout=PATIENCE) as http,
        connected(chat.one, "Ada") as ada,
        connected(chat.one, "Slow", sock=small) as slow,
    ):

        def evicted() -> int:
            return int(http.get("/statistics").json()["messages"]["evicted"])

        ada.enter(room)
        slow.enter(room)
        before = evicted()
        # It stops to read from its socket when some messages wait in it, and has a second to read
        # on when it is closed.
        while evicted() == before:
            for _ in range(50):
                ada.send(kind="say", text="\U0001f40c" * 500, room=room, ref=uuid4().hex)
            for _ in range(50):
                ada.until("sent")
        assert slow.closed() == (1013, "Too slow.")


@pytest.mark.parametrize("chat", ["redis"], indirect=True)
def test_without_redis_a_message_is_refused_until_it_is_back(chat: Chat, room: str) -> None:
    with connected(chat.one, "Ada") as ada, connected(chat.two, "Ben") as ben:
        ada.enter(room)
        ben.enter(room)
        chat.kill_redis()
        message = {"kind": "say", "room": room, "text": "Hello?", "ref": uuid4().hex}
        ada.send(**message)
        refused = ada.until("refused")
        assert refused["ref"] == message["ref"]
        chat.start_redis()
        ben.until("ask-again")
        ada.until("ask-again")
        said = ada.say("Hello?", room, message["ref"])
        assert ben.enter(room)["messages"] == [said]
        answer = ben.say("Hello!", room)
        assert ada.until("said") == answer
