from typing import assert_type

from passlib.context import CryptContext
from pwdlib import PasswordHash
from pydantic import BaseModel
from redis.asyncio import Redis

from fastkit.auth._passlib import passlib_context
from fastkit.auth._passwords import BcryptHasher, NewPassword, PasswordHasher, Passwords
from fastkit.auth._redis_throttle import RedisThrottle
from fastkit.auth._throttle import MemoryThrottle, Throttle


class Registration(BaseModel):
    password: NewPassword


class ByName:
    def hash(self, password: str) -> str:
        return password

    def verify_and_update(self, password: str, hash: str) -> tuple[bool, str | None]:
        return password == hash, None


class WithoutUpdates:
    def hash(self, password: str) -> str:
        return password

    def verify(self, password: str, hash: str) -> bool:
        return password == hash


def hashers_of_others_fit_as_they_are(crypt: CryptContext, pwdlib: PasswordHash) -> None:
    hashers: list[PasswordHasher] = [BcryptHasher(), crypt, pwdlib, passlib_context(), ByName()]
    Passwords(hashers[0], limit=2)


def a_hasher_that_cannot_update_is_none() -> None:
    Passwords(WithoutUpdates())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def what_verify_gives(passwords: Passwords) -> None:
    async with passwords.turn() as verify:
        assert_type(await verify("secret", None), tuple[bool, str | None])
    assert_type(await passwords.hash("secret"), str)


def a_new_password_is_a_str(registration: Registration) -> None:
    assert_type(registration.password, str)


def passlibs_context_is_passlibs() -> None:
    assert_type(passlib_context(), CryptContext)


def throttles_fit(redis: Redis) -> None:
    throttles: list[Throttle] = [MemoryThrottle(), RedisThrottle(redis)]
    assert_type(throttles[0], Throttle)
