"""Base64url without padding, as JOSE has it (RFC 7515, section 2), in its one canonical form."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

__all__ = ("decode", "encode")


def encode(data: bytes, /) -> str:
    """`data` as text."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str, /) -> bytes:
    """The data that `encode` has made `text` of.

    Raises:
        ValueError: `text` is not canonical base64url. Nothing else is raised for any string.
    """
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder overlooks strange characters and superfluous bits.
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
