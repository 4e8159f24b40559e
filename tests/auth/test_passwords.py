"""Passwords that are wrong, strange or too many: each costs the same, and none is a 500."""

import asyncio
import gc
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import bcrypt
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from fastkit.auth._passwords import (
    BcryptHasher,
    NewPassword,
    PasswordError,
    PasswordHasher,
    Passwords,
    TooManyLoginsError,
)
from fastkit.errors import install_exception_handlers
from tests.auth.people import verify_by

CHEAP = BcryptHasher(rounds=4)
SECRET = "correct horse battery staple"
HASH = CHEAP.hash(SECRET)
LONG = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# Passwords that no hash is made of, each with the reason that is told.
REFUSED = {
    "": "is empty",
    LONG + "x": "has 73 bytes",
    "\U0001f511" * 19: "has 76 bytes",
    "x" * 1_000_000: "has 1000000 bytes",
    "sec\0ret": "has a NUL character",
    "sec\ud800ret": "is no valid Unicode",
}
refused = pytest.mark.parametrize("password", REFUSED, ids=REFUSED.values())

# Those published with crypt_blowfish: what other implementations have made of these passwords.
VECTORS = [
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
    ("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
    (
        LONG + "chars after 72 are ignored",
        "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
    ),
]
NO_HASHES = {
    "empty": "",
    "a disabled account's": "!",
    "the password itself": SECRET,
    "the beginning of one": "$2b$04$",
    "one too short": HASH[:-1],
    "one too long": HASH + "x",
    "one with a line's end": HASH + "\n",
    "of a faulty bcrypt": HASH.replace("$2b$", "$2x$"),
    "of the first bcrypt": HASH.replace("$2b$", "$2$"),
    "of too few rounds": HASH.replace("$04$", "$03$"),
    "of too many rounds": HASH.replace("$04$", "$32$"),
    "of rounds with one digit": HASH.replace("$04$", "$4$"),
    "of bits that no salt has": HASH[:28] + "/" + HASH[29:],
    "of other letters": HASH[:-1] + "\u20ac",
    "of no letters": "\ud800",
    "argon2's": "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b27Jw",
    "passlib's": "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8Sv",
}
no_hashes = pytest.mark.parametrize("hashed", NO_HASHES.values(), ids=NO_HASHES)


@refused
def test_what_could_be_mistaken_for_another_password_is_not_hashed(password: str) -> None:
    with pytest.raises(PasswordError, match=f"^The password {REFUSED[password]}") as caught:
        CHEAP.hash(password)
    assert not password or password not in str(caught.value)
    assert caught.value.__context__ is None  # an error of Unicode, for one, has the text


@pytest.mark.parametrize("password", [" ", "x", LONG, "\U0001f511" * 18, "\uffff", "\ufffd"])
def test_every_other_password_is_hashed(password: str) -> None:
    hashed = CHEAP.hash(password)
    assert hashed.startswith("$2b$04$")
    assert CHEAP.hash(password) != hashed
    assert CHEAP.verify_and_update(password, hashed) == (True, None)
    assert CHEAP.verify_and_update(password[:-1], hashed) == (False, None)


@pytest.mark.parametrize(("password", "hashed"), VECTORS)
@pytest.mark.parametrize("ident", ["$2a$", "$2b$", "$2y$"])
def test_hashes_of_other_bcrypts_are_verified(password: str, hashed: str, ident: str) -> None:
    hashed = ident + hashed[4:]
    assert CHEAP.verify_and_update(password, hashed) == (True, None)
    assert CHEAP.verify_and_update(password[1:], hashed) == (False, None)


def test_a_longer_password_of_former_days_still_opens_what_its_first_72_bytes_do() -> None:
    password = "x" + "\U0001f511" * 18  # its last character begins within and ends without
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    assert CHEAP.verify_and_update(password, hashed) == (True, None)
    assert CHEAP.verify_and_update(password + "more", hashed) == (True, None)
    assert CHEAP.verify_and_update(password[:-2], hashed) == (False, None)
    right, better = BcryptHasher(rounds=5).verify_and_update(password, hashed)
    assert right
    assert better is not None
    assert better.startswith("$2b$05$")
    assert BcryptHasher(rounds=5).verify_and_update(password, better) == (True, None)


def test_a_hash_is_replaced_when_it_took_less_work_and_only_then() -> None:
    right, better = BcryptHasher(rounds=6).verify_and_update(SECRET, HASH)
    assert right
    assert better is not None
    assert better.startswith("$2b$06$")
    assert BcryptHasher(rounds=6).verify_and_update(SECRET, better) == (True, None)
    assert BcryptHasher(rounds=6).verify_and_update("wrong", HASH) == (False, None)
    assert BcryptHasher(rounds=5).verify_and_update(SECRET, better) == (True, None)


@no_hashes
def test_what_is_no_bcrypt_hash_is_the_hash_of_no_password(hashed: str) -> None:
    assert CHEAP.verify_and_update(SECRET, hashed) == (False, None)


@st.composite
def spoilt_hashes(draw: st.DrawFn) -> str:
    at = draw(st.integers(0, len(HASH)))
    return HASH[:at] + draw(st.text()) + HASH[at + draw(st.integers(0, 2)) :]


@given(st.text() | spoilt_hashes())
def test_no_hash_raises(hashed: str) -> None:
    assert CHEAP.verify_and_update(SECRET, hashed)[0] == (hashed == HASH)


@given(st.text(st.characters(codec=None)))
def test_no_password_raises_or_is_right_by_chance(password: str) -> None:
    assert CHEAP.verify_and_update(password, HASH) == (password == SECRET, None)


def test_what_bcrypt_takes_for_the_same_is_not() -> None:
    # It goes round its key, and a NUL ends it.
    hashed = bcrypt.hashpw(b"a", bcrypt.gensalt(4)).decode()
    assert bcrypt.checkpw(b"a\0a", hashed.encode())
    assert CHEAP.verify_and_update("a\0a", hashed) == (False, None)
    assert CHEAP.verify_and_update("a\ud800", hashed) == (False, None)


@pytest.mark.parametrize("rounds", [-1, 3, 32, 1000])
def test_rounds_that_bcrypt_does_not_have_are_refused_at_once(rounds: int) -> None:
    with pytest.raises(ValueError, match=rf"^rounds={rounds} is no cost of bcrypt"):
        BcryptHasher(rounds=rounds)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The work of each use of bcrypt."""
    done: list[int] = []

    def counted(real: Callable[[bytes, bytes], Any]) -> Callable[[bytes, bytes], Any]:
        def count(password: bytes, salt: bytes) -> Any:
            before = len(done)
            answer = real(password, salt)
            # Older checkpw are made of hashpw.
            done[before:] = [2 ** int(salt[4:6])]
            return answer

        return count

    monkeypatch.setattr(bcrypt, "hashpw", counted(bcrypt.hashpw))
    monkeypatch.setattr(bcrypt, "checkpw", counted(bcrypt.checkpw))
    return done


STRANGE = ["wrong", *REFUSED]
# Whatever is stored, and whatever is sent: all of it is wrong.
WRONG = [(password, stored) for password in STRANGE for stored in (HASH, *NO_HASHES.values())]


@pytest.mark.parametrize("password", STRANGE, ids=["is another one", *REFUSED.values()])
@pytest.mark.parametrize("hashed", [HASH, *NO_HASHES.values()], ids=["a hash", *NO_HASHES])
def test_whatever_is_wrong_takes_the_work_of_a_wrong_password(
    work: list[int], password: str, hashed: str
) -> None:
    for rounds in (4, 5, 7):
        work.clear()
        assert BcryptHasher(rounds=rounds).verify_and_update(password, hashed) == (False, None)
        assert sum(work) == 2**rounds


class Registration(BaseModel):
    name: str
    password: NewPassword


def registration_app() -> FastAPI:
    app = FastAPI()

    @app.post("/users")
    def register(registration: Registration) -> str:
        return registration.name

    return app


def post(app: FastAPI, **body: object) -> tuple[int, str]:
    with TestClient(app) as client:
        json_type = {"Content-Type": "application/json"}
        answer = client.post("/users", content=json.dumps(body), headers=json_type)
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    "password",
    [*REFUSED, 31337, ["31337"], {"31337": "31337"}],
    ids=[*REFUSED.values(), "a number", "a list", "an object"],
)
@pytest.mark.parametrize("ours", [True, False])
def test_a_password_that_cannot_be_chosen_is_a_422_without_it(password: object, ours: bool) -> None:
    app = registration_app()
    if ours:
        install_exception_handlers(app)
    status, text = post(app, name="alice", password=password)
    assert status == 422
    assert '"loc":["body","password"]' in text.replace(" ", "")
    for secret in ("31337", LONG, "\U0001f511", "xxxxx", "sec"):
        assert secret not in json.dumps(json.loads(text), ensure_ascii=False)


@pytest.mark.parametrize("name", [{}, {"name": ["no", "text"]}])
def test_errors_of_other_fields_do_not_show_it_either(name: dict[str, object]) -> None:
    app = registration_app()
    install_exception_handlers(app)
    status, text = post(app, password=SECRET, **name)
    assert status == 422
    assert SECRET not in text


@pytest.mark.parametrize("password", ["x", LONG, "\U0001f511" * 18])
def test_a_password_that_can_be_chosen_comes_as_it_is(password: str) -> None:
    assert Registration(name="alice", password=password).password == password
    assert post(registration_app(), name="alice", password=password) == (200, '"alice"')


@refused
def test_pydantics_error_does_not_show_it(password: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Registration(name="alice", password=password)
    error = caught.value
    assert error.error_count() == 1
    assert error.errors()[0]["input"] == "**********"
    assert not password or password not in f"{error} {error!r}"
    assert error.__context__ is None


def test_what_can_be_chosen_is_in_the_schema_and_an_app_can_ask_for_more() -> None:
    class Longer(BaseModel):
        password: Annotated[NewPassword, Field(min_length=12, title="Your password")]

    field = {"type": "string", "format": "password", "minLength": 1, "maxLength": 72}
    schema = registration_app().openapi()["components"]["schemas"]["Registration"]
    assert schema["properties"]["password"] == {**field, "title": "Password"}
    longer = Longer.model_json_schema()["properties"]["password"]
    assert longer == {**field, "minLength": 12, "title": "Your password"}
    with pytest.raises(ValidationError, match="12"):
        Longer(password="x" * 11)
    assert Longer(password="x" * 12).password == "x" * 12


class Counting:
    """A hasher that refuses before it hashes, as pwdlib's and passlib's do."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[str] = []
        self.hashed: list[str] = []

    def hash(self, password: str) -> str:
        return f"plain:{password}"

    def verify_and_update(self, password: str, hash: str) -> tuple[bool, str | None]:
        self.asked.append(password)
        if self.fails:
            raise ValueError(f"{password} does not fit {hash}")
        if not hash.startswith("plain:"):
            raise LookupError(f"no scheme for {hash}")
        if len(password.encode()) > 72 or "\0" in password:
            raise ValueError(f"{password} is no password")
        self.hashed.append(password)
        return hash == f"plain:{password}", "plain:better"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("password", "hashed"),
    [
        ("wrong", "plain:secret"),
        ("wrong", None),
        ("secret", None),
        ("secret", "md5:secret"),
        ("secret", ""),
        *[(password, "plain:secret") for password in REFUSED],
        *[(password, None) for password in REFUSED],
        *[(password, "md5:secret") for password in REFUSED],
    ],
)
async def test_a_failed_login_hashes_one_password_whatever_it_is(
    password: str, hashed: str | None
) -> None:
    hasher = Counting()
    right, _ = await verify_by(Passwords(hasher), password, hashed)
    assert not right
    assert len(hasher.hashed) == 1
    assert len(hasher.hashed[0]) < 100


