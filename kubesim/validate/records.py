"""The file of published measurements, checked as it is read."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kubesim.errors import did_you_mean
from kubesim.files import parse_yaml
from kubesim.validate.control_plane import Restore, RuleCount
from kubesim.validate.first_packet import FirstPacket
from kubesim.validate.gateway import Gateway
from kubesim.validate.netperf import LineRate, Netperf, NetperfRatio
from kubesim.validate.predictor import UNITS
from kubesim.validate.router import Router
from kubesim.validation import validate

_FILE = "published.yaml"

AnyPredictor = Annotated[
    Netperf | NetperfRatio | LineRate | Gateway | Router | FirstPacket | RuleCount | Restore, Field(discriminator="by")
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Record):
    """Where figures are printed."""

    citation: str = Field(min_length=1)
    url: str | None
    trust: Literal["A", "B", "C"]


class Machine(_Record):
    """What figures were measured on.

    Parameters
    ----------
    what
        In words.
    hardware
        Fields of a scenario's ``hardware``.
    fitted_on
        Targets that the one factor on all costs is fitted on; none: the costs are taken as they are.
    slowness, slowness_from
        That factor where it is known otherwise, and from where.
    """

    what: str = Field(min_length=1)
    hardware: dict[str, Any] = {}
    fitted_on: list[str] = []
    slowness: float = Field(default=1.0, gt=0)
    slowness_from: str = ""

    @model_validator(mode="after")
    def _has_one_factor(self) -> Machine:
        if self.slowness != 1.0 and (self.fitted_on or not self.slowness_from):
            raise ValueError("slowness is either fitted or given, and if given, slowness_from says from where")
        return self


class Target(_Record):
    """One published figure.

    Parameters
    ----------
    id, what
        Its name, for programs and for people.
    value, unit
        As measured.
    derived
        From which printed figures the value is worked out, where it is.
    machine, source
        Names in the file.
    tolerance
        Largest error, relative to the value, with which it counts as met.
    in_costs
        Which numbers of the cost set rest on it; empty if none.
    note
        What makes the comparison weaker than it looks.
    predict
        How it is predicted.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    what: str = Field(min_length=1)
    value: float = Field(gt=0)
    unit: str
    derived: str = ""
    machine: str
    source: str
    tolerance: float = Field(ge=0, lt=1)
    in_costs: str = ""
    note: str = ""
    predict: AnyPredictor

    @field_validator("unit")
    @classmethod
    def _is_known(cls, unit: str) -> str:
        if unit not in UNITS:
            raise ValueError(f"there is no unit {unit!r}: {did_you_mean(unit, UNITS)}")
        return unit


class NotModelled(_Record):
    """A figure that nothing predicts yet."""

    what: str = Field(min_length=1)
    citation: str = Field(min_length=1)


class Published(_Record):
    """All of them, with what they refer to.

    Parameters
    ----------
    cost_set
        The set that ``in_costs`` speaks of.
    sources, machines
        By name.
    targets, not_modelled
        What is compared, and what cannot be yet.
    """

    cost_set: str
    sources: dict[str, Source]
    machines: dict[str, Machine]
    targets: list[Target]
    not_modelled: list[NotModelled]

    @model_validator(mode="after")
    def _refers_to_what_is_there(self) -> Published:
        machine_of = {target.id: target.machine for target in self.targets}
        if len(machine_of) < len(self.targets):
            raise ValueError("two targets have one id")
        for target in self.targets:
            for name, known in ((target.machine, self.machines), (target.source, self.sources)):
                if name not in known:
                    raise ValueError(f"{target.id}: there is no {name!r}: {did_you_mean(name, known)}")
        for name, machine in self.machines.items():
            for fitted in machine.fitted_on:
                if machine_of.get(fitted) != name:
                    raise ValueError(f"{name}: it is fitted on {fitted!r}, which is no target of its")
        return self


def load_published() -> Published:
    """The measurements that come with kubesim."""
    text = (resources.files("kubesim.validate") / _FILE).read_text("utf-8")
    return validate(Published, parse_yaml(text, "published measurements"))
