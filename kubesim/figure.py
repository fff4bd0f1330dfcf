"""What figures and tables show: written in experiment files, kept with the data."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Level = str | int | float | bool | None

_NAME = r"^[a-z0-9][a-z0-9-]*$"


def _checked_name(name: str) -> str:
    """A name, if it may be that of a file."""
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} is no name: small letters, digits and hyphens are needed, no hyphen first")
    return name


FileName = Annotated[str, AfterValidator(_checked_name), Field(json_schema_extra={"pattern": _NAME})]
"""A name that files, or a directory, are called by."""


class FigureSpec(BaseModel):
    """One figure.

    ``lines`` draws a measure against a factor, a line for each level of another. ``breakdown`` stacks where the CPU
    time of a transaction goes, a bar for each level of a factor. ``bars`` compares a measure between levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: FileName = Field(description="of the files, without ending")
    kind: Literal["lines", "breakdown", "bars"] = Field(default="lines", description="what it looks like")
    title: str = Field(default="", description="what it says, in a sentence")
    x: str = Field(description="the factor along the axis")
    y: str = Field(default="", description="the measure, a column of the runs")
    by: str | None = Field(default=None, description="the factor that has a line, or a bar, for each level")
    panel: str | None = Field(default=None, description="the factor that has a panel for each level")
    band: tuple[str, str] | None = Field(default=None, description="columns of the lower and upper end of a band")
    where: dict[str, Level] = Field(default={}, description="levels of the other factors to show")
    x_label: str = Field(default="", description="name of the horizontal axis")
    y_label: str = Field(default="", description="name of the vertical axis, without unit")
    relative_to: Level = Field(
        default=None, description="a level of the factor by: show the measure as a share of that level's"
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> FigureSpec:
        if self.kind != "breakdown" and not self.y:
            raise ValueError(f"a figure of kind {self.kind} needs y, the measure to show")
        if self.relative_to is not None and self.by is None:
            raise ValueError("relative_to needs by, the factor that has this level")
        return self

    def factors(self) -> list[str]:
        """The factors it needs."""
        return [name for name in (self.x, self.by, self.panel, *self.where) if name]

    def measures(self) -> list[str]:
        """The measures it needs; what a breakdown is of is no measure of a run."""
        return [] if self.kind == "breakdown" else [self.y, *(self.band or ())]


class TableSpec(BaseModel):
    """One table for the terminal: a measure by some factors down and one across."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="", description="what it says")
    value: str = Field(description="the measure, a column of the runs")
    rows: list[str] = Field(min_length=1, description="factors whose levels are the rows")
    columns: str | None = Field(default=None, description="factor whose levels are the columns")
    where: dict[str, Level] = Field(default={}, description="levels of the other factors to show")

    def factors(self) -> list[str]:
        """The factors it needs."""
        return [*self.rows, *([self.columns] if self.columns else []), *self.where]

    def measures(self) -> list[str]:
        """The measure it needs."""
        return [self.value]


def level_text(level: Any) -> str:
    """A level as people read it: 10k, 1,024, yes."""
    if isinstance(level, bool):
        return "yes" if level else "no"
    if isinstance(level, int | float):
        is_round = abs(level) >= 1000 and level % 1000 == 0
        return f"{level / 1000:,g}k" if is_round else f"{level:,g}"
    return str(level)


def _written(value: Any) -> str:
    """A setting as it is written in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def level_label(value: Any) -> Level:
    """How a level of a factor is written in tables and figures: plugins by name and settings, traffic by workload."""
    if isinstance(value, dict):
        if "workload" in value:
            return str(value["workload"])
        rest = ", ".join(f"{key}={_written(item)}" for key, item in value.items() if key not in ("name", "choice"))
        name = str(value.get("name", value.get("choice", "")))
        return f"{name} ({rest})" if rest and name else name or rest
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
