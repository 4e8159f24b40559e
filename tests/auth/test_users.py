"""Whose users they are: any type, found in any way, read each time anew."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, params
from fastapi.testclient import TestClient
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from fastkit.auth import Auth, BcryptHasher, Login, MemoryTokenStore, PasswordError, auth_router
from fastkit.errors import install_exception_handlers
from fastkit.timing import TimingMiddleware
from tests.auth.people import (
    PASSWORD,
    SECRET,
    Clock,
    Directory,
    Free,
    User,
    bearer,
    client,
    hashed,
    log_in,
    make_app,
    make_auth,
    refresh,
)
from tests.errors.support import problem

ALICE = User("alice", scopes=("items:write",))


def gives(value: Any) -> Callable[[], Any]:
    """A dependency that gives `value`."""
    return lambda: value


# How they are found


def find(username: str) -> User | None:
    return ALICE if username == "alice" else None


async def find_async(username: str) -> User | None:
    return find(username)


def find_with(directory: dict[str, User], username: str) -> User | None:
    return directory.get(username)


def find_later(username: str) -> Any:
    return find_async(username)


def name_of(user: User) -> str:
    return user.username


class Finder:
    async def __call__(self, username: str) -> User | None:
        return find(username)

    def method(self, username: str) -> User | None:
        return find(username)


def lookup() -> Callable[[str], User | None]:
    return find


async def async_lookup(tasks: BackgroundTasks) -> Any:
    return find_async


def lookups() -> Iterator[Any]:
    yield find_async


WAYS: list[Any] = [
    find,
    find_async,
    partial(find_with, {"alice": ALICE}),
    Finder(),
    Finder().method,
    find_later,
    Depends(lookup),
    Depends(async_lookup),
    Depends(lookups),
]


@pytest.mark.parametrize("get_user", WAYS)
@pytest.mark.parametrize("by_subject", [True, False])
def test_users_are_found_in_any_way(get_user: Any, by_subject: bool) -> None:
    options: dict[str, Any] = {"get_user": get_user}
    if by_subject:
        options |= {"subject": name_of, "get_user_by_subject": get_user}
    http = client(make_auth(**options))
    tokens = log_in(http)
    assert http.get("/who", headers=bearer(tokens)).json() == "alice"
    assert http.get("/maybe", headers=bearer(tokens)).json() == "alice"
    assert http.get("/write", headers=bearer(tokens)).json() == "alice"
    assert http.get("/auth/me", headers=bearer(tokens)).json()["sub"] == "alice"
    assert refresh(http, tokens["refresh_token"]).status_code == 200
    for name in ("bob", "alice "):
        form = {"grant_type": "password", "username": name, "password": PASSWORD}
        assert http.post("/auth/token", data=form).status_code == 401


@pytest.mark.parametrize("depends", [True, False])
def test_only_what_is_not_async_runs_in_a_thread(depends: bool) -> None:
    threads: set[int] = set()

    def in_thread(username: str) -> User:
        threads.add(threading.get_ident())
        return ALICE

    async def on_loop(username: str) -> User:
        threads.add(threading.get_ident())
        return ALICE

    for found, same in ((in_thread, False), (on_loop, True)):
        auth = make_auth(get_user=Depends(gives(found)) if depends else found)
        app = make_app(auth)

        @app.get("/thread")
        async def thread() -> int:
            return threading.get_ident()

        with TestClient(app) as http:
            tokens = log_in(http)
            threads.clear()
            http.get("/who", headers=bearer(tokens))
            loop = http.get("/thread").json()
        assert len(threads) == 1
        assert (threads == {loop}) == same


def test_a_user_is_looked_up_once_in_a_request() -> None:
    directory = Directory([ALICE])
    auth = make_auth(directory=directory)
    app = make_app(auth)

    @app.get("/many", dependencies=[auth.require("items:write"), auth.current_user])
    async def many(
        user: Annotated[User, auth.current_user],
        maybe: Annotated[User | None, auth.optional_user],
        writer: Annotated[User, auth.require("items:write")],
    ) -> bool:
        return user is maybe is writer

    http = TestClient(app)
    tokens = log_in(http)
    directory.asked.clear()
    assert http.get("/many", headers=bearer(tokens)).json() is True
    assert directory.asked == ["alice"]


def test_scopes_of_routes_and_their_dependencies_add_up() -> None:
    auth = make_auth(User("alice", scopes=("a", "b")))

    async def needs_b(user: Annotated[User, auth.require("b")]) -> User:
        return user

    app = make_app(auth)

    @app.get("/fine", dependencies=[auth.require("a")])
    async def fine(user: Annotated[User, Depends(needs_b)]) -> str:
        return user.username

    @app.get("/too-much", dependencies=[auth.require("a", "c")])
    async def too_much(user: Annotated[User, Depends(needs_b)]) -> str:
        return user.username

    http = TestClient(app)
    tokens = log_in(http)
    assert http.get("/fine", headers=bearer(tokens)).json() == "alice"
    denied = http.get("/too-much", headers=bearer(tokens))
    assert denied.status_code == 403
    assert 'scope="a c"' in denied.headers["www-authenticate"]
    less = log_in(http, scope="a")
    assert http.get("/fine", headers=bearer(less)).status_code == 403


# What fails is the app's


def raises(username: str) -> User:
    raise LookupError("the app's own")


async def raises_async(username: str) -> User:
    raise LookupError("the app's own")


@pytest.mark.parametrize(
    "get_user", [raises, raises_async, Depends(lambda: raises), Depends(lambda: raises_async)]
)
def test_a_get_user_that_raises_is_the_apps_error(get_user: Any) -> None:
    app = make_app(make_auth(get_user=get_user))
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    with pytest.raises(LookupError, match="the app's own"):
        TestClient(app).post("/auth/token", data=form)
    assert TestClient(app, raise_server_exceptions=False).post("/auth/token", data=form).is_error
    token = log_in(client(make_auth()))
    with pytest.raises(LookupError, match="the app's own"):
        TestClient(app).get("/who", headers=bearer(token))


@dataclass
class Account:
    id: int
    email: str
    password: str | bytes | None = field(default_factory=lambda: hashed(PASSWORD))
    roles: Any = ()
    active: bool = True


class Accounts:
    """Accounts by email and by number."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = list(accounts)

    async def by_email(self, email: str) -> Account | None:
        same = (one for one in self.accounts if one.email.casefold() == email.casefold())
        return next(same, None)

    def by_id(self, subject: str) -> Account | None:
        return next((one for one in self.accounts if str(one.id) == subject), None)


