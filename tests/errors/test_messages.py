"""What Pydantic says of a value never quotes it: on the Pydantic that is installed, whichever."""

import ast
import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pydantic
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    UUID4,
    AnyUrl,
    Base64Bytes,
    HttpUrl,
    IPvAnyNetwork,
    Json,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError, core_schema

from fastkit.errors._validation import validation_problem
from tests.errors.support import SENTINEL

# What a placeholder of a built-in message may be made of, other than what the client sent.
FROM_THE_SCHEMA = {
    *("class", "class_name", "decimal_places", "discriminator", "encoding", "expected"),
    *("expected_plural", "expected_schemes", "expected_tags", "expected_version", "field_type"),
    *("ge", "gt", "le", "lt", "max_digits", "max_length", "method_name", "min_length"),
    *("multiple_of", "pattern", "tz_expected", "whole_digits"),
}
A_NUMBER_OF_ITEMS = {"actual_length"}
# Messages with an {error} out of a list of phrases, which the property test below holds them to.
PHRASES = {
    "date_from_datetime_parsing",
    "date_parsing",
    "datetime_from_date_parsing",
    "datetime_parsing",
    "json_invalid",
    "time_delta_parsing",
    "time_parsing",
    "url_syntax_violation",
}
THE_APPS_WORDS = {"assertion_error", "value_error"}

ERROR_TYPES: tuple[Any, ...] = get_args(core_schema.ErrorType)


def message_of(kind: Any, context: dict[str, Any]) -> str:
    details = InitErrorDetails(type=kind, loc=("field",), input=SENTINEL, ctx=context)
    errors = ValidationError.from_exception_data("Model", [details]).errors()
    (listed,) = validation_problem(errors, include_input=False).extensions["errors"]
    assert listed.keys() == {"type", "loc", "msg"}
    return str(listed["msg"])


def custom_message_of(kind: Any, template: Any, context: dict[str, Any]) -> str:
    return message_of(PydanticCustomError(kind, template, context), {})


def context_of(kind: Any) -> dict[str, Any]:
    """A context that Pydantic takes for this type, with the client's value where it can be."""
    context: dict[str, Any] = {}
    while True:
        try:
            PydanticKnownError(kind, context)
        except TypeError as error:
            # "GreaterThan: 'gt' required in context", or that it must be an integer
            name = str(error).split("'")[1]
        else:
            return context
        if name in FROM_THE_SCHEMA | A_NUMBER_OF_ITEMS:
            context[name] = 1 if name in context else "x"
        else:
            context[name] = 8675309 if name in context else SENTINEL


@pytest.mark.parametrize("kind", ERROR_TYPES)
def test_no_built_in_message_has_a_part_that_may_be_the_clients(kind: Any) -> None:
    message = message_of(kind, context_of(kind))
    assert message
    if kind not in PHRASES | THE_APPS_WORDS:
        for value in (SENTINEL, "8675309"):
            assert value not in message, f"add {kind!r} to _WITHOUT_INPUT"


def custom_errors() -> Iterator[tuple[str, str]]:
    """The (type, template) of the errors that Pydantic makes in Python, in its own source."""
    package = Path(pydantic.__file__).parent
    for path in package.rglob("*.py"):
        if "v1" in path.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).endswith("PydanticCustomError")
                and all(isinstance(arg, ast.Constant) for arg in node.args[:2])
            ):
                kind, template, *_ = (ast.unparse(arg) for arg in node.args)
                yield ast.literal_eval(kind), ast.literal_eval(template)


CUSTOM_ERRORS = sorted({found for found in custom_errors() if "{" in found[1]})
# Not the client's: a card's brand and the lengths it may have, the name of a type, a bound, and
# what Python's base64 says, which is a phrase.
SAFE = {"base64_decode", "color_error", "payment_card_number_brand", "sequence_str"}


def test_pydantics_own_custom_errors_are_found() -> None:
    assert {"zoneinfo_str", "byte_size_unit", "import_error"} <= {kind for kind, _ in CUSTOM_ERRORS}