@pytest.mark.anyio
async def test_the_work_is_the_same_for_unknown_users_and_for_broken_hashes(
    work: list[int],
) -> None:
    passwords = Passwords(BcryptHasher(rounds=5))
    for password, stored in [*WRONG, *[(password, None) for password in STRANGE]]:
        work.clear()
        assert await verify_by(passwords, password, stored) == (False, None)
        assert sum(work) == 2**5


@pytest.mark.anyio
async def test_a_right_password_is_right_and_a_hash_is_upgraded() -> None:
    passwords = Passwords(BcryptHasher(rounds=5))
    assert await verify_by(passwords, SECRET, await passwords.hash(SECRET)) == (True, None)
    right, better = await verify_by(passwords, SECRET, HASH)
    assert right
    assert better is not None
    assert await verify_by(passwords, SECRET, better) == (True, None)


@pytest.mark.anyio
async def test_no_password_is_that_of_an_unknown_user() -> None:
    class Credulous(Counting):
        def verify_and_update(self, password: str, hash: str) -> tuple[bool, str | None]:
            return True, "better"

    assert await verify_by(Passwords(Credulous()), "anything", None) == (False, None)


@pytest.mark.anyio
@pytest.mark.parametrize("hashed", ["plain:31337", None])
async def test_a_hasher_that_fails_is_a_failed_login_and_logged_without_the_password(
    hashed: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    hasher = Counting(fails=True)
    with caplog.at_level(logging.DEBUG):
        assert await verify_by(Passwords(hasher), "31337", hashed) == (False, None)
    assert len(hasher.asked) == 2
    lines = [record.getMessage() for record in caplog.records if record.name == "fastkit.auth"]
    assert len(lines) == 2
    assert lines[0].startswith(
        "a password hasher failed, which is a failed login: builtins.ValueError at "
    )
    assert "test_passwords.py:" in lines[0]
    assert "31337" not in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.anyio
async def test_a_very_long_password_is_not_given_to_the_hasher() -> None:
    hasher = Counting()
    passwords = Passwords(hasher)
    await verify_by(passwords, "x" * 4096, None)
    await verify_by(passwords, "x" * 4097, None)
    assert [len(password) for password in hasher.asked if "x" * 9 in password] == [4096]


@pytest.mark.anyio
async def test_what_cannot_be_hashed_raises_what_the_hasher_says() -> None:
    with pytest.raises(PasswordError, match="NUL"):
        await Passwords(CHEAP).hash("\0")


def test_a_hasher_that_cannot_hash_is_refused_at_once() -> None:
    class Broken(Counting):
        def hash(self, password: str) -> str:
            raise ValueError("password cannot be longer than 72 bytes")

    with pytest.raises(ValueError, match=r"Broken, cannot hash a password \(ValueError: password"):
        Passwords(Broken())
    nothing: Any = object()
    with pytest.raises(ValueError, match=r"a builtins\.object, cannot hash a password"):
        Passwords(nothing)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_lets_nobody_in_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=rf"^limit={limit} would let nobody in"):
        Passwords(CHEAP, limit=limit)