def id_of(account: Account) -> str:
    return str(account.id)


def password_of(account: Account) -> Any:
    return account.password


def is_inactive(account: Account) -> bool:
    return not account.active


def roles_of(account: Account) -> Any:
    return account.roles


def account_auth(accounts: Accounts, **options: Any) -> Any:
    given: dict[str, Any] = {
        "secret": SECRET,
        "get_user": accounts.by_email,
        "get_user_by_subject": accounts.by_id,
        "subject": id_of,
        "hashed_password": password_of,
        "disabled": is_inactive,
        "scopes": roles_of,
        "hasher": BcryptHasher(rounds=4),
        "throttle": Free(),
        **options,
    }
    return Auth(**given)


def always(value: object) -> Callable[[object], Any]:
    return lambda _: value


def account_client(accounts: Accounts, **options: Any) -> TestClient:
    auth = account_auth(accounts, **options)
    app = FastAPI()
    app.include_router(auth_router(auth), prefix="/auth")

    @app.get("/who")
    async def who(account: Annotated[Account, auth.current_user]) -> str:
        return account.email

    return TestClient(app)


def test_a_user_may_be_of_any_make() -> None:
    accounts = Accounts(Account(7, "alice@example.com", roles=["b", "a"]))
    http = account_client(accounts)
    tokens = log_in(http, "Alice@Example.COM")
    assert tokens["scope"] == "b a"
    assert http.get("/auth/me", headers=bearer(tokens)).json() == {"sub": "7", "scopes": ["a", "b"]}
    # The name may change, and the tokens are good still.
    accounts.accounts[0].email = "alice@example.org"
    assert http.get("/who", headers=bearer(tokens)).json() == "alice@example.org"
    assert refresh(http, tokens["refresh_token"]).status_code == 200
    accounts.accounts[0].active = False
    assert http.get("/who", headers=bearer(tokens)).status_code == 401


def test_who_registers_a_name_again_has_not_the_tokens_of_the_one_before() -> None:
    accounts = Accounts(Account(7, "alice@example.com"))
    http = account_client(accounts)
    tokens = log_in(http, "alice@example.com")
    accounts.accounts = [replace(accounts.accounts[0], id=8)]
    assert http.get("/who", headers=bearer(tokens)).status_code == 401
    assert refresh(http, tokens["refresh_token"]).status_code == 401


