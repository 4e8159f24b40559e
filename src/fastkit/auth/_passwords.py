"""Passwords: which may be chosen, how they are hashed, and verifying them off the event loop."""

import concurrent.futures
import logging
import os
import re
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from secrets import token_hex
from traceback import extract_tb
from typing import Annotated, Protocol, TypeVar
from weakref import WeakKeyDictionary

import bcrypt
from anyio import Semaphore
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from fastkit.errors import ProblemError

__all__ = (
    "RETRY_AFTER",
    "BcryptHasher",
    "NewPassword",
    "PasswordError",
    "PasswordHasher",
    "Passwords",
    "TooManyLoginsError",
    "needs_rehash",
    "verify_bcrypt",
)

_logger = logging.getLogger("fastkit.auth")

_T = TypeVar("_T")

_MAX_BYTES = 72  # bcrypt looks at no more
# What bcrypt calls an invalid salt does not match, so that it has nothing left to raise.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

# Some schemes take time with each character, so longer ones are not hashed. passlib refuses them.
_MAX_LENGTH = 4096
_MAX_WAITING = 100
RETRY_AFTER = 10
"""Seconds after which one who was turned away may try again."""
_WRONG = "not the password of the dummy hash"


class PasswordError(ValueError):
    """A password that must not be hashed, for it could not be told from another one."""


class TooManyLoginsError(ProblemError):
    """503: so many passwords wait to be verified that this one is not even looked at."""

    status = 503


class PasswordHasher(Protocol):
    """Hashes passwords. passlib's `CryptContext` and pwdlib's `PasswordHash` are such hashers.

    Its methods are called in threads, several at a time.
    """

    def hash(self, password: str, /) -> str:
        """Hash a new password, with a salt and all that it takes to verify it."""
        ...

    def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]:
        """Whether `hash` is of that password; and if so, a hash to replace one that is outdated.

        What it raises counts as a wrong password.
        """
        ...


class BcryptHasher:
    """Hashes with bcrypt, and nothing between: the default hasher.

    Hashes of other bcrypts are verified as well (`$2a$`, `$2b$`, `$2y$`, and those of a longer
    password's first 72 bytes), and replaced when they took less work than `rounds`. A wrong
    password and an invalid hash take the work of `rounds`, too, so that no time tells them.

    Args:
        rounds: The work to hash one password, as a power of two (bcrypt's cost): 12 takes about a
            quarter of a second. Tests are faster with 4.

    Raises:
        ValueError: `rounds` is not from 4 to 31.
    """

    def __init__(self, *, rounds: int = 12) -> None:
        if not 4 <= rounds <= 31:
            raise ValueError(
                f"rounds={rounds!r} is no cost of bcrypt: use 12, or another number from 4 to 31."
            )
        self._rounds = rounds

    def hash(self, password: str, /) -> str:
        """Hash a new password.

        Raises:
            PasswordError: The password is empty, has more than 72 bytes in UTF-8, a NUL character
                or half of a surrogate pair.
        """
        return self._hash(_encode_new(password))

    def verify_and_update(self, password: str, hash: str, /) -> tuple[bool, str | None]:
        """Whether `hash` is of that password; and if so, a new hash where this one is too cheap.

        Raises nothing: what is no hash of bcrypt is no password's hash.
        """
        if not verify_bcrypt(password, hash, rounds=self._rounds):
            return False, None
        # The first 72 bytes again: who chose a longer password still logs in.
        is_cheap = needs_rehash(hash, rounds=self._rounds)
        return True, self._hash(_encode(password)) if is_cheap else None

    def _hash(self, data: bytes) -> str:
        return bcrypt.hashpw(data, bcrypt.gensalt(self._rounds)).decode()


def _encode_new(password: str) -> bytes:
    data = password.encode(errors="surrogatepass")
    if not data:
        raise PasswordError(f"The password is empty: choose one of 1 to {_MAX_BYTES} bytes.")
    if len(data) > _MAX_BYTES:
        raise PasswordError(
            f"The password has {len(data)} bytes in UTF-8, of which the first {_MAX_BYTES} would"
            " count: choose a shorter one."
        )
    if b"\0" in data:
        raise PasswordError("The password has a NUL character: choose one without.")
    if data != password.encode(errors="replace"):
        raise PasswordError("The password is no valid Unicode: choose one without half characters.")
    return data


def _encode(password: str) -> bytes:
    """The bytes to verify. Those of what cannot be hashed have no hash, since UTF-8 has no 0xFF and
    no surrogates."""
    data = password[:_MAX_BYTES].encode(errors="surrogatepass").replace(b"\0", b"\xff")
    return data[:_MAX_BYTES]


def _cost(hash: str) -> int | None:
    """The rounds that a bcrypt hash was made with, or None if it is not a bcrypt hash."""
    found = _BCRYPT.fullmatch(hash)
    return int(found[1]) if found else None


def needs_rehash(hash: str, *, rounds: int) -> bool:
    """Whether a bcrypt hash took less work than `rounds`."""
    cost = _cost(hash)
    return cost is not None and cost < rounds


def verify_bcrypt(password: str, hash: str, *, rounds: int) -> bool:
    """Whether `hash` is of that password, after the work of at least `rounds` if it is not."""
    data = _encode(password)
    cost = _cost(hash)
    if cost is not None and bcrypt.checkpw(data, hash.encode()):
        return True
    # A round more is twice the work, so these add up to what is missing.
    for missing in (rounds,) if cost is None else range(cost, rounds):
        bcrypt.hashpw(data, bcrypt.gensalt(missing))
    return False


_HIDDEN = "**********"


