"""RSA, EC and Ed25519 keys. Importing this module needs cryptography."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt import get_algorithm_by_name

from fastkit._base64url import decode

__all__ = ("KeyPair", "load_jwk", "load_pem")

_RSA_BITS = 2048  # RFC 7518, section 3.3
_USABLE = f"RSA of at least {_RSA_BITS} bits, EC on P-256 and Ed25519"
# The members of a public key that are required (RFC 7638, section 3.2; RFC 8037, section 2).
_REQUIRED = ("crv", "e", "kty", "n", "x", "y")

_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """A private key with its public one."""

    algorithm: str
    public: Any
    private: Any
    secret: bytes
    """What only who has the private key can know: the same in whatever form that came."""
    jwk: dict[str, str]
    """The public key, and nothing that is not required."""


def load_pem(pem: str | bytes, /) -> KeyPair:
    """The key in a PEM file.

    Raises:
        ValueError: There is none that can be used.
    """
    data = pem.encode(errors="replace") if isinstance(pem, str) else pem
    try:
        if b"PRIVATE KEY-----" in data:
            key: object = load_pem_private_key(data, password=None)
        else:
            key = load_pem_public_key(data)
    except TypeError:
        raise ValueError(
            "The PEM is encrypted: decrypt it where it is deployed, with openssl pkey -in FILE."
        ) from None
    except (UnsupportedAlgorithm, ValueError):
        raise ValueError(
            "This is no PEM with a key: pass the content of the private key's file, and neither "
            "its path nor a certificate."
        ) from None
    return _pair(key)


def load_jwk(jwk: Mapping[str, Any], /) -> KeyPair:
    """The key in a JWK.

    Raises:
        ValueError: There is none that can be used.
    """
    kind = (jwk.get("kty"), jwk.get("crv"))
    algorithm = next((name for key, name in _ALGORITHMS.items() if key == kind), None)
    if algorithm is None:
        raise ValueError(f"The JWK has kty {kind[0]!r} and crv {kind[1]!r}: use {_USABLE}.")
    try:
        key = get_algorithm_by_name(algorithm).from_jwk(dict(jwk))
    except Exception:  # a wrong member raises whatever the library meets first
        raise ValueError(f"The JWK's members are not those of a key for {algorithm}.") from None
    pair = _pair(key)
    if any(jwk.get(name) != value for name, value in pair.jwk.items()):
        raise ValueError("The JWK's public members are not those of its private key.")
    return pair


def _pair(key: Any) -> KeyPair:
    algorithm = _find_algorithm(key)
    jwk = get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    public = {name: jwk[name] for name in _REQUIRED if name in jwk}
    if "d" not in jwk:
        # What binds tokens to passwords and logins follows from the private key.
        raise ValueError(
            "The key is a public one, and Auth needs its private key, also to verify. Others, who "
            "only verify, do that with any library for JWTs and /jwks.json."
        )
    # An RSA key has several d, and its primes come in any order.
    secret = decode(jwk["d"]) if "p" not in jwk else min(decode(jwk["p"]), decode(jwk["q"]))
    return KeyPair(algorithm, public=key.public_key(), private=key, secret=secret, jwk=public)


def _find_algorithm(key: object) -> str:
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        if key.key_size >= _RSA_BITS:
            return "RS256"
        raise ValueError(f"The key is RSA of {key.key_size} bits: use {_USABLE}.")
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return "ES256"
        raise ValueError(f"The key is EC on {key.curve.name}: use {_USABLE}.")
    if isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        return "EdDSA"
    kind = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    raise ValueError(f"The key is {kind}: use {_USABLE}.")
