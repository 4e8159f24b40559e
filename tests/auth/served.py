"""The app that is served by a process of its own."""

from tests.auth.people import User, make_app, make_auth

__all__ = ("app",)

app = make_app(make_auth(User("alice", scopes=("items:read", "items:write"))))
