"""Tokens made by hand: neither PyJWT nor fastkit says what may be in them.

`forge(token, hs256(SECRET), typ="JWT")` is a token of ours with another header, signed as it should
be; `without=["exp"]` and `claims={"aud": ["x"]}` change what it says.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

__all__ = (
    "OTHER_SECRET",
    "SECRET",
    "Signer",
    "b64",
    "claims_of",
    "der",
    "ec_key",
    "ed25519_key",
    "eddsa",
    "es256",
    "forge",
    "header_of",
    "hs256",
    "joined",
    "pem",
    "private_pem",
    "rs256",
    "rsa_key",
    "segment",
    "unb64",
    "unsigned",
)

SECRET = "vQ3uSx0hXo8JmY5cE1bRk7TzWn2LdGfP"
OTHER_SECRET = "kB9wZt4rNq6VjH1yUe8XaMo3CsPi5DlF"

Signer = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def segment(value: object) -> str:
    """A part of a token, in the form that most libraries write."""
    return b64(json.dumps(value, separators=(",", ":")).encode())


def joined(header: str, payload: str, sign: Signer) -> str:
    """A token of two parts that are encoded already, and their signature."""
    message = f"{header}.{payload}"
    return f"{message}.{b64(sign(message.encode()))}"


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(unb64(token.split(".")[0]))
    return header


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(unb64(token.split(".")[1]))
    return claims


def forge(
    token: str,
    sign: Signer,
    *,
    claims: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
    **header: Any,
) -> str:
    """`token` with other claims, and with other members of its header.

    Names in `without` are taken out of both. Where nothing changes, the text stays as it is.
    """
    parts = token.split(".")
    old_header, old_claims = header_of(token), claims_of(token)
    new_header = {k: v for k, v in {**old_header, **header}.items() if k not in without}
    new_claims = {k: v for k, v in {**old_claims, **(claims or {})}.items() if k not in without}
    return joined(
        parts[0] if new_header == old_header else segment(new_header),
        parts[1] if new_claims == old_claims else segment(new_claims),
        sign,
    )


def unsigned(message: bytes) -> bytes:
    return b""


def hs256(secret: str | bytes, digest: str = "sha256") -> Signer:
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda message: hmac.digest(key, message, digest)


def rs256(key: rsa.RSAPrivateKey) -> Signer:
    return lambda message: key.sign(message, PKCS1v15(), SHA256())


def es256(key: ec.EllipticCurvePrivateKey, *, der: bool = False) -> Signer:
    def sign(message: bytes) -> bytes:
        signature = key.sign(message, ec.ECDSA(SHA256()))
        r, s = decode_dss_signature(signature)
        return signature if der else r.to_bytes(32) + s.to_bytes(32)

    return sign


def eddsa(key: Ed25519PrivateKey) -> Signer:
    return key.sign


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def private_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
