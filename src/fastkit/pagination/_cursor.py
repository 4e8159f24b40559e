"""Cursors: a place in an order, as text that a client can neither read much from nor forge."""

import hmac
from hashlib import blake2b
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter

from fastkit import _base64url
from fastkit.pagination._params import query_name

__all__ = ("Cursor", "CursorCodec", "check_secret", "cursor_error")

_VERSION = 1
_DIGEST = 16
_MIN_SECRET = 16


class Cursor(NamedTuple):
    """The place beside a row, and which way to go from there."""

    values: tuple[Any, ...]
    backward: bool = False
    inclusive: bool = False
    """Whether the row at that place belongs to the page."""


class CursorCodec:
    """Cursors of one list in one order.

    Args:
        adapter: The types of the values.
        context: What a cursor is bound to: the list, its order and its filters.
        secret: Signs the cursors. Without it they are only protected against mistakes.
    """

    def __init__(
        self, adapter: TypeAdapter[tuple[Any, ...]], context: bytes, secret: bytes | None
    ) -> None:
        self._adapter = adapter
        self._context = context
        self._key = blake2b(secret).digest() if secret else b""

    def encode(self, cursor: Cursor) -> str:
        """The cursor as text of RFC 4648, section 5, without padding."""
        flags = cursor.backward | cursor.inclusive << 1
        body = bytes((_VERSION, flags)) + self._adapter.dump_json(cursor.values)
        return _base64url.encode(self._digest(body) + body)

    def decode(self, text: str, params: BaseModel) -> Cursor:
        """The cursor that `encode` has made `text` of.

        Raises:
            RequestValidationError: It has not, or not for this list, order and filters.
        """
        try:
            raw = _base64url.decode(text)
            digest, body = raw[:_DIGEST], raw[_DIGEST:]
            if not hmac.compare_digest(digest, self._digest(body)) or body[0] != _VERSION:
                raise ValueError(text)
            values = self._adapter.validate_json(body[2:], strict=True)
        except (ValueError, IndexError):  # Pydantic's and the decoders' errors are ValueErrors
            raise cursor_error(params) from None
        return Cursor(values, backward=bool(body[1] & 1), inclusive=bool(body[1] & 2))

    def _digest(self, body: bytes) -> bytes:
        digest = blake2b(digest_size=_DIGEST, key=self._key, person=b"fastkit.cursor")
        digest.update(len(self._context).to_bytes(8, "big") + self._context + body)
        return digest.digest()


def cursor_error(params: BaseModel) -> RequestValidationError:
    """A 422 that names the parameter."""
    message = "Not a cursor of this list, sort and filters: start again without a cursor"
    error = {"type": "cursor", "loc": ("query", query_name(params, "cursor")), "msg": message}
    return RequestValidationError([error])


def check_secret(secret: str | bytes) -> bytes:
    """The secret as bytes.

    Raises:
        ValueError: It is shorter than 16 bytes.
    """
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < _MIN_SECRET:
        raise ValueError(
            f"The secret for cursors has {len(key)} bytes and needs at least {_MIN_SECRET}: "
            "make one with secrets.token_urlsafe()"
        )
    return key
