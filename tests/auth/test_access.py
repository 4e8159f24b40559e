"""Access tokens: what is refused, whoever made it and however, and what is issued.

Most forgeries here are signed with the right key, for what is wrong with them to be the only thing.
"""

import gc
import json
import random
import re
import socket
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkit.auth._access import AccessToken, AccessTokens, InvalidTokenError
from fastkit.auth._keys import Key, Keyring
from tests.auth.forging import (
    OTHER_SECRET,
    SECRET,
    Signer,
    b64,
    claims_of,
    der,
    ec_key,
    ed25519_key,
    eddsa,
    es256,
    forge,
    header_of,
    hs256,
    joined,
    pem,
    private_pem,
    rs256,
    rsa_key,
    segment,
    unb64,
    unsigned,
)

NOW = 1_900_000_000.0
LIFETIME = 900
LOGIN = "0123456789abcdef" * 2
ISSUER = "https://issuer.example"
AUDIENCE = "shop"


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens_of(*keys: Key, **options: Any) -> AccessTokens:
    defaults: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "lifetime": LIFETIME,
        "clock": Clock(),
    }
    return AccessTokens(Keyring(keys or [Key(SECRET)]), **{**defaults, **options})


def issued(tokens: AccessTokens) -> str:
    return tokens.issue("johndoe", ["items:read", "items:write"], LOGIN, "stamp")


KINDS: dict[str, Callable[[], tuple[Key, Signer]]] = {
    "HS256": lambda: (Key(SECRET), hs256(SECRET)),
    "RS256": lambda: (Key.from_pem(private_pem(rsa_key())), rs256(rsa_key())),
    "ES256": lambda: (Key.from_pem(private_pem(ec_key())), es256(ec_key())),
    "EdDSA": lambda: (Key.from_pem(private_pem(ed25519_key())), eddsa(ed25519_key())),
}
PAIRS: dict[str, Callable[[], Any]] = {"RS256": rsa_key, "ES256": ec_key, "EdDSA": ed25519_key}
every_kind = pytest.mark.parametrize("kind", KINDS)

TOKENS = tokens_of()
GOOD = issued(TOKENS)
SIGN = hs256(SECRET)

HEADER_REASON = "it has no header of a key of ours (alg, kid, typ)"
SIGNATURE_REASON = "its signature is wrong"


def refused(token: str, tokens: AccessTokens = TOKENS) -> str:
    """Why it is refused: in words that show nothing of it."""
    with pytest.raises(InvalidTokenError) as caught:
        tokens.verify(token)
    error = caught.value
    assert str(error) == "The access token is not valid."
    assert re.fullmatch(r"[\w ,():]{5,80}", error.reason)
    shown = "".join(traceback.format_exception(error))
    assert not any(len(part) > 8 and part in shown for part in token.split("."))
    return error.reason


def test_the_forger_makes_good_tokens_too() -> None:
    for kind in KINDS:
        key, sign = KINDS[kind]()
        tokens = tokens_of(key)
        token = issued(tokens)
        assert tokens.verify(forge(token, sign)) == tokens.verify(token)
        assert tokens.verify(forge(token, sign, claims={"sub": "jane"})).subject == "jane"


# --- 1: the algorithm

NONE: list[object] = ["", None, 0, False, [], {}, ["HS256"], "HS256 "]


@every_kind
@pytest.mark.parametrize(
    "alg",
    [
        "none",
        "None",
        "NONE",
        "nOnE",
        "HS384",
        "HS512",
        "RS384",
        "PS256",
        "ES384",
        "ES256K",
        "Ed25519",
        "hs256",
        "dir",
        *NONE,
    ],
    ids=repr,
)
def test_no_other_algorithm_is_taken(kind: str, alg: object) -> None:
    key, sign = KINDS[kind]()
    tokens = tokens_of(key)
    for signer in (sign, unsigned, hs256(b""), hs256(SECRET, "sha384"), hs256(SECRET, "sha512")):
        assert refused(forge(issued(tokens), signer, alg=alg), tokens) == HEADER_REASON
    assert refused(forge(issued(tokens), sign, without=["alg"]), tokens) == HEADER_REASON


@every_kind
def test_a_token_without_a_signature_is_refused(kind: str) -> None:
    key, _ = KINDS[kind]()
    tokens = tokens_of(key)
    assert refused(forge(issued(tokens), unsigned), tokens) == SIGNATURE_REASON
    assert refused(issued(tokens).rpartition(".")[0], tokens)
    assert refused(forge(issued(tokens), bytes), tokens) == SIGNATURE_REASON  # the message itself


