"""What the environment chooses: `CHAT_REDIS_URL=...`, and so on."""

from pydantic import PositiveFloat, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CHAT_")

    redis_url: SecretStr | None = None
    """Joins all processes that have it. Without it there is one process, which forgets all when it
    ends."""

    messages_per_second: PositiveFloat = 10
    """How many are taken from one client."""


settings = Settings()
