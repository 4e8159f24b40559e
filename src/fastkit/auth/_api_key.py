"""`api_key`: a key in a header, for machines."""

import re
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Any, cast

from fastapi import params
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection

from fastkit.auth._scheme import ReadyDependency, component_name
from fastkit.auth._users import as_async
from fastkit.errors import UnauthorizedError

__all__ = ("api_key", "hash_api_key")

_HASH = r"sha256:[0-9a-f]{64}"
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105  # RFC 9110, section 5.6.2
_LEAST = 20  # characters: 120 bits, if they are random ones of Base64


class _Scheme(APIKeyHeader):
    """FastAPI's own, which in older releases fails on WebSockets."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        values = request.headers.getlist(self.model.name)
        return values[0] if len(values) == 1 else None  # of two, others may have looked at either


def hash_api_key(key: str, /) -> str:
    """What is kept of a key, which is to be shown to its owner once and to nobody else.

        key = secrets.token_urlsafe(32)

    Raises:
        ValueError: The key is too short for a random one: it could be guessed from its hash. Or it
            has a character that a header may lose: a line break, a space, or none of ASCII.
    """
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError(
            "The API key has a character that does not arrive in a header, such as a line break at "
            "its end: use printable ASCII characters without spaces."
        )
    if len(key) < _LEAST:
        raise ValueError(
            f"The API key has {len(key)} characters, and a random one at least {_LEAST}: make it "
            "with secrets.token_urlsafe(32)."
        )
    return _hashed(key)


def api_key(
    keys: Mapping[str, str] | Callable[[str], Awaitable[str | None] | str | None],
    /,
    *,
    header: str = "X-API-Key",
) -> params.Depends:
    """A dependency that lets in whoever has one of `keys`, and gives the key's name.

        machines = api_key({"importer": settings.importer_key_hash})
        app.include_router(imports, dependencies=[machines])

        @app.get("/prices")
        async def prices(machine: Annotated[str, machines]): ...

    Anybody else gets a 401. With a mapping, it takes the same time whichever key is shown.

    Args:
        keys: The names of the keys, each with what `hash_api_key` has made of the key. Or a
            function, `async` or not, from such a hash to the name, or None where there is none.
        header: The header with the key.

    Raises:
        TypeError: `keys` is neither.
        ValueError: A value of `keys` is no hash, or two are the same, or there is no key; or
            `header` is not a valid header name.
    """
    if not re.fullmatch(_TOKEN, header):
        raise ValueError(
            f"header={header!r} is not the name of an HTTP header: use letters, digits and hyphens."
        )
    named = isinstance(keys, Mapping)
    find = _find_in(cast("Mapping[str, str]", keys)) if named else as_async(_checked(keys))
    scheme = _Scheme(name=header, scheme_name=component_name(header), auto_error=False)
    challenge = f'ApiKey header="{header}"'

    async def name_of(key: Annotated[str | None, params.Depends(scheme)]) -> str:
        name: str | None = await find(_hashed(key)) if key else None
        if not name:  # a function may say False: fail closed
            raise UnauthorizedError("A valid API key is needed.", challenge=challenge)
        return name

    return ReadyDependency(name_of)


def _hashed(key: str) -> str:
    # Nothing slow, and no salt: a random key cannot be guessed, and is to be found by its hash.
    return f"sha256:{sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def _checked(keys: object) -> Callable[..., Any]:
    if not callable(keys):
        raise TypeError(
            f"A {type(keys).__name__} has no keys by name: pass a mapping from names to hashes, or "
            "a function that gives the name for a hash."
        )
    return keys


def _find_in(keys: Mapping[str, str]) -> Callable[[str], Awaitable[str | None]]:
    known = dict(keys)
    for name, hashed in known.items():
        if not re.fullmatch(_HASH, hashed):
            raise ValueError(
                f"What stands for the API key {name!r} is no hash of one: keep what "
                "hash_api_key(key) gives, and not the key."
            )
    if len(set(known.values())) < max(len(known), 1):
        raise ValueError(
            "Two names have the same API key: nobody could tell who uses it."
            if known
            else "There are no API keys: nobody could get in."
        )

    async def find(hashed: str) -> str | None:
        found = None
        for name, one in known.items():  # all of them, wherever it is
            if compare_digest(one, hashed):
                found = name
        return found

    return find