def forms_of(public: Any, jwk: dict[str, str]) -> Iterator[bytes]:
    """What a forger may take for the secret: all that everybody knows of a public key."""
    text = pem(public)
    yield from (text, text.rstrip(b"\n"), text.replace(b"\n", b"\r\n"), b"")
    yield from (der(public), b64(der(public)).encode())
    for form in (jwk, {**jwk, "kid": "x"}, {"keys": [jwk]}):
        yield json.dumps(form).encode()
        yield json.dumps(form, separators=(",", ":"), sort_keys=True).encode()
    yield from (value.encode() for value in jwk.values())
    yield from (unb64(value) for name, value in jwk.items() if name in "nexy")


@pytest.mark.parametrize("kind", PAIRS)
def test_a_public_key_is_no_secret(kind: str) -> None:
    key, sign = KINDS[kind]()
    public = PAIRS[kind]().public_key()
    assert key.public_jwk is not None
    # Also beside a secret, so that HS256 is an algorithm that is in use.
    for tokens in (tokens_of(key), tokens_of(key, Key(OTHER_SECRET))):
        good = issued(tokens)
        tokens.verify(forge(good, sign))
        for secret in forms_of(public, key.public_jwk):
            for alg, digest in ("HS256", "sha256"), ("HS512", "sha512"):
                forged = forge(good, hs256(secret, digest), alg=alg)
                assert refused(forged, tokens) == HEADER_REASON
            assert refused(forge(good, hs256(secret)), tokens) == SIGNATURE_REASON


def test_a_key_signs_for_no_other_kid() -> None:
    pair, sign = KINDS["RS256"]()
    secret = Key(SECRET)
    tokens, good = tokens_of(pair, secret), issued(tokens_of(secret))
    assert tokens.verify(good).subject == "johndoe"
    # The secret's signature under the pair's name, in three forms, and the other way round.
    assert refused(forge(good, SIGN, kid=pair.kid), tokens) == HEADER_REASON
    assert refused(forge(good, SIGN, kid=pair.kid, alg="RS256"), tokens) == SIGNATURE_REASON
    assert refused(forge(good, sign), tokens) == SIGNATURE_REASON
    assert refused(forge(good, sign, alg="RS256"), tokens) == HEADER_REASON


def test_a_signature_of_es256_has_one_form() -> None:
    key, sign = KINDS["ES256"]()
    tokens = tokens_of(key)
    good = issued(tokens)
    assert tokens.verify(forge(good, sign)) == tokens.verify(good)
    assert refused(forge(good, es256(ec_key(), der=True)), tokens) == SIGNATURE_REASON
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    extremes = [number.to_bytes(32) for number in (0, 1, order - 1, order, order + 1, 2**256 - 1)]
    # CVE-2022-21449 was to take zeros.
    fixed = [r + s for r in extremes for s in extremes]
    fixed += [bytes(length) for length in (0, 1, 63, 65, 128)]
    for signature in fixed:
        forged = ".".join((good.rpartition(".")[0], b64(signature)))
        assert refused(forged, tokens) == SIGNATURE_REASON
    padded = forge(good, lambda message: b"\0" + sign(message))
    assert refused(padded, tokens) == SIGNATURE_REASON


# --- 2: the type


@pytest.mark.parametrize(
    "typ",
    [
        "JWT",
        "jwt",
        "AT+JWT",
        "application/at+jwt",
        "rt+jwt",
        "refresh",
        "reset",
        "dpop+jwt",
        "logout+jwt",
        *NONE,
    ],
    ids=repr,
)
def test_a_token_of_another_purpose_is_refused(typ: object) -> None:
    assert refused(forge(GOOD, SIGN, typ=typ)) == HEADER_REASON
    assert refused(forge(GOOD, SIGN, without=["typ"], cty="at+jwt")) == HEADER_REASON


# --- 3: the claims

CLAIMS = ["iss", "sub", "aud", "exp", "iat", "jti", "scope", "sid", "stp"]
TIMES = {"exp", "iat"}


