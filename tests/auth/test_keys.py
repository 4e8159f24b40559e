"""What is taken as a key, and what is not; which algorithm a key has, and what others see of it."""

import json
import random
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256K1,
    SECP384R1,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fastkit.auth._keys import Key, Keyring
from tests.auth.forging import (
    OTHER_SECRET,
    SECRET,
    b64,
    der,
    ec_key,
    ed25519_key,
    pem,
    private_pem,
    rsa_key,
)
from tests.test_extras import run

PRIVATE: dict[str, Callable[[], Any]] = {"RS256": rsa_key, "ES256": ec_key, "EdDSA": ed25519_key}
every_pair = pytest.mark.parametrize("algorithm", PRIVATE)

TUTORIAL = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"
# RFC 7515, appendix A.1.1.
RFC_7515 = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
# RFC 7638, section 3.1.
RFC_7638 = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP"
        "ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY"
        "368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f"
        "M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    ),
    "e": "AQAB",
}
# RFC 8037, appendices A.1 and A.3.
RFC_8037 = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


def jwk_of(algorithm: str, key: Any) -> dict[str, Any]:
    return dict(jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True))


def assert_hidden(secret: str | bytes, error: BaseException) -> None:
    """Nothing that is logged of the error shows the secret."""
    text = "".join(traceback.format_exception(error)) + repr(error)
    plain = secret.decode("latin-1") if isinstance(secret, bytes) else secret
    assert plain not in text
    assert repr(secret)[2:-1] not in text
    assert "\n" not in str(error)


WEAK: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "has 0 bytes"),
    "short": ("changethis", "has 10 bytes and needs at least 32"),
    "31 bytes": (SECRET[:31], "has 31 bytes"),
    "fewer than it seems": ("é" * 15, "has 30 bytes"),
    "tutorial": (TUTORIAL, "an example"),
    "tutorial from a file": (TUTORIAL + "\n", "an example"),
    "tutorial in capitals": (TUTORIAL.upper(), "an example"),
    "tutorial as bytes": (bytes.fromhex(TUTORIAL), "an example"),
    "RFC 7515": (RFC_7515, "an example"),
    "jwt.io": ("a-string-secret-at-least-256-bits-long", "a placeholder"),
    "jwt.io, longer": ("a-valid-string-secret-that-is-at-least-384-bits-long", "a placeholder"),
    "Supabase": ("super-secret-jwt-token-with-at-least-32-characters-long", "a placeholder"),
    "template": ("your-secret-key-here-0123456789abcdef", "a placeholder"),
    "template to change": ("dev_default_jwt_SECRET_CHANGE_ME_now", "a placeholder"),
    "template in production": ("SuperSecretKey-ChangeInProduction-2024", "a placeholder"),
    "Django": ("django-insecure-2c7(0!h^q$e9x@k1v&m4", "a placeholder"),
    "one character": ("a" * 64, "repeats the same 1 bytes"),
    "zeros": (bytes(32), "repeats the same 1 bytes"),
    "a word again and again": ("secret" * 8, "repeats the same 6 bytes"),
    "a word, cut off": (("hunter2" * 9)[:40], "repeats the same 7 bytes"),
    "counted": (bytes(range(32)), "a simple sequence"),
    "alphabet": ("abcdefghijklmnopqrstuvwxyz012345", "a simple sequence"),
    "few characters": ("abbacadabeaddebacebadcabbedaceeabdcadeba", "a simple sequence"),
}


