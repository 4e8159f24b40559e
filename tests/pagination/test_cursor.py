"""Cursors: what is no cursor of a list is refused by name, whatever it is."""

import json
import random
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from fastkit.pagination import CursorParams
from fastkit.pagination._cursor import Cursor, CursorCodec, check_secret, cursor_error
from tests.errors.support import problem
from tests.pagination.support import asking, client, with_problems

SECRET = b"a secret of 16 bytes and more"
CONTEXT = b"items by name"
ADAPTER: TypeAdapter[tuple[Any, ...]] = TypeAdapter(
    tuple[str | None, int, Decimal, datetime, UUID, bool]
)
VALUES = (
    "näme",
    7,
    Decimal("1.50"),
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    UUID("12345678123456781234567812345678"),
    True,
)
CURSOR = Cursor(VALUES)

OPEN = CursorCodec(ADAPTER, CONTEXT, None)
SIGNED = CursorCodec(ADAPTER, CONTEXT, SECRET)
every_codec = pytest.mark.parametrize("codec", [OPEN, SIGNED], ids=["open", "signed"])


class Aliased(CursorParams):
    cursor: Annotated[str | None, Field(alias="page[after]")] = None


class Validated(CursorParams):
    cursor: Annotated[str | None, Field(validation_alias="after")] = None


def is_refused(codec: CursorCodec, text: str) -> bool:
    """Whether it is, by a 422 that names the parameter and repeats nothing."""
    try:
        codec.decode(text, CursorParams())
    except RequestValidationError as refused:
        (error,) = refused.errors()
        assert error["loc"] == ("query", "cursor")
        assert error["type"] == "cursor"
        assert "start again without a cursor" in error["msg"]
        assert error.keys() == {"type", "loc", "msg"}
        return True
    return False


def as_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def as_bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def openly_signed(body: bytes, context: bytes = CONTEXT) -> str:
    """What anybody can make who has read the source, where there is no secret."""
    digest = blake2b(digest_size=16, key=b"", person=b"fastkit.cursor")
    digest.update(len(context).to_bytes(8, "big") + context + body)
    return as_text(digest.digest() + body)


BODY = bytes((1, 0)) + ADAPTER.dump_json(VALUES)


def test_what_anybody_can_make_is_what_the_codec_makes() -> None:
    assert openly_signed(BODY) == OPEN.encode(CURSOR)


texts = st.text(st.characters(codec="utf-8"))
places = st.builds(
    Cursor,
    st.tuples(
        st.none() | texts,
        st.integers(-(2**63), 2**63 - 1),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.datetimes(timezones=st.just(UTC)),
        st.uuids(),
        st.booleans(),
    ),
    backward=st.booleans(),
    inclusive=st.booleans(),
)
secrets = st.none() | st.binary(min_size=16, max_size=100)


@given(place=places, context=st.binary(), secret=secrets)
@example(place=CURSOR, context=b"", secret=None)
@example(place=Cursor(("\x00\u2028\U0010ffff", 0, *VALUES[2:])), context=b"\0", secret=SECRET)
def test_a_place_comes_back_as_it_was(place: Cursor, context: bytes, secret: bytes | None) -> None:
    text = CursorCodec(ADAPTER, context, secret).encode(place)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    # Another process has another codec.
    found = CursorCodec(ADAPTER, context, secret).decode(text, CursorParams())
    assert found == place
    assert [type(value) for value in found.values] == [type(value) for value in place.values]


@every_codec
def test_a_place_has_one_text(codec: CursorCodec) -> None:
    flags = [(False, False), (False, True), (True, False), (True, True)]
    found = [codec.encode(Cursor(VALUES, *each)) for each in flags]
    assert len(set(found)) == 4
    assert found[0] == codec.encode(CURSOR)
    assert [codec.decode(text, CursorParams())[1:] for text in found] == flags


@every_codec
def test_a_list_without_keys_has_a_place_too(codec: CursorCodec) -> None:
    empty: TypeAdapter[tuple[Any, ...]] = TypeAdapter(tuple[()])
    codec = CursorCodec(empty, CONTEXT, None)
    assert codec.decode(codec.encode(Cursor(())), CursorParams()) == Cursor(())


