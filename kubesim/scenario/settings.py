"""A scenario as one flat list of its fields, each with its value and whether it is the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from kubesim.scenario.spec import Scenario


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a scenario.

    Parameters
    ----------
    field
        Its dotted path, as factors and ``--set`` name it.
    value
        Its value, in terms of JSON.
    is_default
        Whether a scenario that says nothing of it would have the same.
    """

    field: str
    value: Any
    is_default: bool


def settings_of(scenario: Scenario) -> list[Setting]:
    """Every field of a scenario, in the order of its schema; a plugin's name is what it is chosen by, no default."""
    return list(_settings(scenario, scenario.model_dump(mode="json", by_alias=True), "", is_default=False))


def _settings(model: BaseModel, data: dict[str, Any], prefix: str, *, is_default: bool) -> Iterator[Setting]:
    """The fields of a part of a scenario, which is itself as it would be without being given, or not."""
    for name, field in type(model).model_fields.items():
        key = field.serialization_alias or field.alias or name
        value = getattr(model, name)
        as_default = is_default or _has_default(field, value)
        if isinstance(value, BaseModel):
            yield from _settings(value, data[key], f"{prefix}{key}.", is_default=as_default)
        else:
            yield Setting(f"{prefix}{key}", data[key], as_default)


def _has_default(field: FieldInfo, value: Any) -> bool:
    """Whether a field is as it would be if it were not given; the name that chooses among models never is."""
    if field.is_required() or (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1):
        return False
    return bool(value == field.get_default(call_default_factory=True, validated_data={}))