@pytest.mark.parametrize(("kind", "template"), CUSTOM_ERRORS)
def test_no_custom_message_of_pydantics_has_a_part_that_may_be_the_clients(
    kind: Any, template: Any
) -> None:
    if kind in SAFE:
        return
    context = dict.fromkeys(re.findall(r"\{(\w+)\}", template), SENTINEL)
    message = custom_message_of(kind, template, context)
    assert message
    assert SENTINEL not in message, f"add {kind!r} to _WITHOUT_INPUT"


@pytest.mark.parametrize(
    "kind",
    [
        *(date, datetime, time, timedelta, Decimal, UUID, UUID4, AnyUrl, HttpUrl),
        *(IPvAnyNetwork, Json, Base64Bytes, complex),
    ],
)
@given(text=st.text(st.sampled_from('ʬ\x01ʬ0123456789-+:.TZPDWHMSEe{}[]"\\/@ ,'), max_size=30))
def test_the_phrases_of_pydantic_do_not_quote(kind: Any, text: str) -> None:
    for value in (text, f"2000-01-01T00:00:00{text}", f"http://{text}ʬ", f'{{"a": {text}'):
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as failure:
            problem = validation_problem(failure.errors(), include_input=False)
            for error in problem.extensions["errors"]:
                assert "ʬ" not in error["msg"]
                assert "\x01" not in error["msg"]


def test_the_useful_part_of_a_message_that_quotes_is_kept() -> None:
    tag = {"discriminator": "'kind'", "tag": SENTINEL, "expected_tags": "'cat', 'dog'"}
    assert message_of("union_tag_invalid", tag) == (
        "Input tag found using 'kind' is none of 'cat', 'dog'"
    )
    zone = {"tz_expected": 3600, "tz_actual": 8675309}
    assert message_of("timezone_offset", zone) == ("Timezone offset of 3600 required")


def test_a_template_without_its_context_is_no_error() -> None:
    words = custom_message_of("timezone_offset", "the app's own", {})
    assert words == "Timezone offset of  required"


def test_what_email_validator_says_is_left_out() -> None:
    reason = {"reason": f"The domain name {SENTINEL} does not exist."}
    template = "value is not a valid email address: {reason}"
    message = custom_message_of("value_error", template, reason)
    assert message == "value is not a valid email address"


HAND_MADE: list[tuple[list[Any], list[Any]]] = [
    (
        [{"loc": ("body", "a"), "msg": "taken"}],
        [{"type": "value_error", "loc": ["body", "a"], "msg": "taken"}],
    ),
    ([{}], [{"type": "value_error", "loc": [], "msg": "Invalid value"}]),
    (["words"], [{"type": "value_error", "loc": [], "msg": "words"}]),
    (
        [{"type": 7, "loc": (None, "\ud800" * 3, True), "msg": ValueError("\udfff")}],
        [{"type": "7", "loc": ["None", "���", True], "msg": "�"}],
    ),
    ([], []),
]


@pytest.mark.parametrize(("raised", "listed"), HAND_MADE)
def test_errors_that_an_app_made_itself_are_listed_whatever_they_hold(
    raised: list[Any], listed: list[Any]
) -> None:
    error = RequestValidationError(raised)
    for include_input in (False, True):
        problem = validation_problem(error.errors(), include_input=include_input)
        assert problem.status == 422
        assert problem.extensions["errors"] == listed


@pytest.mark.parametrize(
    ("count", "detail", "listed"),
    [
        (1, "The request has 1 invalid value.", 1),
        (2, "The request has 2 invalid values.", 2),
        (100, "The request has 100 invalid values.", 100),
        (101, "The request has 101 invalid values. The first 100 are listed.", 100),
    ],
)
def test_errors_are_counted_and_the_first_hundred_are_listed(
    count: int, detail: str, listed: int
) -> None:
    errors = [{"type": "t", "loc": (n,), "msg": "m"} for n in range(count)]
    problem = validation_problem(errors, include_input=False)
    assert problem.detail == detail
    assert [error["loc"] for error in problem.extensions["errors"]] == [[n] for n in range(listed)]


def test_names_of_unknown_keys_are_cut_to_a_hundred_characters() -> None:
    errors = [{"type": "extra_forbidden", "loc": ("body", "k" * 101), "msg": "m"}]
    (listed,) = validation_problem(errors, include_input=False).extensions["errors"]
    assert listed["loc"] == ["body", "k" * 100]
