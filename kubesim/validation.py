"""Checks what people wrote against a pydantic model, and says in one line what is wrong with it and where."""

from __future__ import annotations

import re
import typing
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from kubesim.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
        raise document.error((), f"a mapping is needed, with fields such as {', '.join(_fields_at(model, ())[:4])}")
    try:
        made = model.model_validate(document.data)
    except ValidationError as error:
        raise document.error(*first_problem(error, model, document.data)) from None
    for place in _truths_as_numbers(made, document.data):
        raise document.error(place, "a number is needed, not true or false")
    return made


def without_nulls(data: Any) -> Any:
    """A mapping without fields that are null, which Go reads as if they were not there."""
    return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


def first_problem(error: ValidationError, model: type[BaseModel], data: Any) -> tuple[list[str | int], str]:
    """The first thing that pydantic finds wrong with data: where it is, and what in words."""
    first = min(error.errors(include_url=False), key=_importance)
    return _place(first, data), _explain(first, model)


_WANTED = {
    "missing": "this field",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "path_type": "a path",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""What is needed, by the type of pydantic's error."""


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What a validation error of pydantic means, in words."""
    kind, context, place = error["type"], error.get("ctx", {}), error["loc"]
    if kind == "extra_forbidden":
        return f"unknown field: {did_you_mean(str(place[-1]), _fields_at(model, place[:-1]))}"
    if kind in ("union_tag_invalid", "literal_error"):
        given = str(context.get("tag", error["input"]))
        known = _QUOTED.findall(str(context.get("expected_tags") or context.get("expected")))
        return f"there is no {given!r}: {did_you_mean(given, known)}"
    if kind == "union_tag_not_found":
        return f"the field {context.get('discriminator')} is needed"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind in ("model_type", "model_attributes_type"):
        message = f"a mapping is needed, with fields such as {', '.join(_fields_at(model, place)[:4])}"
    else:
        said = error["msg"].replace(" after validation", "")
        message = f"{_WANTED[kind]} is needed" if kind in _WANTED else said[0].lower() + said[1:]
    given = error["input"]
    is_short = kind != "missing" and isinstance(given, str | int | float | bool | None)
    return f"{message}, not {given!r}" if is_short else message


def _truths_as_numbers(made: Any, given: Any) -> Iterator[list[str | int]]:
    """Where ``true`` was given and taken for 1: YAML reads a careless ``yes`` or ``on`` as true, too."""
    if isinstance(made, BaseModel):
        made = {field.alias or name: getattr(made, name) for name, field in type(made).model_fields.items()}
    if isinstance(made, dict) and isinstance(given, dict):
        pairs: Iterable[tuple[str | int, Any]] = ((key, given[key]) for key in made if key in given)
    elif isinstance(made, list) and isinstance(given, list) and len(made) == len(given):
        pairs = enumerate(given)
    else:
        pairs = ()
        if isinstance(given, bool) and isinstance(made, int | float) and not isinstance(made, bool):
            yield []
    for key, inner in pairs:
        yield from ([key, *place] for place in _truths_as_numbers(made[key], inner))


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
        is_known = part in data if isinstance(data, dict) else _is_place(part, data)
        if is_known:
            data = data[part]
            place.append(part)
        elif is_last and error["type"] in ("missing", "extra_forbidden"):
            place.append(part)
    return place


def _is_place(part: str | int, data: Any) -> bool:
    """Whether data are a list that has such a place: of one that is too short, pydantic names the first that lacks."""
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


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
