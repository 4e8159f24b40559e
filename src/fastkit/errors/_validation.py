"""What a client may read of a failed validation: where and why, and not what it had sent."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastkit.errors._json import clean, plain
from fastkit.errors._problem import Problem

__all__ = ("validation_problem",)

_MAX_ERRORS = 100
_MAX_NAME = 100

# The messages of Pydantic that quote the input, with what is safe to say in their place. The others
# are made of the schema alone, and those of "value_error", "assertion_error" and custom types are
# the app's own words.
_WITHOUT_INPUT = {
    "byte_size_unit": "Could not interpret the byte unit",
    "bytes_invalid_encoding": "Data should be valid {encoding}",
    "datetime_object_invalid": "Invalid datetime object",
    "get_attribute_error": "Error extracting attribute",
    "import_error": "Invalid python path",
    "iteration_error": "Error iterating over object",
    "mapping_type": "Input should be a valid mapping",
    "no_such_attribute": "Object has no such attribute",
    "timezone_offset": "Timezone offset of {tz_expected} required",
    "union_tag_invalid": "Input tag found using {discriminator} is none of {expected_tags}",
    "url_parsing": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
    "zoneinfo_str": "Invalid timezone",
}
# EmailStr has the type of an app's own errors. A reason follows, which may quote the address.
_EMAIL = "value is not a valid email address"


def validation_problem(errors: Sequence[Any], *, include_input: bool) -> Problem:
    """The 422 for `errors`, as Pydantic and FastAPI list them.

    Args:
        errors: Dicts with `type`, `loc`, `msg`, and maybe `input` and `ctx`.
        include_input: Send `input`, `ctx` and the messages that quote the input, too.
    """
    count = len(errors)
    detail = (
        "The request has 1 invalid value."
        if count == 1
        else f"The request has {count} invalid values."
    )
    if count > _MAX_ERRORS:
        detail += f" The first {_MAX_ERRORS} are listed."
    describe = _whole if include_input else _without_input
    listed = [describe(_as_mapping(error)) for error in errors[:_MAX_ERRORS]]
    return Problem(422, detail=detail, extensions={"errors": listed})


def _as_mapping(error: object) -> Mapping[str, Any]:
    """An app may raise RequestValidationError itself, with anything in it."""
    return cast("Mapping[str, Any]", error) if isinstance(error, Mapping) else {"msg": error}


def _without_input(error: Mapping[str, Any]) -> dict[str, Any]:
    described = _described(error)
    message = _WITHOUT_INPUT.get(described["type"])
    if message is not None:
        described["msg"] = message.format_map(defaultdict(str, error.get("ctx") or {}))
    elif described["msg"].startswith(_EMAIL):
        described["msg"] = _EMAIL
    return described


def _whole(error: Mapping[str, Any]) -> dict[str, Any]:
    return _described(error) | {
        name: plain(error[name]) for name in ("input", "ctx") if name in error
    }


def _described(error: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": str(error.get("type", "value_error")),
        "loc": _location(error.get("loc", ())),
        "msg": clean(str(error.get("msg", "Invalid value"))),
    }


def _location(parts: Sequence[object]) -> list[int | str]:
    """Where the value is. Names of unknown keys are the client's own, so a long one is cut."""
    return [part if isinstance(part, int) else clean(str(part))[:_MAX_NAME] for part in parts]
