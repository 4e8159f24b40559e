"""Dependencies as they are handed out, and how OpenAPI is told where tokens come from."""

import re
from collections.abc import Iterable
from typing import Any

from fastapi import params
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.security.base import SecurityBase

__all__ = ("BearerScheme", "ReadyDependency", "component_name")

# OpenAPI 3.1, 4.8.7.1: what a component may be called.
_UNNAMEABLE = r"[^A-Za-z0-9._-]+"


class ReadyDependency(params.Security):
    """A dependency that is handed out as such: `Annotated[User, auth.current_user]`."""

    def __repr__(self) -> str:
        # FastAPI shows this when it is handed Depends(auth.current_user).
        return "a dependency of fastkit.auth, used as Annotated[..., it] and not in Depends(),"


def component_name(text: str) -> str:
    """What an OpenAPI document may call a component after `text`."""
    return re.sub(_UNNAMEABLE, "-", text).strip("-") or "auth"


class BearerScheme(SecurityBase):
    """The OAuth2 password flow in an OpenAPI document.

    FastAPI looks at `model` when it makes the document. By then `learn` knows where in the app the
    token route is; of several places, the last one counts. The URL begins with no slash: so it is
    relative to the server in the document, which has the mounts and the `root_path` above the app.

    Args:
        name: What the document calls it: another one for each `Auth` of an app.
    """

    def __init__(self, name: str) -> None:
        self.scheme_name: str = component_name(name)
        self._path = "token"
        self._scopes: dict[str, str] = {}
        self._update()

    async def __call__(self) -> None:
        """Do nothing: that it is a dependency is what OpenAPI shows."""

    def learn(self, route: Any, /) -> str:
        """Take the path of `route` for the token route's; an id for it.

        As a route's `generate_unique_id_function`, this is called for each place where the route's
        router is included, with its path there: FastAPI up to 0.136 copies the route at once, later
        ones work out the path when the app is first asked for something.
        """
        path: str = route.path_format
        self._path = path.removeprefix("/")
        self._update()
        return f"learn{path}"

    def add_scopes(self, scopes: Iterable[str]) -> None:
        """List `scopes` in the document."""
        self._scopes |= dict.fromkeys(scopes, "")
        self._update()

    def _update(self) -> None:
        scopes = dict(self._scopes)
        flow = OAuthFlowPassword(tokenUrl=self._path, refreshUrl=self._path, scopes=scopes)
        self.model = OAuth2(flows=OAuthFlows(password=flow))
