"""What is in the objects of this block and is shown by none of them."""

from typing import Any

import pytest

from fastkit.auth import Auth, Key, api_key, hash_api_key
from fastkit.auth._router import TokenResponse
from tests.auth.forging import ec_key, private_pem
from tests.auth.people import PASSWORD, SECRET, Directory, User, client, log_in, make_auth

pytestmark = pytest.mark.anyio


async def test_no_repr_shows_a_token_a_password_a_hash_or_a_secret() -> None:
    directory = Directory([User("alice", scopes=("a",))])
    shown: list[Any] = []
    auth: Auth[User] = make_auth(
        directory=directory,
        secret=None,
        keys=[Key(SECRET), Key.from_pem(private_pem(ec_key()))],
        on_event=shown.append,
    )
    parts = auth._parts  # pyright: ignore[reportPrivateUsage]
    tokens, grants, bearer = parts.tokens, parts.grants, parts.bearer
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    granted = await (await grants.by_password(form, "192.0.2.1", directory.find))()
    presented = await tokens.refresh.check(granted.refresh_token)
    principal, _ = await bearer.verify(granted.access_token, directory.find)
    verified = tokens.access.verify(granted.access_token)
    api_key_hash = hash_api_key(SECRET)
    shown += [
        *(
            auth,
            *vars(auth).values(),
            parts,
            *parts,
            *vars(tokens).values(),
            *vars(grants).values(),
        ),
        *(granted, presented, presented.login, principal, principal.account, verified),
        *(tokens.keyring, *tokens.keyring.keys, api_key({"machine": api_key_hash})),
        TokenResponse(
            token_type="bearer",
            access_token=granted.access_token,
            expires_in=900,
            refresh_token=granted.refresh_token,
            scope="a",
        ),
    ]
    account = principal.account
    assert account.password_hash is not None
    text = " ".join([*map(repr, shown), *map(str, shown)])
    hidden = {
        "secret": SECRET,
        "password": PASSWORD,
        "password hash": account.password_hash,
        "stamp": verified.stamp,
        "access token": granted.access_token,
        "refresh token": granted.refresh_token,
        "nonce": repr(presented.nonce),
        "hash of the nonce": presented.login.nonce_hash,
        "hash of an API key": api_key_hash.removeprefix("sha256:"),
    }
    assert [name for name, value in hidden.items() if value in text] == []
    assert "alice" in text


def test_a_user_is_not_shown_by_what_has_it() -> None:
    class Talkative(User):
        def __repr__(self) -> str:
            return f"{self.username} {self.hashed_password}"

    events: list[Any] = []
    alice = Talkative("alice")
    auth = make_auth(alice, on_event=events.append)
    log_in(client(auth))
    account = auth._parts.users.read(alice)  # pyright: ignore[reportPrivateUsage]
    assert alice.hashed_password is not None
    assert alice.hashed_password not in repr([*events, account])
