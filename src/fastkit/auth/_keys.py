"""The keys that sign what this block hands out, each with one algorithm."""

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, Self, cast

from jwt import get_algorithm_by_name

from fastkit._base64url import decode, encode
from fastkit._extras import requires
from fastkit.auth._secrets import check_secret

if TYPE_CHECKING:
    from fastkit.auth._asymmetric import KeyPair

__all__ = ("Key", "Keyring")


class Key:
    """A secret for HS256. `from_pem` and `from_jwk` load keys for RS256, ES256 and EdDSA too.

    The algorithm follows from the key: nothing in a token chooses it (RFC 8725, section 3.1).

    Args:
        secret: At least 32 random bytes, from `secrets.token_urlsafe(32)` for example.
        kid: What tokens call the key (RFC 7515, section 4.1.4). By default it follows from the
            key: a digest of a secret, the thumbprint (RFC 7638) of any other.

    Raises:
        TypeError: The secret is neither a str nor bytes.
        ValueError: The secret would not keep anybody from forging a token, for it is short,
            monotonous, published or a key file; or the kid is no text.
    """

    __slots__ = ("_algorithm", "_private", "_public", "_root", "algorithm", "kid", "public_jwk")

    algorithm: str
    """The `alg` of its tokens: HS256, RS256, ES256 or EdDSA."""
    kid: str
    """What its tokens call it."""
    public_jwk: dict[str, str] | None
    """What others need to verify its tokens (RFC 7517, section 4); None for a secret."""

    def __init__(self, secret: str | bytes, /, *, kid: str | None = None) -> None:
        data = check_secret(secret)
        self._set("HS256", public=data, private=data, material=data)
        # 72 bits that tell no more of the secret than a signature does.
        self.kid = encode(self.derive(b"kid")[:9]) if kid is None else _check_kid(kid)
        self.public_jwk = None

    @classmethod
    def from_pem(cls, pem: str | bytes, /, *, kid: str | None = None) -> Self:
        """The private key in a PEM file.

        Args:
            pem: The content of the file, which is not encrypted: RSA of at least 2048 bits, EC on
                P-256, or Ed25519.
            kid: What tokens call the key.

        Raises:
            ModuleNotFoundError: cryptography is not installed.
            ValueError: There is no such key in it, or a public one alone, or the kid is no text.
        """
        with requires(
            "cryptography", by="Key.from_pem", module="cryptography", install="pyjwt[crypto]"
        ):
            from fastkit.auth._asymmetric import load_pem
        return cls._of(load_pem(pem), kid)

    @classmethod
    def from_jwk(cls, jwk: str | Mapping[str, Any], /) -> Self:
        """The private key in a JWK (RFC 7517), or the secret: `{"kty": "oct", "k": ...}`.

        Args:
            jwk: The JWK as JSON, or parsed. Its `kid` is what tokens call the key.

        Raises:
            ModuleNotFoundError: cryptography is not installed, and it holds no secret.
            ValueError: There is no key in it that can be used, or a public one alone, or one that
                is for something else than these signatures.
        """
        members = _parse_jwk(jwk)
        kid = members.get("kid")
        if members.get("kty") == "oct":
            key = cls(_secret_of(members), kid=kid)
        else:
            with requires(
                "cryptography", by="Key.from_jwk", module="cryptography", install="pyjwt[crypto]"
            ):
                from fastkit.auth._asymmetric import load_jwk
            key = cls._of(load_jwk(members), kid)
        _check_purpose(members, key.algorithm)
        return key

    @classmethod
    def _of(cls, pair: "KeyPair", kid: str | None) -> Self:
        key = cls.__new__(cls)
        key._set(pair.algorithm, public=pair.public, private=pair.private, material=pair.secret)
        key.kid = _thumbprint(pair.jwk) if kid is None else _check_kid(kid)
        key.public_jwk = {**pair.jwk, "alg": key.algorithm, "kid": key.kid, "use": "sig"}
        return key

    def _set(self, algorithm: str, *, public: Any, private: Any, material: bytes) -> None:
        self.algorithm = algorithm
        self._algorithm = get_algorithm_by_name(algorithm)
        self._public = public
        self._private = private
        self._root = blake2b(material).digest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kid={self.kid!r}, algorithm={self.algorithm!r})"

    def sign(self, message: bytes, /) -> bytes:
        """The signature of `message` in the form that JOSE has (RFC 7518, section 3)."""
        return self._algorithm.sign(message, self._private)

    def verify(self, message: bytes, signature: bytes, /) -> bool:
        """Whether `signature` is one of `message` by this key. Nothing is raised for any bytes."""
        return self._algorithm.verify(message, self._public, signature)

    def derive(self, purpose: bytes, /) -> bytes:
        """Another key, of 32 bytes: the same one for each purpose wherever this key is loaded."""
        return blake2b(purpose, key=self._root, digest_size=32, person=b"fastkit.auth").digest()