def test_a_token_has_the_claims_that_it_must_have() -> None:
    assert sorted(claims_of(GOOD)) == sorted(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_must_be_there(claim: str) -> None:
    assert refused(forge(GOOD, SIGN, without=[claim])).startswith(f"the claim {claim} is missing")


@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_must_have_its_type(claim: str) -> None:
    old = claims_of(GOOD)[claim]
    wrong: list[object] = [
        None,
        True,
        False,
        [],
        {},
        [old],
        {"value": old},
        float("nan"),
        float("inf"),
    ]
    wrong += [1.5, float(NOW + 5), -float("inf")]
    wrong += ["", str(old), "1900000000"] if claim in TIMES else [1, 0, 1900000001]
    for value in wrong:
        assert refused(forge(GOOD, SIGN, claims={claim: value})).startswith(f"the claim {claim} is")


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "jti", "sid"])
def test_a_claim_that_names_something_is_not_empty(claim: str) -> None:
    assert refused(forge(GOOD, SIGN, claims={claim: ""})).startswith(f"the claim {claim} is")


@pytest.mark.parametrize("claim", ["exp", "iat"])
@pytest.mark.parametrize("value", [-1, -(10**30), 2**53, 2**64, 10**30, 10**3000])
def test_a_time_is_one_that_can_be_computed_with(claim: str, value: int) -> None:
    assert refused(forge(GOOD, SIGN, claims={claim: value})) == f"the claim {claim} is no time"


def test_a_token_that_is_not_valid_yet_is_refused_although_we_make_none() -> None:
    for value in (NOW + 100, int(NOW) - 100, None, "x"):
        assert refused(forge(GOOD, SIGN, claims={"nbf": value})) == "it has a claim nbf"


def test_other_claims_change_nothing() -> None:
    more = forge(GOOD, SIGN, claims={"roles": ["admin"], "Sub": "x", "client_id": 7, "": None})
    assert TOKENS.verify(more) == TOKENS.verify(GOOD)


def test_the_last_of_two_equal_members_counts() -> None:
    # RFC 7519, section 4, allows it; PyJWT reads it so too.
    text = unb64(GOOD.split(".")[1])
    twice = joined(GOOD.split(".")[0], b64(b'{"sub":"root","exp":1,' + text[1:]), SIGN)
    assert TOKENS.verify(twice) == TOKENS.verify(GOOD)
    expired = joined(GOOD.split(".")[0], b64(text[:-1] + b',"exp":1}'), SIGN)
    assert refused(expired) == "it has expired"


@pytest.mark.parametrize(
    "deep", ["[" * 5000, "[" * 2900 + "]" * 2900, '{"":' * 900 + "1" + "}" * 900]
)
def test_deeply_nested_claims_are_refused(deep: str) -> None:
    header, payload, _ = GOOD.split(".")
    claims = unb64(payload).decode()
    for text in (deep, claims[:-1] + f',"sub":{deep}}}'):
        assert refused(joined(header, b64(text.encode()), SIGN)) != "it is too long"


# --- 4: issuer and audience


@pytest.mark.parametrize(
    "value",
    [
        ISSUER[:-1],
        ISSUER + "/",
        ISSUER + ".evil.example",
        ISSUER.upper(),
        " " + ISSUER,
        ISSUER + "\n",
        "h",
        "*",
        f"{ISSUER} {ISSUER}",
    ],
)
def test_the_issuer_is_compared_exactly(value: str) -> None:
    assert refused(forge(GOOD, SIGN, claims={"iss": value})) == "it has another issuer"


@pytest.mark.parametrize("value", ["sho", "shop ", "shops", "Shop", "s", "shop,other", "other"])
def test_the_audience_is_compared_exactly(value: str) -> None:
    assert refused(forge(GOOD, SIGN, claims={"aud": value})) == "it is for another audience"


def test_the_audience_is_no_list() -> None:
    for value in (["shop"], ["shop", "other"], [], [["shop"]], {"shop": 1}):
        reason = refused(forge(GOOD, SIGN, claims={"aud": value}))
        assert reason == "the claim aud is missing, empty or no text"


def test_tokens_of_another_app_with_the_same_key_are_refused() -> None:
    assert refused(issued(tokens_of(audience="other"))) == "it is for another audience"
    assert refused(issued(tokens_of(issuer="other"))) == "it has another issuer"


# --- 5: what a header could ask for


