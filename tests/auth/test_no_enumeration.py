"""Nobody learns from an answer, or from the work for it, who has an account."""

import threading
from typing import Any

import pytest

from fastkit.auth import BcryptHasher, passlib_context
from tests.auth.people import PASSWORD, Directory, User, client, hashed, make_auth

# What is stored of each user. Only one has the password that is tried.
USERS = [
    User("right"),
    User("wrong", hashed("another")),
    User("disabled", disabled=True),
    User("disabled-wrong", hashed("another"), disabled=True),
    User("no-password", None),
    User("no-hash", ""),
    User("broken-hash", "$2b$04$broken"),
    User("unknown-scheme", "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$AAAA"),
    User("plain-text", PASSWORD),
    User("nul", "$2b$04$\0"),
]
NAMES = [*(user.username for user in USERS[1:]), "unknown", "a" * 2000, "nul\0"]
PASSWORDS = [PASSWORD, "x", "x" * 73, "é" * 40, "\0", "a\0b", "x" * 40_000, "ß" * 10_000]


def answers(password: str, **options: Any) -> dict[str, tuple[int, str, dict[str, str]]]:
    http = client(make_auth(directory=Directory(USERS), **options))
    found: dict[str, tuple[int, str, dict[str, str]]] = {}
    for name in [*NAMES, "right"]:
        form = {"grant_type": "password", "username": name, "password": password}
        answer = http.post("/auth/token", data=form)
        found[name] = (answer.status_code, answer.text, dict(answer.headers))
    return found


@pytest.mark.parametrize("password", PASSWORDS)
def test_all_who_cannot_log_in_get_the_same_answer(password: str) -> None:
    found = answers(password)
    right = found.pop("right")
    assert (right[0] == 200) == (password == PASSWORD)
    if right[0] != 200:
        found["right"] = right
    assert len({str(answer) for answer in found.values()}) == 1
    assert next(iter(found.values()))[0] == 401


@pytest.mark.parametrize("password", [PASSWORD, "x" * 73, "a\0b"])
def test_so_they_do_with_another_hasher(password: str) -> None:
    found = answers(password, hasher=passlib_context(bcrypt__rounds=4))
    found.pop("right")
    assert len({str(answer) for answer in found.values()}) == 1


class Counting:
    """Bcrypt, and how much of it there was."""

    def __init__(self) -> None:
        self.hasher = BcryptHasher(rounds=4)
        self.verified = 0
        self.threads: set[int] = set()

    def hash(self, password: str, /) -> str:
        return self.hasher.hash(password)

    def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]:
        self.verified += 1
        self.threads.add(threading.get_ident())
        return self.hasher.verify_and_update(password, hash)


@pytest.mark.parametrize("name", [*NAMES, "right"])
def test_a_password_is_verified_once_for_everybody_and_in_a_thread(name: str) -> None:
    hasher = Counting()
    http = client(make_auth(directory=Directory(USERS), hasher=hasher))
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    http.post("/auth/token", data=form)
    assert hasher.verified == 1
    assert threading.get_ident() not in hasher.threads


def test_a_scope_that_nobody_has_tells_nothing_either() -> None:
    http = client(make_auth(directory=Directory(USERS)))
    texts: set[tuple[int, str]] = set()
    for name in NAMES:
        form = {"grant_type": "password", "username": name, "password": PASSWORD, "scope": "admin"}
        answer = http.post("/auth/token", data=form)
        texts.add((answer.status_code, answer.text))
    assert len(texts) == 1
    assert next(iter(texts))[0] == 401


def test_a_refresh_token_tells_not_why_it_is_good_no_more() -> None:
    texts: set[str] = set()
    for end in ("disabled", "deleted", "changed", "logout"):
        directory = Directory([User("alice")])
        http = client(make_auth(directory=directory))
        form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
        tokens = http.post("/auth/token", data=form).json()
        if end == "logout":
            http.post("/auth/revoke", data={"token": tokens["refresh_token"]})
        elif end == "deleted":
            del directory.users["alice"]
        else:
            directory.users["alice"] = (
                User("alice", disabled=True) if end == "disabled" else User("alice", hashed("new"))
            )
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        answer = http.post("/auth/token", data=form)
        texts.add(f"{answer.status_code} {answer.text} {answer.headers}")
        answer = http.post("/auth/token", data={**form, "refresh_token": "forged"})
        texts.add(f"{answer.status_code} {answer.text} {answer.headers}")
    assert len(texts) == 1
