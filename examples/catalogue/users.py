"""Who is there in the demo, with secrets that everybody can read; and how passwords are hashed."""
# ruff: noqa: S106 -- the passwords are no secrets

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.catalogue.models import User
from examples.catalogue.settings import settings
from fastkit.auth import BcryptHasher

# Hashing takes time so that nobody can try out what passwords might be: here they are known.
hasher = BcryptHasher(rounds=4) if settings.demo else BcryptHasher()


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoUser:
    username: str
    password: str
    scopes: str = ""
    disabled: bool = False


DEMO_USERS = (
    DemoUser(username="demo-editor", password="crimson-lake", scopes="works:write"),
    DemoUser(username="demo-visitor", password="raw-umber"),
    DemoUser(username="demo-former", password="burnt-sienna", scopes="works:write", disabled=True),
)
DEMO_KEY = "a-key-that-everybody-can-read"


async def seed_users(session: AsyncSession) -> None:
    """Add the demo's users that are missing; where there is no demo, remove those of an earlier."""
    names = [user.username for user in DEMO_USERS]
    if not settings.demo:
        await session.execute(delete(User).where(User.username.in_(names)))
        return
    known = set(await session.scalars(select(User.username).where(User.username.in_(names))))
    session.add_all(
        User(
            username=user.username,
            hashed_password=hasher.hash(user.password),
            disabled=user.disabled,
            scopes=user.scopes,
        )
        for user in DEMO_USERS
        if user.username not in known
    )
