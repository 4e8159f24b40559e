"""Which secrets are refused: too short, monotonous, published, or made for something else."""

import re
from base64 import b64decode
from contextlib import suppress
from itertools import pairwise

from fastkit._base64url import decode

__all__ = ("check_secret",)

_LENGTH = 32  # RFC 7518, section 3.2: as long as the hash of HS256
_VARIETY = 6  # 32 random decimal digits have fewer once in ten million
_REMEDY = 'make one with python -c "import secrets; print(secrets.token_urlsafe(32))"'

_PUBLISHED_HEX = (
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",  # FastAPI's tutorial
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",  # Spring's tutorials
)
_PUBLISHED_BASE64URL = (
    # RFC 7515, appendix A.1
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",  # RFC 7520, section 3.5
)
_PUBLISHED = {
    *(text.lower().encode() for text in (*_PUBLISHED_HEX, *_PUBLISHED_BASE64URL)),
    *map(bytes.fromhex, _PUBLISHED_HEX),
    *map(decode, _PUBLISHED_BASE64URL),
}
# What templates and tutorials put where a secret belongs: "change-this-in-production",
# "your-secret-key-...", jwt.io's "a-string-secret-at-least-256-bits-long".
_PLACEHOLDER = (
    rb"(?i)change[-_ ]?(?:it|in|me|this)|to[-_ ]change|replace[-_ ]|your[-_ ]|at[-_ ]least[-_ ]"
    rb"|example|insecure|placeholder"
)
# PEM and SSH2 armour, a JWK or a set of them, a line of OpenSSH's authorized_keys.
_KEY_FILE = rb'----[- ]BEGIN |"kty"\s*:|\A\s*(?:ssh|ecdsa-sha2|sk-ssh|sk-ecdsa)-'


def check_secret(secret: str | bytes, /) -> bytes:
    """The secret as bytes.

    Raises:
        TypeError: It is neither a str nor bytes.
        ValueError: It would not keep anybody from forging a token. The message does not show it.
    """
    data = _to_bytes(secret)
    fault = _find_fault(data)
    if fault:
        raise ValueError(f"The secret {fault}: {_REMEDY}.")
    if re.search(_KEY_FILE, data) or _is_der(data):
        raise ValueError(
            "The secret is a key file, which others may have: load RSA, EC and Ed25519 keys with "
            "Key.from_pem or Key.from_jwk, which also takes a JWK that holds a secret."
        )
    return data


def _to_bytes(secret: object) -> bytes:
    if isinstance(secret, bytes):
        return secret
    if not isinstance(secret, str):
        raise TypeError(
            f"The secret is of type {type(secret).__name__}: pass a str or bytes (of a SecretStr, "
            "its get_secret_value())."
        )
    try:
        return secret.encode()
    except UnicodeEncodeError:
        raise ValueError(
            "The secret is no text, for it contains a lone surrogate: pass it as bytes."
        ) from None


def _find_fault(secret: bytes) -> str | None:
    if len(secret) < _LENGTH:
        return f"has {len(secret)} bytes and needs at least {_LENGTH} (RFC 7518, section 3.2)"
    if not _PUBLISHED.isdisjoint((secret, secret.strip().lower())):
        return "is an example that everybody can read"
    if re.search(_PLACEHOLDER, secret):
        return "is a placeholder that was to be replaced"
    period = _find_period(secret)
    if period:
        return f"repeats the same {period} bytes"
    steps = {(after - before) % 256 for before, after in pairwise(secret)}
    if min(len(set(secret)), len(steps)) < _VARIETY:
        return "is a simple sequence of a few characters"
    return None


def _find_period(secret: bytes) -> int | None:
    for period in range(1, min(_LENGTH, len(secret) // 2 + 1)):
        if secret[period:] == secret[:-period]:
            return period
    return None


def _is_der(secret: bytes) -> bool:
    """Whether it has the outer form of a key or a certificate: raw, or the Base64 within a PEM."""
    candidates = [secret]
    with suppress(ValueError):
        candidates.append(b64decode(secret))
    return any(map(_is_sequence, candidates))


def _is_sequence(data: bytes) -> bool:
    # One ASN.1 SEQUENCE that begins with another or with an INTEGER: no cryptography needed, and
    # random bytes are it once in eight million.
    if data[:1] != b"\x30" or data.isascii():
        return False
    start = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
    length = int.from_bytes(data[2:start]) if start > 2 else data[1]
    return start + length == len(data) and data[start : start + 1] in (b"\x30", b"\x02")
