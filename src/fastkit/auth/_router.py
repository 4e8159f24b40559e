"""`auth_router`: the endpoints of OAuth2, and who one is."""

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, params
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from fastkit.auth._auth import Auth, Parts
from fastkit.auth._bearer import Principal
from fastkit.auth._forms import read_form
from fastkit.auth._grants import Issue, OAuthError
from fastkit.auth._users import Find

__all__ = ("auth_router",)

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, section 5.1


class TokenResponse(BaseModel):
    """An access token and a refresh token (RFC 6749, section 5.1)."""

    access_token: str = Field(repr=False)
    token_type: Literal["bearer"]
    expires_in: int = Field(description="Seconds until the access token expires.")
    refresh_token: str = Field(repr=False, description="Can be exchanged once for new tokens.")
    scope: str = Field(description="What the access token is good for, separated by spaces.")


class OAuthErrorResponse(BaseModel):
    """Why no token was issued or revoked (RFC 6749, section 5.2)."""

    error: str
    error_description: str


class MeResponse(BaseModel):
    """The user who makes the request."""

    sub: str
    scopes: list[str]


class _Deferred(Response):
    """A response that is worked out when it is sent: after dependencies of scope "function" ended.

    What the session wrote is committed by then, and its connection is free for the token store.
    """

    def __init__(self, work: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._work()
        response.background = self.background
        await response(scope, receive, send)


def auth_router(auth: Auth[Any], /, *, user_model: type[Any] | None = None) -> APIRouter:
    """The endpoints of `auth`, to be included with any prefix.

        app.include_router(auth_router(auth), prefix="/auth")

    - `POST /token`: a password or a refresh token for an access token (RFC 6749, 4.3 and 6).
    - `POST /revoke`: ends the login of a token (RFC 7009).
    - `POST /logout`: ends the login of the request, with `?all=true` all logins of its user.
    - `GET /me`: who makes the request.
    - `GET /jwks.json`: the public keys (RFC 7517), if there are any.

    Args:
        auth: What they work for.
        user_model: What `/me` shows of the user: a model with the fields that may be seen. Without
            one it gives `sub` and `scopes` alone.
    """
    parts = auth._parts  # pyright: ignore[reportPrivateUsage]  # this is its other half
    router = APIRouter()
    _add_oauth2(router, parts)
    _add_logout(router, parts)
    _add_me(router, parts, user_model)
    jwks = parts.tokens.keyring.jwks()
    if jwks["keys"]:

        @router.get("/jwks.json")
        async def keys() -> dict[str, list[dict[str, str]]]:
            return jwks

    return router


def _add_oauth2(router: APIRouter, parts: Parts) -> None:
    grants, users = parts.grants, parts.users

    @router.post(
        "/token",
        response_model=TokenResponse,
        responses=_errors(400, 401, 429, 503),
        openapi_extra=_TOKEN_FORM,
    )
    async def token(
        request: Request,
        by_name: Annotated[Find, users.by_name],
        by_subject: Annotated[Find, users.by_subject],
    ) -> Response:
        try:
            form = await read_form(request)
            match form.get("grant_type"):
                case "password":
                    issue = await grants.by_password(form, _address(request), by_name)
                case "refresh_token":
                    issue = await grants.by_refresh_token(form, _address(request), by_subject)
                case None:
                    raise OAuthError("invalid_request", "The parameter grant_type is missing.")
                case _:
                    raise OAuthError("unsupported_grant_type", "Use password or refresh_token.")
        except OAuthError as error:
            return _refusal(error, parts)

        return _Deferred(partial(_granted, issue, parts))

    # Only here so that `learn` is told where the router is included. It cannot hang on POST /token:
    # its result would replace the operation id that the app gives. A GET is a 405 either way.
    @router.get(
        "/token", include_in_schema=False, generate_unique_id_function=parts.bearer.scheme.learn
    )
    async def token_is_for_post() -> None:
        raise HTTPException(405, headers={"Allow": "POST"})

    @router.post(
        "/revoke",
        responses={200: {"description": "The token is revoked, or was not valid."}, **_errors(400)},
        response_class=Response,
        openapi_extra=_REVOKE_FORM,
    )
    async def revoke(request: Request) -> Response:
        try:
            await grants.revoke(await read_form(request), _address(request))
        except OAuthError as error:
            return _refusal(error, parts)
        return Response(headers=_NO_STORE)


def _add_logout(router: APIRouter, parts: Parts) -> None:
    @router.post("/logout", status_code=204)
    async def logout(
        request: Request,
        principal: Annotated[Principal[Any], params.Depends(parts.bearer.current_principal)],
        everywhere: Annotated[
            bool, Query(alias="all", description="End all logins of the user.")
        ] = False,
    ) -> Response:
        async def answer() -> Response:
            await parts.grants.log_out(principal, _address(request), everywhere=everywhere)
            return Response(status_code=204)

        return _Deferred(answer)


def _add_me(router: APIRouter, parts: Parts, user_model: type[Any] | None) -> None:
    current = params.Depends(parts.bearer.current_principal)

    @router.get("/me", response_model=user_model or MeResponse)
    async def me(principal: Annotated[Principal[Any], current]) -> Any:
        if user_model is not None:
            return principal.account.user
        return MeResponse(sub=principal.account.subject, scopes=sorted(principal.scopes))


async def _granted(issue: Issue, parts: Parts) -> Response:
    try:
        granted = await issue()
    except OAuthError as error:
        return _refusal(error, parts)
    answer = TokenResponse(
        access_token=granted.access_token,
        token_type="bearer",  # noqa: S106  # no token
        expires_in=int(parts.tokens.access.lifetime),
        refresh_token=granted.refresh_token,
        scope=" ".join(granted.scopes),
    )
    return JSONResponse(answer.model_dump(), headers=_NO_STORE)


def _address(request: Request) -> str | None:
    return None if request.client is None else request.client.host


def _refusal(error: OAuthError, parts: Parts) -> Response:
    headers = dict(_NO_STORE)
    if error.status == 401:
        headers["WWW-Authenticate"] = parts.bearer.challenge
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    content = {"error": error.error, "error_description": error.description}
    return JSONResponse(content, error.status, headers)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": OAuthErrorResponse, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


def _form(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    media_types = ("application/x-www-form-urlencoded", "multipart/form-data")
    content = {media_type: {"schema": schema} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


_TEXT = {"type": "string"}
_SECRET = {"type": "string", "format": "password"}
_TOKEN_FORM = _form(
    ["grant_type"],
    grant_type={"type": "string", "enum": ["password", "refresh_token"]},
    username=_TEXT,
    password=_SECRET,
    refresh_token=_SECRET,
    scope={"type": "string", "description": "Separated by spaces; all there are if left out."},
)
_REVOKE_FORM = _form(["token"], token=_SECRET, token_type_hint=_TEXT)