@pytest.mark.parametrize(
    ("roles", "scope"),
    [
        (None, ""),
        ("", ""),
        ("a  b", "a b"),
        (("b", "a"), "b a"),
        ({"a": 1}, "a"),
        (iter("ab"), "a b"),
    ],
)
def test_scopes_may_be_kept_in_any_way(roles: Any, scope: str) -> None:
    http = account_client(Accounts(Account(7, "a", roles=roles)))
    assert log_in(http, "a")["scope"] == scope


@pytest.mark.parametrize("options", [{}, {"password": None}])
def test_who_has_no_password_cannot_log_in(options: dict[str, Any]) -> None:
    accounts = Accounts(Account(7, "a", **options))
    http = account_client(accounts)
    form = {"grant_type": "password", "username": "a", "password": PASSWORD}
    expected = 401 if options else 200
    assert http.post("/auth/token", data=form).status_code == expected


UNREADABLE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"subject": always(7)}, TypeError, "subject="),
    ({"hashed_password": always(b"hash")}, TypeError, "hashed_password="),
    ({"hashed_password": None}, AttributeError, "hashed_password="),
    ({"subject": None, "get_user_by_subject": None}, AttributeError, "subject="),
    ({"scopes": always(["a b"])}, ValueError, "a b"),
    ({"subject": always("")}, ValueError, "sub"),
    ({"get_user": Depends(gives(Account(1, "a")))}, TypeError, "Account"),
]


@pytest.mark.parametrize(("options", "error", "words"), UNREADABLE)
def test_a_user_that_cannot_be_read_is_an_error_that_says_what_to_do(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    http = account_client(Accounts(Account(7, "a")), **options)
    with pytest.raises(error, match=words) as raised:
        log_in(http, "a")
    assert "$2b$" not in str(raised.value)


def test_a_dependency_that_names_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="get_user=Depends"):
        make_auth(get_user=Depends())


def test_another_type_is_used_as_it_is() -> None:
    class Odd(dict[str, str]):
        username = "odd"
        hashed_password = hashed(PASSWORD)

    odd = Odd()
    http = client(make_auth(get_user=always(odd)))
    assert http.get("/who", headers=bearer(log_in(http, "anything"))).json() == "odd"


# What ends a login


def changed(user: User) -> User:
    return replace(user, hashed_password=hashed("another one"))


def rehashed(user: User) -> User:
    return replace(user, hashed_password=hashed(PASSWORD))


def disabled(user: User) -> User:
    return replace(user, disabled=True)


def without_password(user: User) -> User:
    return replace(user, hashed_password=None)


@pytest.mark.parametrize("change", [changed, rehashed, disabled, without_password, None])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_change_ends_all_tokens_at_once(
    change: Callable[[User], User] | None, at_once: bool
) -> None:
    directory = Directory([ALICE])
    http = client(make_auth(directory=directory, revoke_access_at_once=at_once))
    tokens = log_in(http)
    if change is None:
        del directory.users["alice"]
    else:
        directory.users["alice"] = change(ALICE)
    for path in ("/who", "/maybe", "/write", "/auth/me"):
        answer = http.get(path, headers=bearer(tokens))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert refresh(http, tokens["refresh_token"]).status_code == 401
    directory.users["alice"] = ALICE
    assert http.get("/who", headers=bearer(tokens)).status_code == 200


def test_revoke_all_ends_all_logins_of_a_user() -> None:
    auth = make_auth(User("alice"), User("bob"), revoke_access_at_once=True)
    http = client(auth)
    mine, others = [log_in(http) for _ in range(3)], log_in(http, "bob")

    async def revoke() -> int:
        return await auth.revoke_all(User("alice"))

    import anyio

    assert anyio.run(revoke) == 3
    for tokens in mine:
        assert refresh(http, tokens["refresh_token"]).status_code == 401
        assert http.get("/who", headers=bearer(tokens)).status_code == 401
    assert refresh(http, others["refresh_token"]).status_code == 200


@pytest.mark.anyio
async def test_new_passwords_are_hashed_by_the_auths_hasher() -> None:
    auth = make_auth()
    assert BcryptHasher(rounds=4).verify_and_update(
        PASSWORD, await auth.hash_password(PASSWORD)
    ) == (True, None)
    with pytest.raises(PasswordError):
        await auth.hash_password("x" * 73)


