"""What the environment chooses: `CATALOGUE_SECRET=...`, and so on."""

from pathlib import Path
from secrets import token_urlsafe

from pydantic import Field, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_HERE = Path(__file__).resolve().parent


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CATALOGUE_")

    database_url: str = f"sqlite+aiosqlite:///{_HERE / 'catalogue.db'}"

    cursor_secret: SecretStr | None = None
    """Signs the cursors of `/works/by-cursor`, if there is one: 16 bytes or more."""

    secret: SecretStr = Field(default_factory=lambda: SecretStr(token_urlsafe(32)))
    """Signs the tokens: 32 random bytes or more. One that is made up lasts as long as the process,
    and no other worker knows it."""

    access_seconds: PositiveInt = 900
    """How long an access token is good for."""

    redis_url: SecretStr | None = None
    """Keeps logins in that Redis and counts the failed ones there, instead of in the database and
    in this process."""

    import_keys: dict[str, str] = {}
    """Who may import: names, as JSON, each with what `hash_api_key` has made of a key."""

    demo: bool = True
    """Whether there are users, and a key to import with, whose secrets everybody can read."""


settings = Settings()
