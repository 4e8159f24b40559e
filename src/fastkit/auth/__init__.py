"""Logins by password, refresh tokens that are used once, and who makes a request.

auth = Auth(secret=settings.secret, get_user=find_user)
app.include_router(auth_router(auth), prefix="/auth")
CurrentUser = Annotated[User, auth.current_user]
"""

from importlib import import_module

from fastkit._extras import requires

with (
    requires("PyJWT", by="fastkit.auth", module="jwt", install="pyjwt"),
    requires("bcrypt", by="fastkit.auth", module="bcrypt", install="bcrypt"),
    requires(
        "python-multipart",
        by="fastkit.auth",
        module="python_multipart",
        install="python-multipart",
    ),
):
    import_module("python_multipart")  # that Starlette reads forms with

    from fastkit.auth._api_key import api_key, hash_api_key
    from fastkit.auth._auth import Auth
    from fastkit.auth._events import AuthEvent
    from fastkit.auth._keys import Key
    from fastkit.auth._passlib import passlib_context
    from fastkit.auth._passwords import (
        BcryptHasher,
        NewPassword,
        PasswordError,
        PasswordHasher,
        TooManyLoginsError,
    )
    from fastkit.auth._router import auth_router
    from fastkit.auth._store import Login, MemoryTokenStore, TokenStore
    from fastkit.auth._throttle import LoginLimits, MemoryThrottle, Throttle

__all__ = (
    "Auth",
    "AuthEvent",
    "BcryptHasher",
    "Key",
    "Login",
    "LoginLimits",
    "MemoryThrottle",
    "MemoryTokenStore",
    "NewPassword",
    "PasswordError",
    "PasswordHasher",
    "Throttle",
    "TokenStore",
    "TooManyLoginsError",
    "api_key",
    "auth_router",
    "hash_api_key",
    "passlib_context",
)