class Keyring:
    """Keys, of which the first signs and all verify.

    A key is changed in three deployments, each of which is to reach all processes before the next
    begins, so that none meets a token of a key that it does not know:

    1. `[old, new]`: all know the new key, and sign with the old one.
    2. `[new, old]`: all sign with the new one, and verify what the old one has signed.
    3. `[new]`: what the old one has signed is not accepted any more, and the logins are over that
       were not refreshed since the second.

    Raises:
        TypeError: Something in it is no `Key`.
        ValueError: There is no key, or two have the same kid.
    """

    __slots__ = ("keys",)

    def __init__(self, keys: Iterable[Key], /) -> None:
        self.keys = tuple(keys)
        for key in cast("tuple[object, ...]", self.keys):
            if not isinstance(key, Key):
                raise TypeError(
                    f"One of the keys is of type {type(key).__name__}: pass Key(secret), "
                    "Key.from_pem(pem) or Key.from_jwk(jwk)."
                )
        if not self.keys:
            raise ValueError("There are no keys: at least one is needed, which signs.")
        kids = [key.kid for key in self.keys]
        if twice := {kid for kid in kids if kids.count(kid) > 1}:
            raise ValueError(
                f"Two keys have the kid {min(twice)!r}: give each another one, or leave out the "
                "key that is there twice."
            )

    def __repr__(self) -> str:
        return f"Keyring({list(self.keys)!r})"

    @property
    def signing(self) -> Key:
        """The key that signs."""
        return self.keys[0]

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JWK Set (RFC 7517, section 5). Secrets are not in it."""
        return {"keys": [dict(key.public_jwk) for key in self.keys if key.public_jwk]}


def _parse_jwk(jwk: str | Mapping[str, Any]) -> Mapping[str, Any]:
    members: object = jwk
    if isinstance(jwk, str):
        try:
            members = json.loads(jwk)
        except ValueError:
            raise ValueError("The JWK is no JSON.") from None
    if not isinstance(members, Mapping):
        raise ValueError(f"A JWK is a JSON object, and not of type {type(members).__name__}.")
    if "keys" in members:
        raise ValueError("This is a set of JWKs: pass one of its keys at a time.")
    return cast("Mapping[str, Any]", members)


def _secret_of(members: Mapping[str, Any]) -> bytes:
    try:
        return decode(members["k"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "The JWK has no k in base64url (RFC 7518, section 6.4.1), which is to hold the secret."
        ) from None


def _check_purpose(members: Mapping[str, Any], algorithm: str) -> None:
    alg = members.get("alg", algorithm)
    # RFC 9864, section 2.2, has a new name for what is EdDSA with this curve.
    if alg != algorithm and (alg, algorithm) != ("Ed25519", "EdDSA"):
        raise ValueError(f"The JWK is for {alg!r}, and keys like it are for {algorithm} here.")
    use = members.get("use", "sig")
    if use != "sig":
        raise ValueError(f"The JWK is for the use {use!r}, and not to sign: pass one for 'sig'.")


def _check_kid(kid: object) -> str:
    if not isinstance(kid, str) or not kid:
        raise ValueError(f"The kid is {kid!r}: use a text that is not empty, or none at all.")
    return kid


def _thumbprint(jwk: Mapping[str, str]) -> str:
    # RFC 7638, section 3: the required members in order, without whitespace.
    text = json.dumps(jwk, separators=(",", ":"), sort_keys=True)
    return encode(sha256(text.encode()).digest())