class Held:
    """A hasher that verifies nothing before it is let go, and knows how many it verifies."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.most = self.finished = 0
        self.go = threading.Event()

    def hash(self, password: str) -> str:
        return password

    def verify_and_update(self, password: str, hash: str) -> tuple[bool, str | None]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.go.wait(60)
        with self.lock:
            self.running -= 1
            self.finished += 1
        return password == hash, None


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - it is true in a thread
            await anyio.sleep(0.001)


@asynccontextmanager
async def logins(passwords: Passwords, number: int) -> AsyncGenerator[list[asyncio.Task[Any]]]:
    """So many logins at once, begun in this order and ended when this ends."""
    tasks = [asyncio.ensure_future(verify_by(passwords, "a", "a")) for _ in range(number)]
    await checkpoint()
    try:
        yield tasks
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.anyio
async def test_many_logins_at_once_hash_a_few_at_a_time_and_hold_up_nobody_else() -> None:
    hasher = Held()
    async with logins(Passwords(hasher, limit=2), 20) as tasks:
        await until(lambda: hasher.running == 2)
        # Others' threads are as free as ever.
        others = to_thread.current_default_thread_limiter()
        assert others.borrowed_tokens == 0
        assert await asyncio.gather(*[to_thread.run_sync(lambda: "done") for _ in range(60)])
        assert hasher.most == 2
        hasher.go.set()
        assert await asyncio.gather(*tasks) == [(True, None)] * 20
    assert hasher.most == 2
    assert hasher.finished == 20


@pytest.mark.anyio
async def test_hashing_waits_in_the_same_line() -> None:
    hasher = Held()
    passwords = Passwords(hasher, limit=1)
    async with logins(passwords, 1):
        await until(lambda: hasher.running == 1)
        waiting = asyncio.ensure_future(passwords.hash("a"))
        await anyio.sleep(0.05)
        assert not waiting.done()
        hasher.go.set()
        assert await waiting == "a"


@pytest.mark.anyio
async def test_a_line_that_is_too_long_is_a_503() -> None:
    hasher = Held()
    passwords = Passwords(hasher, limit=2)
    async with logins(passwords, 102) as tasks:
        for refused in (verify_by(passwords, "a", "a"), passwords.hash("a")):
            with pytest.raises(TooManyLoginsError) as caught:
                await refused
            assert caught.value.problem.status == 503
            assert caught.value.headers == {"Retry-After": "10"}
        assert not any(task.done() for task in tasks)
        hasher.go.set()
        assert await asyncio.gather(*tasks) == [(True, None)] * 102
    assert await verify_by(passwords, "a", "a") == (True, None)


@pytest.mark.anyio
async def test_whoever_goes_away_leaves_the_line() -> None:
    hasher = Held()
    passwords = Passwords(hasher, limit=1)
    async with logins(passwords, 101) as tasks:
        await until(lambda: hasher.running == 1)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks[1:])
        async with logins(passwords, 100) as more:
            hasher.go.set()
            assert await asyncio.gather(*more) == [(True, None)] * 100
        assert await tasks[0] == (True, None)
    assert hasher.most == 1


@pytest.mark.anyio
async def test_whoever_goes_away_while_served_does_not_make_room_before_the_thread_ends() -> None:
    hasher = Held()
    passwords = Passwords(hasher, limit=1)
    async with logins(passwords, 3) as tasks:
        await until(lambda: hasher.running == 1)
        tasks[0].cancel()
        await anyio.sleep(0.05)
        assert hasher.most == 1
        hasher.go.set()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert await asyncio.gather(*tasks[1:]) == [(True, None)] * 2
    assert hasher.most == 1
    assert hasher.finished == 3


def test_each_event_loop_has_a_line_of_its_own() -> None:
    passwords = Passwords(CHEAP, limit=1)

    async def both() -> list[tuple[bool, str | None]]:
        return await asyncio.gather(*[verify_by(passwords, SECRET, HASH) for _ in range(2)])

    def in_a_loop() -> None:
        answers.append(asyncio.run(both()))

    answers: list[list[tuple[bool, str | None]]] = []
    threads = [threading.Thread(target=in_a_loop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    in_a_loop()
    assert answers == [[(True, None)] * 2] * 5


@pytest.mark.anyio
async def test_each_has_its_own_line() -> None:
    hasher = Held()
    async with logins(Passwords(hasher, limit=1), 2), logins(Passwords(hasher, limit=1), 2):
        await until(lambda: hasher.running == 2)
        hasher.go.set()
    assert hasher.most == 2
    assert hasher.finished == 4


def test_threads_end_with_their_event_loop() -> None:
    before = set(threading.enumerate())
    passwords = Passwords(CHEAP)

    async def login() -> list[threading.Thread]:
        assert await verify_by(passwords, SECRET, HASH) == (True, None)
        return [thread for thread in threading.enumerate() if thread not in before]

    begun = asyncio.run(login())
    assert [thread.name for thread in begun] == ["fastkit-passwords_0"]
    gc.collect()
    begun[0].join(60)
    assert not begun[0].is_alive()


def pwdlib_hasher(*names: str) -> PasswordHasher:
    pwdlib = pytest.importorskip("pwdlib")
    makers: dict[str, Callable[[], Any]] = {
        "bcrypt": lambda: pytest.importorskip("pwdlib.hashers.bcrypt").BcryptHasher(rounds=4),
        "argon2": lambda: pytest.importorskip("pwdlib.hashers.argon2").Argon2Hasher(
            time_cost=1, memory_cost=64, parallelism=1
        ),
    }
    hasher: PasswordHasher = pwdlib.PasswordHash([makers[name]() for name in names])
    return hasher


@pytest.mark.anyio
async def test_pwdlib_is_a_hasher_whose_errors_are_failed_logins() -> None:
    passwords = Passwords(pwdlib_hasher("bcrypt", "argon2"))
    for password, stored in [*WRONG, *[(password, None) for password in STRANGE]]:
        assert await verify_by(passwords, password, stored) == (False, None)


@pytest.mark.anyio
async def test_pwdlib_upgrades_our_hashes() -> None:
    passwords = Passwords(pwdlib_hasher("argon2", "bcrypt"))
    right, better = await verify_by(passwords, SECRET, HASH)
    assert right
    assert better is not None
    assert better.startswith("$argon2id$")
    assert await verify_by(passwords, SECRET, better) == (True, None)