def test_an_unknown_kid_fetches_nothing_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_network(*_: object, **__: object) -> None:
        pytest.fail("something was to be fetched")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    key, _ = KINDS["RS256"]()
    tokens = tokens_of(Key(SECRET), key)

    def refuse(count: int) -> None:
        for number in range(count):
            kid = f"{number}-" + "x" * 1000
            with pytest.raises(InvalidTokenError):
                tokens.verify(forge(GOOD, SIGN, kid=kid))

    refuse(10)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        refuse(1000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One kid has more than a thousand bytes.
    assert after - before < 100_000


@pytest.mark.parametrize(
    "kid", ["", "x", None, 7, ["x"], "../../dev/null", "' OR 1=1 --", "\u212a"]
)
def test_an_unknown_kid_is_refused(kid: object) -> None:
    assert refused(forge(GOOD, SIGN, kid=kid)) == HEADER_REASON


def test_a_kid_is_needed_although_there_is_one_key() -> None:
    assert refused(forge(GOOD, SIGN, without=["kid"])) == HEADER_REASON


@pytest.mark.parametrize(
    "member",
    [
        {"jku": "http://127.0.0.1:9/jwks.json"},
        {"jwk": {"kty": "oct", "k": b64(SECRET.encode())}},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5c": ["MIIB"]},
        {"x5t": "x"},
        {"x5t#S256": "x"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": None},
        {"b64": True},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"enc": "A128GCM"},
        {"url": "http://127.0.0.1:9"},
        {"anything": None},
    ],
    ids=json.dumps,
)
def test_a_header_has_no_other_members(member: dict[str, Any]) -> None:
    assert refused(forge(GOOD, SIGN, **member)) == HEADER_REASON


def test_a_key_in_the_header_is_not_used() -> None:
    jwk = {"kty": "oct", "k": b64(OTHER_SECRET.encode()), "kid": "evil"}
    assert refused(forge(GOOD, hs256(OTHER_SECRET), jwk=jwk)) == HEADER_REASON
    assert refused(forge(GOOD, hs256(OTHER_SECRET), jwk=jwk, kid="evil")) == HEADER_REASON


# --- time


def test_a_token_ends_when_it_says_so() -> None:
    clock = Clock()
    tokens = tokens_of(clock=clock)
    token = issued(tokens)
    assert tokens.verify(token).expires_at == NOW + LIFETIME
    clock.now = NOW + LIFETIME - 0.001
    assert tokens.verify(token).subject == "johndoe"
    for clock.now in (NOW + LIFETIME, NOW + LIFETIME + 1, NOW + 10**9):
        assert refused(token, tokens) == "it has expired"


def test_a_token_lives_no_shorter_than_its_client_is_told() -> None:
    clock = Clock(NOW + 0.9)
    tokens = tokens_of(clock=clock, lifetime=0.5)
    token = issued(tokens)
    assert tokens.verify(token).issued_at == NOW
    clock.now += 0.49
    assert tokens.verify(token).expires_at == NOW + 2
    clock.now = NOW + 2
    assert refused(token, tokens) == "it has expired"


def test_the_clock_of_another_machine_may_be_a_minute_ahead() -> None:
    clock = Clock()
    tokens = tokens_of(clock=clock)
    token = issued(tokens)
    clock.now = NOW - 60
    assert tokens.verify(token).subject == "johndoe"
    clock.now = NOW - 60.001
    assert refused(token, tokens) == "it is from the future"


# --- rotation


@every_kind
def test_tokens_of_an_old_key_are_good_while_it_is_in_the_ring(kind: str) -> None:
    old, new = KINDS[kind]()[0], Key(OTHER_SECRET)
    token = issued(tokens_of(old))
    both, after = tokens_of(new, old), tokens_of(new)
    assert both.verify(token).subject == "johndoe"
    assert header_of(issued(both))["kid"] == new.kid
    assert after.verify(issued(both)).subject == "johndoe"
    assert refused(token, after) == HEADER_REASON
    assert refused(issued(both), tokens_of(old)) == HEADER_REASON


def test_a_kid_of_two_keys_in_turn_does_not_make_the_old_tokens_good() -> None:
    token = issued(tokens_of(Key(OTHER_SECRET, kid="main")))
    assert refused(token, tokens_of(Key(SECRET, kid="main"))) == SIGNATURE_REASON


# --- fuzz


def well_formed(token: Any) -> bool:
    """Whether everything in it can be used as what it is, without another look."""
    texts = [token.subject, token.login_id, token.jti, token.stamp, *token.scopes]
    return (
        all(type(text) is str and text.encode("utf-8") == text.encode() for text in texts)
        and all(texts[:3])
        and type(token.scopes) is frozenset
        and {type(token.expires_at), type(token.issued_at)} == {int}
        and NOW < token.expires_at < 2**53
        and 0 <= token.issued_at <= NOW + 60
    )


def outcome(token: str, tokens: AccessTokens = TOKENS) -> bool:
    """Whether it is accepted. Any exception but ours is a failure."""
    try:
        accepted = tokens.verify(token)
    except InvalidTokenError:
        return False
    assert well_formed(accepted)
    return True


# With what a terminal, a proxy or a lenient decoder might take for something else.
STRANGE = [
    *"\n \t\0=+/.é%~A_-\ud800\udcff\u00a0\u017f\u0663\ufeff\U0001f4a5",
    "==",
    "..",
    "Bearer ",
]


def mutated_text(text: str, chance: random.Random) -> str:
    """Somewhere else, something else: one to three changes of a token's text."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(8):
            case 0:
                text = (
                    text[:at]
                    + chr(ord((text[at:] or "x")[0]) ^ 1 << chance.randrange(8))
                    + (text[at + 1 :])
                )
            case 1:
                text = text[:at]
            case 2:
                text = text[at:]
            case 3:
                text = text[:at] + chance.choice(STRANGE) + text[at:]
            case 4:
                parts = text.split(".")
                chance.shuffle(parts)
                text = ".".join(parts)
            case 5:
                parts = text.split(".")
                parts[chance.randrange(len(parts))] = chance.choice(["", "e30", "bnVsbA", "W10"])
                text = ".".join(parts)
            case 6:
                end = chance.randrange(at, len(text) + 1)
                text = text[:at] + text[at:end] * chance.choice([0, 2, 40]) + text[end:]
            case _:
                text = chance.choice([text.upper(), text.lower(), text.swapcase(), text[::-1]])
    return text


@every_kind
def test_no_change_of_the_text_is_overlooked(kind: str) -> None:
    key, _ = KINDS[kind]()
    tokens = tokens_of(key)
    token = issued(tokens)
    chance = random.Random(11)  # noqa: S311
    changed = {mutated_text(token, chance) for _ in range(4_000)} - {token}
    assert len(changed) > 2_500
    assert [text for text in changed if outcome(text, tokens)] == []


@every_kind
def test_each_part_has_one_spelling(kind: str) -> None:
    key, _ = KINDS[kind]()
    tokens = tokens_of(key)
    token = issued(tokens)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/="
    spellings = {token[:-1] + last for last in alphabet}
    spellings |= {token + more for more in ("=", "==", "===", "A", "\n", " ", ".", "." + token)}
    header, payload, signature = token.split(".")
    spellings |= {".".join((header + "=", payload, signature)), f"{token}\r\n", f" {token}"}
    assert [text for text in spellings if outcome(text, tokens)] == [token]


def test_a_payload_has_one_spelling_even_with_a_right_signature() -> None:
    header, payload, _ = GOOD.split(".")
    text = unb64(payload).replace(b"stamp", b"stamps")
    while len(text) % 3 != 1:  # then there are four bits that mean nothing
        text = text.replace(b"stamps", b"stamps!")
    payload = b64(text)
    assert TOKENS.verify(joined(header, payload, SIGN)).stamp.startswith("stamps")
    others = [payload + "=", payload + "==", payload[:10] + "." + payload[10:], payload[:5] + "\n"]
    others += [payload[:-1] + chr(ord(payload[-1]) + 1), payload + "!", "=" + payload]
    for other in others:
        assert refused(joined(header, other, SIGN)) == "its claims are no JSON object"


JSON = [
    *[
        "null",
        "true",
        "-0",
        "0",
        "1.5",
        "1e3",
        "1E400",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "1900000900",
        "[]",
        "{}",
    ],
    *['""', '"x"', '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', "01", "+1", "0x10", "1_000"],
    *["'x'", ",", "}", '"', "\\", "/**/", "undefined"],
    *("", "\ufeff1", "9" * 400, "9" * 5000, "[" * 2000, "[" * 900 + "]" * 900),
    '{"a":' * 900 + "1" + "}" * 900,
]


def mutated_json(text: str, chance: random.Random) -> bytes:
    """JSON, or nearly: one to three changes of it, in one of the encodings."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(6):
            case 0:
                values = [value.span() for value in re.finditer(r'(?<=:)("[^"]*"|\d+)', text)]
                start, end = chance.choice(values or [(at, at)])
                text = text[:start] + chance.choice(JSON) + text[end:]
            case 1:
                name = chance.choice([*CLAIMS, "nbf", "", "kid", "alg"])
                text = text[:1] + f'"{name}":{chance.choice(JSON)},' + text[1:]
            case 2:
                name = chance.choice([*CLAIMS, "nbf", "", "kid", "alg"])
                text = text[:-1] + f',"{name}":{chance.choice(JSON)}' + text[-1:]
            case 3:
                text = (
                    text[:at] + chance.choice([" ", "\n", "\t", "\r", "\0", *STRANGE]) + text[at:]
                )
            case 4:
                text = text[:at] + text[chance.randrange(at, len(text) + 1) :]
            case _:
                text = chance.choice([f"[{text}]", text + text, text[:at], chance.choice(JSON)])
    if chance.random() < 0.8:
        return text.encode("utf-8", "surrogatepass")
    encoding = chance.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"])
    raw = bytearray(text.encode(encoding, "replace" if encoding == "utf-7" else "surrogatepass"))
    if raw:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(raw)


def test_no_claims_raise_anything_else_even_with_a_right_signature() -> None:
    header, payload, _ = GOOD.split(".")
    text = unb64(payload).decode()
    chance = random.Random(13)  # noqa: S311
    count = accepted = 0
    for _ in range(10_000):
        forged = joined(header, b64(mutated_json(text, chance)), SIGN)
        accepted += outcome(forged)
        count += len(forged) <= 8192
    # Some are harmless, as a space between two members is.
    assert 100 < accepted < 5_000
    assert count > 8_000


def test_no_header_is_accepted_or_raises_anything_else_even_with_a_right_signature() -> None:
    header, payload, _ = GOOD.split(".")
    text = unb64(header).decode()
    chance = random.Random(17)  # noqa: S311
    headers = {b64(mutated_json(text, chance)) for _ in range(10_000)} - {header}
    assert len(headers) > 4_000
    assert [part for part in headers if outcome(joined(part, payload, SIGN))] == []


def test_a_token_that_is_too_long_is_not_looked_at() -> None:
    header = GOOD.split(".")[0]
    assert refused("x" * 8193) == "it is too long"
    assert refused("x" * 8192) == HEADER_REASON
    assert refused(GOOD + "x" * 10_000_000) == "it is too long"
    claims = {**claims_of(GOOD), "sub": "x" * 5000}
    assert TOKENS.verify(joined(header, segment(claims), SIGN)).subject == "x" * 5000
    claims["sub"] *= 2
    assert refused(joined(header, segment(claims), SIGN)) == "it is too long"


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    assert not outcome(text)


@given(st.binary(max_size=2000))
def test_any_bytes_as_claims_are_refused(data: bytes) -> None:
    assert not outcome(joined(GOOD.split(".")[0], b64(data), SIGN))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "x"]), json_values, max_size=4))
