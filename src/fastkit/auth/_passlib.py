"""passlib's `CryptContext` with a bcrypt that works: passlib 1.7.4's own fails on bcrypt 5."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastkit._extras import requires
from fastkit.auth._passwords import BcryptHasher, PasswordError, needs_rehash, verify_bcrypt

if TYPE_CHECKING:
    from passlib.context import CryptContext

__all__ = ("passlib_context",)


class _Bcrypt:
    """The scheme `bcrypt`, with what a context asks of a handler (passlib's PasswordHash API)."""

    name = "bcrypt"
    setting_kwds = ("rounds",)
    context_kwds = ()
    is_disabled = False
    deprecated = False  # contexts set it

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._hasher = BcryptHasher(rounds=rounds)

    def using(self, *, relaxed: bool = False, rounds: int | str = 12) -> "_Bcrypt":
        return _Bcrypt(int(rounds))

    def identify(self, hash: str | bytes) -> bool:
        return _text(hash).startswith(("$2a$", "$2b$", "$2y$"))

    def hash(self, secret: str | bytes) -> str:
        return self._hasher.hash(_text(secret))

    def verify(self, secret: str | bytes, hash: str | bytes) -> bool:
        return verify_bcrypt(_text(secret), _text(hash), rounds=self._rounds)

    def needs_update(self, hash: str | bytes, secret: str | bytes | None = None) -> bool:
        return needs_rehash(_text(hash), rounds=self._rounds)


def _text(value: str | bytes) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def passlib_context(*, schemes: Sequence[str] = ("bcrypt",), **settings: Any) -> "CryptContext":
    """A passlib context: for hashes of other schemes, which it verifies and `Auth` then replaces.

    hasher = passlib_context(schemes=["bcrypt", "pbkdf2_sha256"])

    Its bcrypt is that of `BcryptHasher`. A password that bcrypt cannot hash and that another scheme
    has hashed is verified and keeps that hash.

    Args:
        schemes: Their names in passlib. The first one hashes, and hashes of the others are
            outdated.
        **settings: Settings of schemes as passlib has them, such as `bcrypt__rounds=13`.

    Raises:
        ModuleNotFoundError: Neither passlib nor libpass is installed.
        ValueError: A scheme does not work with what is installed.
        KeyError, TypeError: passlib knows no such scheme, or the scheme no such setting.
    """
    with warnings.catch_warnings():
        # passlib 1.7.4 imports `crypt`, and asks argon2 and others for what they have deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        with requires(
            "passlib", by="passlib_context()", module="passlib", install="passlib>=1.7.4"
        ):
            from passlib.context import CryptContext

        class Context(CryptContext):
            def verify_and_update(
                self, secret: str | bytes, hash: str | bytes | None, *args: Any, **kwds: Any
            ) -> tuple[bool, str | None]:
                try:
                    return super().verify_and_update(secret, hash, *args, **kwds)
                except PasswordError:  # of the new hash, so this one is right
                    return True, None

        ours = _Bcrypt(12)
        context = Context(
            schemes=[ours if scheme == ours.name else scheme for scheme in schemes],
            deprecated="auto",
            **settings,
        )
        for scheme in schemes:
            _load(context, scheme)
    return context


def _load(context: Any, scheme: str) -> None:
    """Have a scheme find what it is made of, which passlib leaves to the first password."""
    load = getattr(context.handler(scheme), "set_backend", None)
    try:
        if load is not None:
            load()
    except Exception as error:
        raise ValueError(
            f"schemes has {scheme!r}, which does not work with what is installed:"
            f" {type(error).__name__}: {error}"
        ) from error
