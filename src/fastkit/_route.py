"""The template of the route that answered a request: `/v1/items/{id}`, never `/v1/items/7`.

It is read from what routing leaves behind in the ASGI scope, after the application has run. FastAPI
and Starlette disagree on what that is, and changed it between the supported versions:

- `scope["endpoint"]` is set by each route that matched, mounts included, so that the last one is
  there at the end. Everything else is believed only when it belongs to that endpoint.
- `scope["route"]` is set by FastAPI's own routes everywhere, by Starlette's routers only since 1.0,
  and then by each mount too; plain Starlette routes of a newer FastAPI do not set it.
- Since FastAPI 0.137 a router is not copied when it is included: `scope["route"]` has the path
  within its router, the same one under each prefix, and the full one is in
  `scope["fastapi"]["effective_route_context"]`.
- A mount adds the path that was asked for to `scope["root_path"]`, not its template.
- `app.frontend()` sets no endpoint, but `scope["fastapi"]["frontend_path"]`.

None of these is documented, and so each may be missing: the answer is then less exact, never wrong
in a way that lets a client choose it, and never an exception.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import fastapi.routing
from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import Scope

__all__ = ("UNMATCHED", "route_template")

UNMATCHED = "<unmatched>"

# What a mount or a frontend leaves open, as Starlette and FastAPI write it themselves.
_BELOW = "/{path}"


_route_contexts: Callable[[Iterable[BaseRoute]], Iterable[Any]] = getattr(
    fastapi.routing, "iter_route_contexts", lambda _routes: ()
)


def route_template(scope: Scope, /) -> str:
    """Return the full template of the route which answered, or `UNMATCHED`.

    It is what OpenTelemetry calls `http.route`: with the prefixes of included routers, the
    templates of mounts, and the application's root (`root_path`) in front. What a mounted
    application does not tell about itself, a folder of files for one, is `/{path}`.

    Call it when the application has returned.
    """
    endpoint: object | None = scope.get("endpoint")
    added = scope.get("fastapi")
    fastapi_scope = cast("dict[str, Any]", added) if isinstance(added, dict) else {}
    frontend = fastapi_scope.get("frontend_path")
    leaf: str | None
    if isinstance(frontend, str):
        leaf = _frontend_template(scope, frontend)
    elif endpoint is None:
        return UNMATCHED
    else:
        leaf = _leaf_template(scope, fastapi_scope.get("effective_route_context"), endpoint)

    inner_root: str = scope.get("root_path", "")
    # Only mounts set it: the root as the server or the application gave it.
    root: str = scope.get("app_root_path", inner_root)
    mounted = inner_root[len(root) :] if inner_root.startswith(root) else ""
    prefix = root.rstrip("/")
    if leaf is not None and not mounted:
        return prefix + leaf
    routes: Iterable[BaseRoute] = getattr(scope.get("router"), "routes", ())
    if leaf is not None:
        return prefix + (_find(routes, mounted, None, scope) or _BELOW) + leaf
    found = _find(routes, mounted, endpoint, scope)
    return UNMATCHED if found is None else prefix + found


def _leaf_template(scope: Scope, context: Any, endpoint: object) -> str | None:
    # The context first: it has the full path of an API route, and no endpoint for anything else.
    for route in (context, scope.get("route")):
        if getattr(route, "endpoint", None) is endpoint:
            return _path_format(route)
    return None


def _path_format(route: Any) -> str | None:
    # Without the converters: "{id}" for a path with "{id:int}".
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    return template if isinstance(template, str) else None


def _frontend_template(scope: Scope, below: str) -> str:
    # A frontend's own path has no parameters: what is asked for below it is cut off.
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if f"{path}/".startswith(f"{root}/"):
        path = path[len(root) :]
    return path[: len(path) - len(below)].rstrip("/") + _BELOW


def _find(
    routes: Iterable[BaseRoute], mounted: str, endpoint: object | None, scope: Scope
) -> str | None:
    """Find the template of the mounts that took `mounted`, and of the endpoint below them.

    Of the routes only mounts are matched again, against the part of the path which they took, and
    the one route that has this endpoint.
    """
    vague = None
    for route in _each(routes):
        kind = getattr(route, "original_route", route)
        if isinstance(kind, Mount):
            match = route.path_regex.match(mounted + "/")
            if match is None:
                continue
            rest = ("/" + match["path"]).rstrip("/")
            template: str = route.path_format.removesuffix(_BELOW)
            if not rest and endpoint is None:
                return template
            if not rest and route.app is endpoint:
                return template + _BELOW
            found = _find(route.routes, rest, endpoint, scope)
            if found is not None:
                return template + found
            if vague is None and not (rest and route.routes):
                vague = template + _BELOW
        elif isinstance(kind, Host):
            found = _find(route.routes, mounted, endpoint, scope)
            if found is not None:
                return found
        elif (
            not mounted
            and endpoint is not None
            and getattr(route, "endpoint", None) is endpoint
            and route.matches(scope)[0] is not Match.NONE
        ):
            return _path_format(route)
    return vague


def _each(routes: Iterable[BaseRoute]) -> Iterable[Any]:
    yield from routes
    # Last, for they cost most and are seldom needed: the mounts of included routers.
    for context in _route_contexts(routes):
        yield getattr(context, "starlette_route", None) or context