def test_any_values_of_claims_are_judged(claims: dict[str, Any]) -> None:
    outcome(forge(GOOD, SIGN, claims=claims))


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jku", "x"]), json_values))
def test_any_members_of_a_header_are_refused(header: dict[str, Any]) -> None:
    token = forge(GOOD, SIGN, **header)
    assert outcome(token) == (token == GOOD)


# --- issuing


@every_kind
def test_a_token_says_what_was_to_be_said(kind: str) -> None:
    key, _ = KINDS[kind]()
    tokens = tokens_of(key)
    token = issued(tokens)
    said = tokens.verify(token)
    assert header_of(token) == {"alg": kind, "kid": key.kid, "typ": "at+jwt"}
    assert claims_of(token) == {
        "iss": ISSUER,
        "sub": "johndoe",
        "aud": AUDIENCE,
        "exp": NOW + LIFETIME,
        "iat": NOW,
        "jti": said.jti,
        "scope": "items:read items:write",
        "sid": LOGIN,
        "stp": "stamp",
    }
    assert said == AccessToken(
        subject="johndoe",
        scopes=frozenset({"items:read", "items:write"}),
        login_id=LOGIN,
        stamp="stamp",
        expires_at=int(NOW + LIFETIME),
        issued_at=int(NOW),
        jti=said.jti,
    )
    assert token not in repr([getattr(said, name) for name in AccessToken._fields])