# Hashes are upgraded at login


@pytest.mark.parametrize("is_async", [True, False])
def test_an_outdated_hash_is_replaced(is_async: bool) -> None:
    directory = Directory([User("alice"), User("bob", disabled=True)])
    saved: list[tuple[str, str]] = []

    def save(user: User, new_hash: str) -> None:
        saved.append((user.username, new_hash))
        user.hashed_password = new_hash

    async def save_async(user: User, new_hash: str) -> None:
        save(user, new_hash)

    http = client(
        make_auth(
            directory=directory,
            hasher=BcryptHasher(rounds=5),
            save_password_hash=save_async if is_async else save,
        )
    )
    for username, password in (("alice", "wrong"), ("bob", PASSWORD), ("carol", PASSWORD)):
        form = {"grant_type": "password", "username": username, "password": password}
        assert http.post("/auth/token", data=form).status_code == 401
    assert saved == []
    tokens = log_in(http)
    ((username, new_hash),) = saved
    assert (username, new_hash[:7]) == ("alice", "$2b$05$")
    assert http.get("/who", headers=bearer(tokens)).json() == "alice"
    assert refresh(http, tokens["refresh_token"]).status_code == 200
    log_in(http)
    assert len(saved) == 1


def test_an_outdated_hash_stays_where_the_app_does_not_keep_the_new_one() -> None:
    http = client(make_auth(hasher=BcryptHasher(rounds=5)))
    tokens = log_in(http)
    assert http.get("/who", headers=bearer(tokens)).json() == "alice"
    assert refresh(http, tokens["refresh_token"]).status_code == 200


def test_a_hash_that_cannot_be_kept_is_the_apps_error() -> None:
    def save(user: User, new_hash: str) -> None:
        raise LookupError("full")

    store = MemoryTokenStore()
    auth = make_auth(hasher=BcryptHasher(rounds=5), save_password_hash=save, store=store)
    with pytest.raises(LookupError, match="full"):
        log_in(TestClient(make_app(auth)))


# In tests of apps


def test_a_test_may_say_who_it_is() -> None:
    auth = make_auth()
    app = make_app(auth)
    http = TestClient(app)
    with auth.override(app, User("eve", scopes=("items:write",))):
        for path in ("/who", "/maybe", "/write"):
            assert http.get(path).json() == "eve"
        assert http.get("/auth/me").json() == {"sub": "eve", "scopes": ["items:write"]}
        assert http.get("/who", headers={"Authorization": "Bearer nonsense"}).json() == "eve"
        with auth.override(app, User("mallory")):
            assert http.get("/who").json() == "mallory"
            assert http.get("/write").status_code == 403
        assert http.get("/who").json() == "eve"
        assert http.post("/auth/logout").status_code == 204
    assert http.get("/who").status_code == 401
    assert app.dependency_overrides == {}


def test_a_test_may_clear_all_overrides() -> None:
    auth = make_auth()
    app = make_app(auth)
    with auth.override(app, User("eve")):
        app.dependency_overrides.clear()
    assert app.dependency_overrides == {}


def test_a_user_is_that_of_one_app_and_auth() -> None:
    auth, other = make_auth(), make_auth(audience="other")
    app, second = make_app(auth), make_app(auth)

    @app.get("/other")
    async def from_other(user: Annotated[User, other.current_user]) -> str:
        return user.username

    with auth.override(app, User("eve")):
        assert TestClient(app).get("/who").json() == "eve"
        assert TestClient(app).get("/other").status_code == 401
        assert TestClient(second).get("/who").status_code == 401


# The store is written when the response is sent


class MappedError(Exception):
    pass


class FailingStore(MemoryTokenStore):
    """A store that fails when it is written."""

    error: Exception | None = None

    async def add(self, login: Login, /) -> None:
        self.fail()
        await super().add(login)

    async def advance(self, login_id: str, generation: int, /, **changes: Any) -> bool:
        self.fail()
        return await super().advance(login_id, generation, **changes)

    async def remove(self, login_id: str, /) -> bool:
        self.fail()
        return await super().remove(login_id)

    def fail(self) -> None:
        if self.error is not None:
            raise self.error


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["X-Passed"] = "yes"
    return response