def _check_new(value: object, handler: ValidatorFunctionWrapHandler) -> str:
    """Validate a password by Pydantic, with errors that do not hold it as their input."""
    errors: list[InitErrorDetails] = []
    try:
        password: str = handler(value)
        _encode_new(password)
    except ValidationError as error:
        for found in error.errors():
            ctx = found.get("ctx", {})
            errors.append(InitErrorDetails(type=found["type"], input=_HIDDEN, ctx=ctx))
    except PasswordError as error:
        custom = PydanticCustomError("password", "{reason}", {"reason": str(error)})
        errors.append(InitErrorDetails(type=custom, input=_HIDDEN))
    else:
        return password
    # Not in a handler, where the errors with the password would be its context.
    raise ValidationError.from_exception_data("password", errors)


NewPassword = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_BYTES, json_schema_extra={"format": "password"}),
    WrapValidator(_check_new),
]
"""A password somebody chooses, in a request model of the app: one that `BcryptHasher` hashes.

It has 1 to 72 bytes in UTF-8, no NUL character and no half of a surrogate pair; anything else is a
422 that does not repeat it. Only `install_exception_handlers` keeps it out of the errors of other
fields, such as a missing one, and of those of a constraint that an app adds, such as
`Annotated[NewPassword, Field(min_length=12)]`.
"""


Verify = Callable[[str, str | None], Awaitable[tuple[bool, str | None]]]
"""Whether a hash is of a password, which may be anything at all; and if so, a hash to replace one
that is outdated. The hash is None for an unknown user, and for one without a password."""


class _Pool:
    """The threads that hash for one event loop, and how many have come to them."""

    # Not anyio's threads with a limiter: a task that is cancelled (by a time-out of asyncio's, for
    # example) leaves that while its thread goes on, and another one begins.

    def __init__(self, limit: int) -> None:
        # By the package's name, which loads it when it is used: importing a block is to be cheap.
        self.threads = concurrent.futures.ThreadPoolExecutor(
            limit, thread_name_prefix="fastkit-passwords"
        )
        self.turns = Semaphore(limit)
        """Of those who verify. Who hashes has none, and may do so in the look-up of a user."""
        self.length = 0


class Passwords:
    """Hashes and verifies passwords in a few threads of its own, with a bounded queue.

    A password is verified by the same work whether there is a hash or not, whatever the hasher
    raises.

    Args:
        hasher: What hashes.
        limit: How many passwords are hashed at once on one event loop: as many as there are cores,
            unless it is given.

    Raises:
        ValueError: The limit is not positive, or the hasher cannot hash: it is tried once.
    """

    def __init__(self, hasher: PasswordHasher, /, *, limit: int | None = None) -> None:
        # Python 3.13 knows which of the cores this process may use.
        cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        self._limit = cores if limit is None else limit
        if self._limit < 1:
            raise ValueError(
                f"limit={limit!r} would let nobody in: use a positive number of passwords."
            )
        self._hasher = hasher
        self._dummy = _hash_dummy(hasher)
        # A loop's own, so that a process that was forked does not wait for its parent's threads.
        self._pools: WeakKeyDictionary[AbstractEventLoop, _Pool] = WeakKeyDictionary()

    async def hash(self, password: str, /) -> str:
        """Hash a new password.

        Raises:
            TooManyLoginsError: 100 others wait already.
            Exception: What the hasher raises, `PasswordError` for example.
        """
        with self._entered() as pool:
            return await _run(pool, lambda: self._hasher.hash(password))

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[Verify]:
        """Wait until a password can be verified; what verifies it.

        What takes a database connection to find the hash comes after this wait: or those who wait
        would have all the connections there are.

        Raises:
            TooManyLoginsError: 100 others wait already.
        """
        with self._entered() as pool:
            async with pool.turns:
                yield lambda password, hash: _run(pool, lambda: self._verify(password, hash))

    @contextmanager
    def _entered(self) -> Generator[_Pool]:
        loop = get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = _Pool(self._limit)
        if pool.length >= self._limit + _MAX_WAITING:
            raise TooManyLoginsError(
                "Too many passwords are being hashed. Try again later.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        pool.length += 1
        try:
            yield pool
        finally:
            pool.length -= 1

    def _verify(self, password: str, hash: str | None) -> tuple[bool, str | None]:
        if len(password) <= _MAX_LENGTH:
            stored = self._dummy if hash is None else hash
            try:
                is_right, new_hash = self._hasher.verify_and_update(password, stored)
            except Exception as error:
                _log(error)
            else:
                return (is_right, new_hash) if hash is not None else (False, None)
        # Nothing was hashed, or not to the end: what a wrong password takes is made up for.
        try:
            self._hasher.verify_and_update(_WRONG, self._dummy)
        except Exception as error:
            _log(error)
        return False, None


async def _run(pool: _Pool, work: Callable[[], _T]) -> _T:
    return await get_running_loop().run_in_executor(pool.threads, work)


def _hash_dummy(hasher: PasswordHasher) -> str:
    """A hash of a password that nobody knows."""
    try:
        return hasher.hash(token_hex(16))
    except Exception as error:
        kind = type(hasher)
        raise ValueError(
            f"the hasher, a {kind.__module__}.{kind.__qualname__}, cannot hash a password"
            f" ({type(error).__name__}: {error}). Use one that can: BcryptHasher(), or"
            " passlib_context() where passlib's own bcrypt fails."
        ) from error


def _log(error: Exception) -> None:
    # Without its text and its traceback, which may have the password.
    frame = extract_tb(error.__traceback__)[-1]
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    _logger.warning(
        "a password hasher failed, which is a failed login: %s at %s:%s",
        name,
        frame.filename,
        frame.lineno,
    )