def test_other_libraries_read_the_token() -> None:
    for kind in KINDS:
        key, _ = KINDS[kind]()
        tokens = tokens_of(key, clock=time.time)
        token = issued(tokens)
        other: Any = SECRET
        if key.public_jwk:
            other = jwt.PyJWKSet.from_dict(Keyring([key]).jwks())[key.kid]
        read = jwt.decode(token, other, algorithms=[kind], audience=AUDIENCE, issuer=ISSUER)
        assert read["sub"] == "johndoe"
        # What it makes of the same is the same, but for the signature.
        private = PAIRS[kind]() if kind in PAIRS else SECRET
        headers = {"kid": key.kid, "typ": "at+jwt"}
        made = jwt.encode(claims_of(token), private, algorithm=kind, headers=headers)
        assert tokens.verify(made) == tokens.verify(token)


@pytest.mark.parametrize("kid", ["2031-05", "schlüssel", "鍵", '"\\', "\ud800", "\0"])
def test_a_kid_is_any_text(kid: str) -> None:
    tokens = tokens_of(Key(OTHER_SECRET), Key(SECRET, kid=kid))
    token = issued(tokens_of(Key(SECRET, kid=kid)))
    headers = {"kid": kid, "typ": "at+jwt"}
    made = jwt.encode(claims_of(token), SECRET, algorithm="HS256", headers=headers)
    assert made == token
    assert tokens.verify(token).subject == "johndoe"