def mutations(text: str, other: str, rng: random.Random) -> Iterator[str]:
    """What a cursor becomes that is cut, flipped, swapped, doubled, padded, or mixed."""
    raw = as_bytes(text)
    for end in range(len(text)):
        yield text[:end]
        yield text[end + 1 :]
        yield text[:end] + text[end + 1 :]
        yield text[:end] + text[end] + text[end:]
        yield text[:end] + text[end].swapcase() + text[end + 1 :]
    for end in range(len(raw)):
        yield as_text(raw[:end])
        yield as_text(raw[end + 1 :])
        yield as_text(raw[:end] + b"\x00" + raw[end:])
    for at in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[at // 8] ^= 1 << at % 8
        yield as_text(bytes(flipped))
    for at in range(len(text) - 1):
        yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    for at in range(1, min(len(text), len(other))):
        yield text[:at] + other[at:]
        yield other[:at] + text[at:]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \r\n%\x00é"
    for at in range(len(text)):
        for character in rng.sample(alphabet, 8):
            yield text[:at] + character + text[at + 1 :]
            yield text[:at] + character + text[at:]
    for _ in range(12_000):
        mutated = bytearray(raw)
        for _ in range(rng.randint(1, 8)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        yield as_text(bytes(mutated))


@every_codec
def test_ten_thousand_mutations_are_refused(codec: CursorCodec) -> None:
    text = codec.encode(CURSOR)
    other = codec.encode(Cursor(("other", 8, *VALUES[2:]), backward=True))
    tried = {*mutations(text, other, random.Random(3))} - {text, other}  # noqa: S311
    accepted = [mutation for mutation in tried if not is_refused(codec, mutation)]
    assert len(tried) > 10_000
    assert accepted == []


JSON_VALUES: list[bytes] = [
    b"null", b"true", b"1", b"-0", b"1e400", b'"x"', b"{}", b"[]", b"[1]", b"[[]]", b"",
    b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"9" * 5000, b"[" + b"9" * 5000 + b"]",
    b'"\\ud800"', b'"\xff"', b"\xff\xfe", b"\x00", b'{"0": 1}', b"[,]", b"[1,]", b"// x", b"'x'",
]  # fmt: skip


def mistyped() -> Iterator[bytes]:
    """The JSON of `VALUES` with one of them, or more, replaced by what has no place there."""
    values: list[Any] = json.loads(BODY[2:])
    others: list[Any] = [
        None, True, False, 0, -1, 2**63, 10**30, 10**4000, 1.5, "", "x", "1", "true", "null", [],
        [1], {}, {"a": 1}, "2024-02-30T00:00:00Z", "10000-01-01T00:00:00Z", "1e999999999", "NaN",
        "sNaN", "\u0661", "1_0",
    ]  # fmt: skip
    for at in range(len(values)):
        for other in others:
            yield json.dumps([*values[:at], other, *values[at + 1 :]], allow_nan=True).encode()
    for length in range(len(values)):
        yield json.dumps(values[:length]).encode()
        yield json.dumps([*values, values[length]]).encode()
        yield json.dumps(values[::-1][:length]).encode()
    yield json.dumps(dict(enumerate(values))).encode()
    yield json.dumps([values]).encode()
    yield json.dumps(json.dumps(values)).encode()


def fits(body: bytes) -> bool:
    """Whether it is what the list's columns hold, and so a place that a client may make up."""
    try:
        ADAPTER.validate_json(body, strict=True)
    except ValueError:
        return False
    return True


def test_values_of_wrong_types_are_refused_with_the_right_digest() -> None:
    bodies = [body for body in (*JSON_VALUES, *mistyped()) if not fits(body)]
    assert len(bodies) > 120
    for body in bodies:
        assert is_refused(OPEN, openly_signed(bytes((1, 0)) + body)), body


def test_values_are_not_converted() -> None:
    numbers: TypeAdapter[tuple[Any, ...]] = TypeAdapter(tuple[int, bool, str])
    codec = CursorCodec(numbers, CONTEXT, None)
    assert not is_refused(codec, openly_signed(b'\1\0[1, true, "1"]'))
    for body in (b'["1", true, "1"]', b"[1.0, true, 1]", b'[1, 1, "1"]', b'[true, true, "1"]'):
        assert is_refused(codec, openly_signed(b"\1\0" + body)), body


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["",1,', b'[{"":'])
@pytest.mark.parametrize("depth", [100, 1000, 200_000])
def test_deep_json_is_refused(opening: bytes, depth: int) -> None:
    anything: TypeAdapter[tuple[Any, ...]] = TypeAdapter(tuple[list[Any], int])
    closing = {b"[": b"]", b"{": b"}"}
    end = b"".join(closing[each] for each in (b"[", b"{") if each in opening)
    for body in (opening * depth, opening * depth + end * depth):
        text = openly_signed(b"\1\0" + body)
        assert is_refused(OPEN, text)
        assert is_refused(CursorCodec(anything, CONTEXT, None), text)


@every_codec
@pytest.mark.parametrize(
    "text",
    ["A" * 2**20, "A" * (2**20 + 1), "é" * 10**6, "\x00" * 10**6, "=" * 10**6, "-_" * 10**6],
    ids=["A", "odd", "no ascii", "nul", "padding", "dashes"],
)
def test_a_huge_text_is_refused(codec: CursorCodec, text: str) -> None:
    assert is_refused(codec, text)


@every_codec
@pytest.mark.parametrize(
    "text", ["é", "\u0661", "😀", "\ud800", "\x00", " ", "=", "====", "A", "AA", "null", "0", "%"]
)
def test_a_text_of_another_kind_is_refused(codec: CursorCodec, text: str) -> None:
    assert is_refused(codec, text)
    assert is_refused(codec, codec.encode(CURSOR) + text)
    assert is_refused(codec, text + codec.encode(CURSOR))


@every_codec
@given(text=st.text())
def test_any_text_is_refused(codec: CursorCodec, text: str) -> None:
    assert is_refused(codec, text)


@given(body=st.binary())
@example(body=b"")
@example(body=b"\1")
@example(body=b"\1\0")
@example(body=b"\1\xff")
def test_any_body_with_the_right_digest_is_a_place_or_refused(body: bytes) -> None:
    assert is_refused(OPEN, openly_signed(body))


@every_codec
def test_a_text_that_says_the_same_otherwise_is_refused(codec: CursorCodec) -> None:
    # Of each length that base64 has an ending for.
    for name in ("a", "ab", "abc"):
        text = codec.encode(Cursor((name, *VALUES[1:])))
        raw = as_bytes(text)
        assert not is_refused(codec, text)
        others = {
            text + "=" * (-len(text) % 4),
            text + "=",
            b64encode(raw).decode(),
            text[:9] + "\n" + text[9:],
            text[:9] + "." + text[9:],
            f" {text}",
            f"{text}\n",
        }
        # The last character's bits that no byte has.
        others |= {text[:-1] + last for last in "ABCDwxyz0189-_"}
        for other in others - {text}:
            assert is_refused(codec, other), other


@pytest.mark.parametrize("version", [0, 2, 3, 127, 128, 255])
def test_another_version_is_refused(version: int) -> None:
    assert is_refused(OPEN, openly_signed(bytes((version, 0)) + BODY[2:]))


@pytest.mark.parametrize("secret", [None, SECRET], ids=["open", "signed"])
def test_another_context_is_refused(secret: bytes | None) -> None:
    text = CursorCodec(ADAPTER, CONTEXT, secret).encode(CURSOR)
    for context in (b"", CONTEXT[:-1], CONTEXT + b"\0", CONTEXT + b"\1", b"items by price"):
        assert is_refused(CursorCodec(ADAPTER, context, secret), text)
    # Where the context ends and the body begins is not for the client to say.
    moved = CursorCodec(ADAPTER, CONTEXT + BODY[:1], secret)
    assert is_refused(moved, as_text(as_bytes(text)[:16] + BODY[1:]))


def test_with_a_secret_nothing_is_accepted_that_was_made_without_it() -> None:
    others = [None, SECRET[:-1], SECRET + b"\0", SECRET[::-1], b"another secret of that kind"]
    for place in (CURSOR, Cursor(VALUES, True), Cursor(VALUES, True, True)):
        for secret in others:
            assert is_refused(SIGNED, CursorCodec(ADAPTER, CONTEXT, secret).encode(place))
        assert is_refused(OPEN, SIGNED.encode(place))


@given(body=st.binary() | st.just(BODY), digest=st.binary(min_size=16, max_size=16))
def test_with_a_secret_a_digest_cannot_be_guessed(body: bytes, digest: bytes) -> None:
    assert is_refused(SIGNED, openly_signed(body))
    assert is_refused(SIGNED, as_text(digest + body))


def test_every_bit_of_the_digest_counts() -> None:
    raw = as_bytes(SIGNED.encode(CURSOR))
    for bit in range(128):
        digest = int.from_bytes(raw[:16], "big") ^ (1 << bit)
        assert is_refused(SIGNED, as_text(digest.to_bytes(16, "big") + raw[16:]))


@pytest.mark.parametrize("secret", ["", "x", "x" * 15, b"", b"x" * 15, "é" * 7])
def test_a_short_secret_is_refused_and_not_repeated(secret: str | bytes) -> None:
    with pytest.raises(ValueError, match="and needs at least 16: make one with") as caught:
        check_secret(secret)
    shown = secret if isinstance(secret, str) else secret.decode()
    assert len(shown) < 7 or shown not in str(caught.value)


def test_a_secret_is_bytes_or_text() -> None:
    assert check_secret("x" * 16) == b"x" * 16
    assert check_secret(b"x" * 16) == b"x" * 16
    assert check_secret("é" * 8) == "é".encode() * 8


def test_the_secret_is_in_no_repr_and_no_error() -> None:
    secret = b"hunter2-hunter2-hunter2"
    codec = CursorCodec(ADAPTER, CONTEXT, secret)
    assert "hunter2" not in repr(codec)
    assert "hunter2" not in repr(vars(codec))
    error: BaseException | None
    with pytest.raises(RequestValidationError) as caught:
        codec.decode("forged", CursorParams())
    error = caught.value
    while error is not None:
        assert "hunter2" not in f"{error!r} {error} {vars(error)}"
        error = error.__context__


def test_the_values_are_not_kept_from_the_client() -> None:
    # As docs say: a cursor can be read, and is no place for secrets.
    assert b'"n\xc3\xa4me"' in as_bytes(SIGNED.encode(CURSOR))


@pytest.mark.parametrize(
    ("params", "name"),
    [(CursorParams(), "cursor"), (Aliased(), "page[after]"), (Validated(), "after")],
)
def test_the_error_names_the_parameter_as_the_client_does(params: BaseModel, name: str) -> None:
    assert cursor_error(params).errors()[0]["loc"] == ("query", name)


def serving(model: type[CursorParams], secret: str | None) -> FastAPI:
    app = FastAPI()
    codec = CursorCodec(ADAPTER, CONTEXT, None if secret is None else check_secret(secret))

    async def read(params: CursorParams) -> list[Any]:
        return list(codec.decode(params.cursor or "", params).values)

    app.get("/")(asking(model, read))
    return app


@pytest.mark.parametrize("secret", [None, "s" * 32], ids=["open", "signed"])
@pytest.mark.parametrize(
    ("model", "name"), [(CursorParams, "cursor"), (Aliased, "page[after]"), (Validated, "after")]
)
def test_through_an_app_it_is_a_422_that_names_the_parameter(
    model: type[CursorParams], name: str, secret: str | None
) -> None:
    app, app_of_problems = serving(model, secret), with_problems(serving(model, secret))
    right = CursorCodec(ADAPTER, CONTEXT, secret.encode() if secret else None).encode(CURSOR)
    forged = ["hunter2", right[:-1], right.swapcase(), "", "é\x00", openly_signed(b"\1\0[1]")]
    assert client(app).get("/", params={name: right}).json()[:2] == ["näme", 7]
    for text in forged:
        answer = client(app).get("/", params={name: text})
        assert answer.status_code == 422
        (error,) = answer.json()["detail"]
        assert error["loc"] == ["query", name]
        answer = client(app_of_problems).get("/", params={name: text})
        (error,) = problem(answer, 422)["errors"]
        assert error["loc"] == ["query", name]
        assert error["type"] == "cursor"
        assert "hunter2" not in answer.text


EXACT: dict[str, tuple[TypeAdapter[tuple[Any, ...]], Any]] = {
    "date": (TypeAdapter(tuple[date]), date(2024, 2, 29)),
    "naive": (TypeAdapter(tuple[datetime]), datetime(1, 1, 1)),
    "float": (TypeAdapter(tuple[float]), 0.1 + 0.2),
    "tiny": (TypeAdapter(tuple[float]), 5e-324),
    "negative zero": (TypeAdapter(tuple[float]), -0.0),
    "beyond latin": (TypeAdapter(tuple[str]), "\U0010ffff" * 1000),
    "a small decimal": (TypeAdapter(tuple[Decimal]), Decimal("1E-30")),
}


@pytest.mark.parametrize(("adapter", "value"), EXACT.values(), ids=EXACT)
def test_values_come_back_exactly(adapter: TypeAdapter[tuple[Any, ...]], value: Any) -> None:
    codec = CursorCodec(adapter, CONTEXT, SECRET)
    (found,) = codec.decode(codec.encode(Cursor((value,))), CursorParams()).values
    assert repr(found) == repr(value)
