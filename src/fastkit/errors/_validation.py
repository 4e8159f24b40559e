"""What a client may read of a failed validation: where and why, and not what it had sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastkit.errors._json import clean, plain
from fastkit.errors._problem import Problem

__all__ = ("validation_problem",)

_MAX_ERRORS = 100
_MAX_NAME = 100

# The built-in messages of Pydantic that quote the input, with what is safe to say in their place.
# Every other one is made of the schema alone, and "value_error", "assertion_error" and custom types
# are the app's own words.
_WITHOUT_INPUT = {
    "bytes_invalid_encoding": "Data should be valid {encoding}",
    "datetime_object_invalid": "Invalid datetime object",
    "get_attribute_error": "Error extracting attribute",
    "iteration_error": "Error iterating over object",
    "mapping_type": "Input should be a valid mapping",
    "no_such_attribute": "Object has no such attribute",
    "timezone_offset": "Timezone offset of {tz_expected} required",
    "union_tag_invalid": "Input tag found using {discriminator} is none of {expected_tags}",
    "url_parsing": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
}


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
    listed = [describe(error) for error in errors[:_MAX_ERRORS]]
    return Problem(422, detail=detail, extensions={"errors": listed})


def _without_input(error: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(error["type"])
    message = _WITHOUT_INPUT.get(kind)
    if message is None:
        message = error["msg"]
    elif "{" in message:
        message = message.format_map(error["ctx"])
    return {"type": kind, "loc": _location(error), "msg": clean(message)}


def _whole(error: Mapping[str, Any]) -> dict[str, Any]:
    listed = {"type": str(error["type"]), "loc": _location(error), "msg": clean(error["msg"])}
    return listed | {name: plain(error[name]) for name in ("input", "ctx") if name in error}


def _location(error: Mapping[str, Any]) -> list[int | str]:
    """Where the value is. Names of unknown keys are the client's own, so a long one is cut."""
    return [
        part if isinstance(part, int) else clean(str(part))[:_MAX_NAME] for part in error["loc"]
    ]