def test_each_token_has_a_name_of_its_own() -> None:
    names = {TOKENS.verify(issued(TOKENS)).jti for _ in range(1000)}
    assert len(names) == 1000
    assert {len(name) for name in names} == {22}


@pytest.mark.parametrize("subject", ["1", "юзер@пример.рф", "💥", "a b", '"\\', "\0", "x" * 3000])
def test_any_subject_comes_back(subject: str) -> None:
    assert TOKENS.verify(TOKENS.issue(subject, (), LOGIN, "")).subject == subject


def test_a_token_without_scopes_and_stamp_has_none() -> None:
    said = TOKENS.verify(TOKENS.issue("johndoe", iter(()), LOGIN, ""))
    assert (said.scopes, said.stamp) == (frozenset(), "")


def test_scopes_of_a_token_are_a_set() -> None:
    spaced = forge(GOOD, SIGN, claims={"scope": "  a   b a "})
    assert TOKENS.verify(spaced).scopes == {"a", "b"}


@pytest.mark.parametrize("scope", ["", "a b", "items:read admin", "a\tb", '"', "\\", "é", "a\n"])
def test_a_scope_that_would_become_another_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match="is no scope: use printable ASCII") as caught:
        TOKENS.issue("johndoe", ["fine", scope], LOGIN, "stamp")
    assert repr(scope) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("", (), LOGIN, "stamp"), "the claim sub is missing, empty or no text"),
        ((7, (), LOGIN, "stamp"), "the claim sub is missing, empty or no text"),
        ((None, (), LOGIN, "stamp"), "the claim sub is missing, empty or no text"),
        (("a", (), "", "stamp"), "the claim sid is missing, empty or no text"),
        (("a", (), LOGIN, None), "the claim stp is missing, empty or no text"),
        (("\ud800", (), LOGIN, "stamp"), "a claim is no Unicode"),
    ],
)
def test_nothing_is_issued_that_would_be_refused(arguments: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^No access token can say this: {reason}"):
        TOKENS.issue(*arguments)


def test_nothing_is_issued_that_is_too_long() -> None:
    scopes = [f"items:read:{number}" for number in range(600)]
    with pytest.raises(ValueError, match=r"has \d+ characters and may have 8192: use") as caught:
        TOKENS.issue("johndoe", scopes, LOGIN, "stamp")
    assert "fewer than 600 scopes" in str(caught.value)
    assert TOKENS.verify(TOKENS.issue("johndoe", scopes[:300], LOGIN, "")).scopes == {*scopes[:300]}


def test_times_are_whole_seconds_whatever_the_clock_gives() -> None:
    tokens = tokens_of(clock=Clock(NOW + 0.5), lifetime=0.25)
    claims = claims_of(issued(tokens))
    assert (claims["iat"], claims["exp"]) == (int(NOW), int(NOW) + 1)
    assert {type(claims["iat"]), type(claims["exp"])} == {int}