@pytest.fixture(params=["plain", "base", "timing", "both"])
def middleware(request: pytest.FixtureRequest) -> Callable[[FastAPI], None]:
    def add(app: FastAPI) -> None:
        if request.param in ("base", "both"):
            app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
        if request.param in ("timing", "both"):
            app.add_middleware(TimingMiddleware)

    return add


def asked(http: TestClient, tokens: dict[str, Any]) -> Iterator[Any]:
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    yield http.post("/auth/token", data=form)
    yield refresh(http, tokens["refresh_token"])
    yield http.post("/auth/logout", headers=bearer(tokens))
    yield http.post("/auth/revoke", data={"token": tokens["refresh_token"]})


def test_a_store_that_fails_is_heard_by_the_apps_handlers(
    middleware: Callable[[FastAPI], None],
) -> None:
    store = FailingStore()
    app = make_app(make_auth(store=store))

    @app.exception_handler(MappedError)
    async def mapped(request: Request, error: MappedError) -> Response:
        return Response("mapped", 418)

    middleware(app)
    http = TestClient(app)
    tokens = log_in(http)
    store.error = MappedError()
    for answer in asked(http, tokens):
        assert (answer.status_code, answer.text) == (418, "mapped")
    store.error = None
    assert all(answer.status_code in (200, 204) for answer in asked(http, tokens))


def test_a_store_that_fails_is_a_problem_where_the_app_says_so(
    middleware: Callable[[FastAPI], None],
) -> None:
    store = FailingStore()
    app = make_app(make_auth(store=store))
    install_exception_handlers(app, {MappedError: 503})
    middleware(app)
    http = TestClient(app, raise_server_exceptions=False)
    tokens = log_in(http)
    for error, status in ((MappedError(), 503), (LookupError(), 500)):
        store.error = error
        for answer in asked(http, tokens):
            assert problem(answer, status)


def test_a_store_that_fails_is_raised_at_the_server(
    middleware: Callable[[FastAPI], None],
) -> None:
    store = FailingStore()
    app = make_app(make_auth(store=store))
    middleware(app)
    http = TestClient(app)
    tokens = log_in(http)
    store.error = LookupError("gone")
    for step in range(4):
        with pytest.raises(LookupError, match="gone"), ExitStack():
            for number, ask in enumerate(_asks(http, tokens)):
                if number == step:
                    ask()


def _asks(http: TestClient, tokens: dict[str, Any]) -> list[Callable[[], Any]]:
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    return [
        lambda: http.post("/auth/token", data=form),
        lambda: refresh(http, tokens["refresh_token"]),
        lambda: http.post("/auth/logout", headers=bearer(tokens)),
        lambda: http.post("/auth/revoke", data={"token": tokens["refresh_token"]}),
    ]


def test_what_a_dependency_leaves_for_later_is_done_after_the_response(
    middleware: Callable[[FastAPI], None],
) -> None:
    done: list[str] = []

    class Noting(MemoryTokenStore):
        async def add(self, login: Login, /) -> None:
            done.append("stored")
            await super().add(login)

    async def later() -> None:
        done.append("background")

    async def noting_lookup(tasks: BackgroundTasks) -> Any:
        tasks.add_task(later)
        return find_async

    app = make_app(make_auth(get_user=Depends(noting_lookup), store=Noting()))
    middleware(app)
    http = TestClient(app)
    log_in(http)
    assert done == ["stored", "background"]


def test_the_dependency_of_a_look_up_may_refuse_the_request() -> None:
    from fastapi import Header, HTTPException

    def tenant_lookup(tenant: Annotated[str, Header()]) -> Any:
        if tenant != "here":
            raise HTTPException(418)
        return find

    http = client(make_auth(get_user=params.Depends(tenant_lookup)))
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    assert http.post("/auth/token", data=form).status_code == 422
    assert http.post("/auth/token", data=form, headers={"tenant": "x"}).status_code == 418
    answer = http.post("/auth/token", data=form, headers={"tenant": "here"})
    assert answer.status_code == 200
    headers = {"tenant": "here", **bearer(answer.json())}
    assert http.get("/who", headers=headers).json() == "alice"


def test_time_goes_by_the_clock_that_is_given() -> None:
    clock = Clock(now=1000.0)
    http = client(make_auth(clock=clock))
    tokens = log_in(http)
    assert http.get("/who", headers=bearer(tokens)).status_code == 200
    clock.now += 901
    assert http.get("/who", headers=bearer(tokens)).status_code == 401
