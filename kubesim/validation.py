"""Checks what people wrote against a pydantic model, and says in one line what is wrong with it and where."""

from __future__ import annotations

import re
import typing
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from kubesim.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

    from kubesim.files import YamlDocument

_Model = TypeVar("_Model", bound=BaseModel)
_QUOTED = re.compile(r"'([^']*)'")


def validate(model: type[_Model], document: YamlDocument) -> _Model:
    """A model made from a document.

    Raises
    ------
    InputError
        With file, line, field and what is known, for the first thing that is wrong.
    """
    if not isinstance(document.data, dict):
        raise document.error((), f"a mapping is needed, with fields such as {', '.join(list(model.model_fields)[:4])}")
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first = min(details, key=_importance)
        raise document.error(_place(first, document.data), explain(first, model)) from None


def explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What a validation error of pydantic means, in words."""
    kind, context = error["type"], error.get("ctx", {})
    name = str(error["loc"][-1]) if error["loc"] else ""
    if kind == "extra_forbidden":
        return f"unknown field: {did_you_mean(name, _fields_at(model, error['loc'][:-1]))}"
    if kind == "missing":
        return "this field is needed"
    if kind in ("union_tag_invalid", "literal_error"):
        given = str(context.get("tag", error["input"]))
        known = _QUOTED.findall(str(context.get("expected_tags") or context.get("expected")))
        return f"there is no {given!r}: {did_you_mean(given, known)}"
    if kind == "union_tag_not_found":
        return f"the field {context.get('discriminator')} is needed"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    given = error["input"]
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool | None) else ""
    return error["msg"][0].lower() + error["msg"][1:] + shown


def _importance(error: ErrorDetails) -> int:
    """Unknown fields first: a misspelt field often makes another one missing."""
    return 0 if error["type"] == "extra_forbidden" else 1


def _place(error: ErrorDetails, data: Any) -> list[str | int]:
    """The way to the error through the data, without the names that pydantic gives to members of unions."""
    place: list[str | int] = []
    location = error["loc"]
    if error["type"] == "union_tag_invalid":
        location = (*location, error["ctx"]["discriminator"].strip("'"))
    for number, part in enumerate(location):
        is_last = number == len(location) - 1
        is_known = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if is_known:
            data = data[part]
            place.append(part)
        elif is_last and error["type"] in ("missing", "extra_forbidden"):
            place.append(part)
    return place


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the fields there are at a place of a model."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        inner = [
            found
            for candidate in candidates
            for name, field in candidate.model_fields.items()
            if part in (name, field.alias)
            for found in _models_in(field.annotation)
        ]
        tagged = [one for one in candidates if _is_tagged(one, str(part))]
        candidates = inner or tagged or candidates
    return [field.alias or name for one in candidates for name, field in one.model_fields.items()]


def _is_tagged(model: type[BaseModel], tag: str) -> bool:
    """Whether a discriminated union calls this model by the tag."""
    return model.__name__ == tag or any(
        tag in typing.get_args(field.annotation)
        for field in model.model_fields.values()
        if typing.get_origin(field.annotation) is typing.Literal
    )


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that a type annotation mentions."""
    if typing.get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
