"""The form of an OAuth2 request (RFC 6749, appendix B)."""

from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from fastkit.auth._grants import OAuthError

__all__ = ("read_form",)

# In bytes, and in fields: a token of ours has up to 8 KiB, and all else is short.
_MAX_BODY = 64 * 1024
_MAX_FIELDS = 32


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of a form, urlencoded or multipart; those without a value are left out.

    Raises:
        OAuthError: The body is longer than 64 KiB, has more than 32 parameters or one twice, or is
            malformed.
    """
    found: dict[str, str] = {}
    for name, value in (await _parsed(request)).multi_items():
        # Section 3.2: one without a value counts as omitted, two of a name are an error.
        if name in found:
            raise OAuthError("invalid_request", "A parameter is there more than once.")
        if isinstance(value, str) and value:
            found[name] = value
    return found


async def _parsed(request: Request) -> FormData:
    try:
        body = await _read(request)
    except RuntimeError:  # a dependency of the app's has a Form(), for which FastAPI has read it
        return await request.form()
    # Older releases of Starlette count the fields of multipart alone, and thousands take long.
    is_multipart = request.headers.get("content-type", "").lower().startswith("multipart/")
    if not is_multipart and body.count(b"&") >= _MAX_FIELDS:
        raise OAuthError("invalid_request", "The body has too many parameters.")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        # Malformed bodies raise many types of exceptions here. Nothing else can: no I/O is left.
        return await Request(request.scope, receive).form(max_files=0, max_fields=_MAX_FIELDS)
    except Exception:
        raise OAuthError("invalid_request", "The body is no form that can be read.") from None


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                raise OAuthError("invalid_request", "The body is too long.")
    except ClientDisconnect:
        raise OAuthError("invalid_request", "The body has no end.") from None
    return bytes(body)