@pytest.mark.parametrize(("secret", "reason"), WEAK.values(), ids=WEAK)
def test_a_secret_that_anybody_can_guess_is_refused(secret: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        Key(secret)
    assert "token_urlsafe(32)" in str(caught.value)
    if len(secret) > 9:
        assert_hidden(secret, caught.value)


HONEST: dict[str, Callable[[random.Random], str | bytes]] = {
    "secrets.token_urlsafe(32)": lambda chance: b64(chance.randbytes(32)),
    "openssl rand -base64 32": lambda chance: b64encode(chance.randbytes(32)).decode(),
    "openssl rand -hex 32": lambda chance: chance.randbytes(32).hex(),
    "secrets.token_hex(16)": lambda chance: chance.randbytes(16).hex(),
    "secrets.token_bytes(32)": lambda chance: chance.randbytes(32),
    "32 decimal digits": lambda chance: "".join(chance.choices("0123456789", k=32)),
    "40 characters that a password manager made": lambda chance: "".join(
        chance.choices([chr(code) for code in range(33, 127)], k=40)
    ),
}


@pytest.mark.parametrize("kind", HONEST)
def test_a_random_secret_is_never_refused(kind: str) -> None:
    chance = random.Random(5)  # noqa: S311
    kids = {Key(HONEST[kind](chance)).kid for _ in range(2000)}
    assert len(kids) == 2000


def key_files() -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {
        "JWK of a secret": json.dumps({"kty": "oct", "k": SECRET}),
        "set of JWKs": json.dumps({"keys": [{"kty": "oct", "k": SECRET}]}, indent=2),
        "certificate": "-----BEGIN CERTIFICATE-----\nMIIB0zCCAX2gAwIBAgIJ",
        "SSH2": "---- BEGIN SSH2 PUBLIC KEY ----\nAAAAB3NzaC1yc2EAAAABIwAAAIEA",
    }
    for algorithm, make in PRIVATE.items():
        key = make()
        public = key.public_key()
        openssh = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        private_der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        files |= {
            f"{algorithm} public PEM": pem(public).decode(),
            f"{algorithm} public PEM, indented": b"  " + pem(public),
            f"{algorithm} private PEM": private_pem(key),
            f"{algorithm} public DER": der(public),
            f"{algorithm} private DER": private_der,
            f"{algorithm} public DER in Base64": b64encode(der(public)).decode(),
            f"{algorithm} public JWK": json.dumps(jwk_of(algorithm, public)),
            f"{algorithm} OpenSSH": openssh,
        }
    traditional = rsa_key().private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    pkcs1 = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return files | {"RSA private PKCS #1": traditional, "RSA public PKCS #1": pkcs1}


def test_a_key_file_is_no_secret() -> None:
    # Who knows the public key would know the secret: CVE-2022-29217 and its successors.
    for name, file in key_files().items():
        with pytest.raises(ValueError, match="is a key file, which others may have") as caught:
            Key(file)
        assert "Key.from_pem or Key.from_jwk" in str(caught.value), name
        assert_hidden(file, caught.value)


@pytest.mark.parametrize("start", ["30", "3020", "30ff", "30810a", "308400000000", "302e31"])
def test_a_secret_may_begin_like_a_key_file(start: str) -> None:
    # Three bytes of 48, of which the second is the length of the rest, would be a key file.
    secret = bytes.fromhex(start) + sha256(b"random").digest() + b"1234567890abcdef"
    assert Key(secret[:48]).algorithm == "HS256"
    # "0" is 48 too, and no key file is all ASCII.
    assert Key("000" + (SECRET + OTHER_SECRET)[:47]).algorithm == "HS256"


class SecretStr:
    def get_secret_value(self) -> str:
        return SECRET


@pytest.mark.parametrize("secret", [None, 7, bytearray(b"x" * 32), SecretStr(), [SECRET]])
def test_a_secret_of_another_type_is_refused(secret: Any) -> None:
    with pytest.raises(TypeError, match=type(secret).__name__) as caught:
        Key(secret)
    assert "get_secret_value()" in str(caught.value)


def test_a_secret_that_is_no_unicode_is_refused() -> None:
    secret = SECRET + "\udcff"
    with pytest.raises(ValueError, match="lone surrogate: pass it as bytes") as caught:
        Key(secret)
    assert_hidden(SECRET, caught.value)


def test_bytes_and_text_of_a_secret_are_the_same_key() -> None:
    key, same = Key(SECRET), Key(SECRET.encode())
    assert key.kid == same.kid
    assert key.derive(b"x") == same.derive(b"x")
    assert same.verify(b"message", key.sign(b"message"))


def test_nothing_of_a_secret_is_seen_on_its_key() -> None:
    key = Key(SECRET)
    seen = f"{key!r} {key} {Keyring([key])!r} {key.kid} {dir(key)}"
    assert repr(key) == f"Key(kid='{key.kid}', algorithm='HS256')"
    assert repr(Keyring([key])) == f"Keyring([{key!r}])"
    assert not any(SECRET[start : start + 5] in seen for start in range(len(SECRET) - 5))
    assert not hasattr(key, "__dict__")
    assert key.public_jwk is None
    assert Keyring([key]).jwks() == {"keys": []}


def test_the_kid_of_a_secret_follows_from_it() -> None:
    assert Key(SECRET).kid == Key(SECRET).kid != Key(OTHER_SECRET).kid
    assert len(Key(SECRET).kid) == 12
    assert Key(SECRET, kid="2031-05").kid == "2031-05"


@pytest.mark.parametrize("kid", ["", 7, b"kid", ["kid"]])
def test_a_kid_is_a_text_that_is_not_empty(kid: Any) -> None:
    with pytest.raises(ValueError, match="use a text that is not empty"):
        Key(SECRET, kid=kid)
    with pytest.raises(ValueError, match="use a text that is not empty"):
        Key.from_pem(private_pem(ec_key()), kid=kid)
    with pytest.raises(ValueError, match="use a text that is not empty"):
        Key.from_jwk({"kty": "oct", "k": b64(SECRET.encode()), "kid": kid})


# --- PEM


def encrypted(format_: PrivateFormat) -> bytes:
    return ec_key().private_bytes(Encoding.PEM, format_, BestAvailableEncryption(b"horse"))


def unusable_pems() -> dict[str, tuple[str | bytes, str]]:
    p384, koblitz = generate_private_key(SECP384R1()), generate_private_key(SECP256K1())
    return {
        "RSA of 1024 bits": (private_pem(rsa_key(1024)), "RSA of 1024 bits"),
        "public RSA of 1024 bits": (pem(rsa_key(1024).public_key()), "RSA of 1024 bits"),
        "P-384": (private_pem(p384), "EC on secp384r1"),
        "public P-384": (pem(p384.public_key()), "EC on secp384r1"),
        "secp256k1": (private_pem(koblitz), "EC on secp256k1"),
        "Ed448": (private_pem(Ed448PrivateKey.generate()), "The key is Ed448"),
        "X25519": (pem(X25519PrivateKey.generate().public_key()), "The key is X25519"),
        "public RSA": (pem(rsa_key().public_key()), "needs its private key"),
        "public EC": (pem(ec_key().public_key()).decode(), "needs its private key"),
        "public Ed25519": (pem(ed25519_key().public_key()), "needs its private key"),
        "encrypted": (encrypted(PrivateFormat.PKCS8), "encrypted: decrypt it"),
        "encrypted in OpenSSL's way": (
            encrypted(PrivateFormat.TraditionalOpenSSL),
            "encrypted: decrypt it",
        ),
        "a path": ("/run/secrets/private.pem", "neither its path"),
        "empty": ("", "is no PEM"),
        "surrogates": ("-----BEGIN PRIVATE KEY-----\ud800", "is no PEM"),
        "a secret": (SECRET, "is no PEM"),
        "DER": (der(ec_key().public_key()), "is no PEM"),
        "certificate": (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "nor a certificate",
        ),
        "broken": (private_pem(ec_key()).replace(b"M", b"N"), "is no PEM"),
        "cut off": (private_pem(rsa_key())[:-200], "is no PEM"),
    }


def test_a_pem_without_a_usable_key_is_refused_in_words() -> None:
    for file, reason in unusable_pems().values():
        with pytest.raises(ValueError, match=reason) as caught:
            Key.from_pem(file)
        if file:
            assert_hidden(file, caught.value)


@every_pair
def test_a_key_verifies_what_it_signs_and_nothing_else(algorithm: str) -> None:
    key = Key.from_pem(private_pem(PRIVATE[algorithm]()).decode(), kid="mine")
    signature = key.sign(b"message")
    assert (key.algorithm, key.kid) == (algorithm, "mine")
    assert key.verify(b"message", signature)
    assert not key.verify(b"Message", signature)
    assert not key.verify(b"message", signature[:-1])
    assert not key.verify(b"message", b"")


@every_pair
def test_a_public_key_shows_no_private_member(algorithm: str) -> None:
    private = PRIVATE[algorithm]()
    key = Key.from_pem(private_pem(private))
    shown = jwk_of(algorithm, private.public_key())
    shown.pop("key_ops", None)
    assert key.public_jwk == {**shown, "alg": algorithm, "kid": key.kid, "use": "sig"}
    assert repr(key) == f"Key(kid='{key.kid}', algorithm='{algorithm}')"


# --- JWK


def test_the_kid_of_a_key_pair_is_its_thumbprint() -> None:
    key = Key.from_jwk(RFC_8037)
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key.public_jwk == {
        **{name: RFC_8037[name] for name in ("kty", "crv", "x")},
        "alg": "EdDSA",
        "kid": key.kid,
        "use": "sig",
    }
    assert Key.from_jwk(json.dumps({**RFC_8037, "kid": "mine"})).kid == "mine"


def test_a_thumbprint_is_of_the_required_members_in_their_order() -> None:
    # RFC 7638, section 3.1.
    public = jwk_of("RS256", rsa_key().public_key())
    text = '{"e":"%s","kty":"RSA","n":"%s"}' % (public["e"], public["n"])  # noqa: UP031
    assert Key.from_pem(private_pem(rsa_key())).kid == b64(sha256(text.encode()).digest())


@every_pair
def test_a_key_is_the_same_from_a_pem_and_from_a_jwk(algorithm: str) -> None:
    private = PRIVATE[algorithm]()
    from_pem = Key.from_pem(private_pem(private))
    from_jwk = Key.from_jwk(jwk_of(algorithm, private))
    assert from_pem.kid == from_jwk.kid
    assert from_pem.derive(b"refresh") == from_jwk.derive(b"refresh")
    assert from_pem.public_jwk == from_jwk.public_jwk
    assert from_pem.verify(b"message", from_jwk.sign(b"message"))


def test_an_rsa_key_is_the_same_however_its_primes_are_written() -> None:
    jwk = jwk_of("RS256", rsa_key())
    numbers = rsa_key().private_numbers()
    inverse = pow(numbers.p, -1, numbers.q)
    swapped = {
        **jwk,
        "p": jwk["q"],
        "q": jwk["p"],
        "dp": jwk["dq"],
        "dq": jwk["dp"],
        "qi": b64(inverse.to_bytes((inverse.bit_length() + 7) // 8)),
    }
    without = {name: jwk[name] for name in ("kty", "n", "e", "d")}
    derived = {Key.from_jwk(form).derive(b"refresh") for form in (jwk, swapped, without)}
    assert len(derived) == 1


def test_a_jwk_may_hold_a_secret() -> None:
    key = Key.from_jwk({"kty": "oct", "k": b64(SECRET.encode()), "alg": "HS256", "use": "sig"})
    assert (key.algorithm, key.kid) == ("HS256", Key(SECRET).kid)
    assert key.verify(b"message", Key(SECRET).sign(b"message"))
    with pytest.raises(ValueError, match="is an example"):
        Key.from_jwk({"kty": "oct", "k": RFC_7515})


def test_the_name_that_rfc_9864_gives_eddsa_is_known() -> None:
    assert Key.from_jwk({**RFC_8037, "alg": "Ed25519"}).algorithm == "EdDSA"
    assert Key.from_jwk({**RFC_8037, "alg": "EdDSA"}).algorithm == "EdDSA"


def private_members(jwk: Any) -> Iterator[str]:
    if isinstance(jwk, dict):
        members = cast("dict[str, Any]", jwk)
        yield from (value for name in "kdpq" if isinstance(value := members.get(name), str))


def unusable_jwks() -> dict[str, tuple[Any, str]]:
    secret = {"kty": "oct", "k": b64(SECRET.encode())}
    rsa, ec = jwk_of("RS256", rsa_key()), jwk_of("ES256", ec_key())
    other_ec = jwk_of("ES256", generate_private_key(ec_key().curve))
    other_ed = jwk_of("EdDSA", ed25519_key())
    small = jwk_of("RS256", rsa_key(1024))
    return {
        "no JSON": ("{", "no JSON"),
        "a PEM": (private_pem(ec_key()).decode(), "no JSON"),
        "a list": ("[]", "of type list"),
        "a number": (7, "of type int"),
        "a set": ({"keys": [secret]}, "a set of JWKs"),
        "no kty": ({"k": secret["k"]}, "kty None"),
        "kty is a list": ({"kty": ["oct"]}, r"kty \['oct'\]"),
        "another curve": ({**ec, "crv": "P-384"}, "crv 'P-384'"),
        "Ed448": ({**RFC_8037, "crv": "Ed448"}, "crv 'Ed448'"),
        "RSA of 1024 bits": (small, "RSA of 1024 bits"),
        "secret without k": ({"kty": "oct"}, "no k in base64url"),
        "k is a number": ({"kty": "oct", "k": 7}, "no k in base64url"),
        "k with padding": ({"kty": "oct", "k": secret["k"] + "="}, "no k in base64url"),
        "short secret": ({"kty": "oct", "k": "c2VjcmV0"}, "has 6 bytes"),
        "HS512": ({**secret, "alg": "HS512"}, "for 'HS512', and keys like it are for HS256"),
        "PS256": ({**rsa, "alg": "PS256"}, "for 'PS256', and keys like it are for RS256"),
        "HS256 with RSA": ({**rsa, "alg": "HS256"}, "for 'HS256', and keys like it are for RS256"),
        "Ed25519 with EC": ({**ec, "alg": "Ed25519"}, "for 'Ed25519', and keys like it"),
        "alg is null": ({**ec, "alg": None}, "for None"),
        "alg is a list": ({**ec, "alg": ["ES256"]}, r"for \['ES256'\]"),
        "to encrypt": ({**rsa, "use": "enc"}, "for the use 'enc'"),
        "public RSA": (RFC_7638, "needs its private key"),
        "no n": ({"kty": "RSA", "e": "AQAB"}, "not those of a key for RS256"),
        "n is a number": ({**RFC_7638, "n": 7}, "not those of a key for RS256"),
        "e is null": ({**RFC_7638, "e": None}, "not those of a key for RS256"),
        "half of the primes": ({**rsa, "q": None}, "not those of a key for RS256"),
        "no point of the curve": ({**ec, "x": ec["y"]}, "not those of a key for ES256"),
        "x is too short": ({**ec, "x": "AQ"}, "not those of a key for ES256"),
        "private key of another": ({**ec, "d": other_ec["d"]}, "not those of"),
        "private Ed25519 key of another": ({**RFC_8037, "d": other_ed["d"]}, "not those of"),
        "not canonical": ({**rsa, "e": "AAEAAQ"}, "not those of its private key"),
    }


def test_a_jwk_without_a_usable_key_is_refused_in_words() -> None:
    for jwk, reason in unusable_jwks().values():
        with pytest.raises(ValueError, match=reason) as caught:
            Key.from_jwk(jwk)
        for secret in private_members(jwk):
            assert_hidden(secret, caught.value)


# --- derived keys


def test_each_purpose_and_each_key_has_its_own_derived_key() -> None:
    keys = [Key(SECRET), Key(OTHER_SECRET), Key.from_jwk(RFC_8037)]
    derived = [key.derive(purpose) for key in keys for purpose in (b"", b"refresh", b"stamp")]
    assert {len(each) for each in derived} == {32}
    assert len(set(derived)) == 9
    assert SECRET.encode() not in derived


def test_a_derived_key_stays_what_it_was() -> None:
    # Tokens of an older release verify: this value may not change.
    assert Key(SECRET).kid == "ys9hkj4ZWTCE"
    assert Key(SECRET).derive(b"refresh").hex() == (
        "3b25807104c5537811946e2df593920effb03e467ad17ed4d693d948a244c177"
    )


# --- keyring


def test_the_first_key_of_a_keyring_signs() -> None:
    with pytest.raises(ValueError, match="There are no keys"):
        Keyring([])
    ring = Keyring(key for key in (Key(SECRET), Key(OTHER_SECRET)))
    assert ring.signing is ring.keys[0]
    assert [key.kid for key in ring.keys] == [Key(SECRET).kid, Key(OTHER_SECRET).kid]


@pytest.mark.parametrize("keys", [SECRET, [SECRET], [Key(SECRET), SECRET.encode()], [None]])
def test_a_keyring_takes_keys_only(keys: Any) -> None:
    with pytest.raises(TypeError, match=r"pass Key\(secret\)") as caught:
        Keyring(keys)
    assert_hidden(SECRET, caught.value)


def test_a_keyring_takes_each_kid_once() -> None:
    with pytest.raises(ValueError, match="Two keys have the kid"):
        Keyring([Key(SECRET), Key(SECRET)])
    with pytest.raises(ValueError, match="Two keys have the kid '2031'"):
        Keyring(
            [Key(SECRET, kid="2031"), Key(OTHER_SECRET), Key.from_jwk({**RFC_8037, "kid": "2031"})]
        )


def test_a_jwk_set_has_the_public_keys_of_all_pairs_and_nothing_else() -> None:
    keys = [Key(SECRET), *(Key.from_pem(private_pem(make())) for make in PRIVATE.values())]
    jwks = Keyring(keys).jwks()
    text = json.dumps(jwks)
    assert SECRET not in text
    assert [jwk["alg"] for jwk in jwks["keys"]] == list(PRIVATE)
    members = {name for jwk in jwks["keys"] for name in jwk}
    assert members == {"alg", "crv", "e", "kid", "kty", "n", "use", "x", "y"}
    # Read by another implementation.
    read = jwt.PyJWKSet.from_json(text)
    for key in keys[1:]:
        jwk = read[key.kid]
        assert jwk.Algorithm.verify(b"message", jwk.key, key.sign(b"message"))


def test_a_jwk_set_that_somebody_changes_is_changed_for_nobody_else() -> None:
    ring = Keyring([Key(SECRET), Key.from_jwk(RFC_8037)])
    ring.jwks()["keys"][0]["x"] = "changed"
    assert ring.jwks()["keys"][0]["x"] == RFC_8037["x"]


# --- without cryptography


@pytest.mark.parametrize(
    ("call", "by"),
    [
        (f"Key.from_pem({private_pem(ec_key())!r})", "Key.from_pem"),
        (f"Key.from_jwk({RFC_8037!r})", "Key.from_jwk"),
    ],
    ids=["from_pem", "from_jwk"],
)
def test_a_key_pair_without_cryptography_names_the_remedy(call: str, by: str) -> None:
    code = f"from fastkit.auth._keys import Key\n{call}"
    assert run(code, hide="cryptography").splitlines()[-1] == (
        f"ModuleNotFoundError: {by} needs cryptography, which is not installed."
        ' Install it with: pip install "pyjwt[crypto]"'
    )


def test_secrets_need_no_cryptography() -> None:
    code = f"""
from fastkit.auth._keys import Key
key = Key.from_jwk({{"kty": "oct", "k": {b64(SECRET.encode())!r}}})
assert key.kid == Key({SECRET!r}).kid
assert key.verify(b"message", key.sign(b"message"))
try:
    Key({der(ec_key().public_key())!r})
except ValueError as error:
    assert "is a key file" in str(error)
else:
    raise AssertionError
"""
    assert run(code, hide="cryptography") == ""
