"""Cost sets: what an operation costs on some kernel and machine, and how we know."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kubesim.cost.showing import cost_set_html
from kubesim.errors import InputError, did_you_mean
from kubesim.files import YamlDocument, parse_yaml, read_text
from kubesim.validation import validate

DEFAULT_COST_SET = "published-x86-server"


class Kind(StrEnum):
    """How a number is known, the weakest first."""

    ASSUMED = "assumed"
    DERIVED = "derived"
    PUBLISHED = "published"
    MEASURED = "measured"
    GIVEN = "given"

    @property
    def strength(self) -> int:
        """0 for the weakest."""
        return list(Kind).index(self)


class Number(BaseModel):
    """A number of a cost set, with its evidence.

    Parameters
    ----------
    value
        In the unit that the name of its field ends with.
    kind
        How it is known.
    source
        From where.
    uncertainty
        Standard error relative to the value, where it is known.
    above
        For a price per item: for the items above this many.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float = Field(ge=0, le=1e9)
    kind: Kind
    source: str = Field(min_length=1)
    uncertainty: float | None = Field(default=None, ge=0)
    above: int = Field(default=0, ge=0)


def _steps(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Operation(BaseModel):
    """What one operation costs: ``fixed_ns + ns_per_byte · bytes + ns_per_item · items``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    what: str = ""
    fixed_ns: Number | None = None
    ns_per_byte: Number | None = None
    ns_per_item: Annotated[list[Number], BeforeValidator(_steps)] = []
    spread: Number | None = None

    def price_ns(self, items: int, size_bytes: int, times: int = 1) -> float:
        """The mean cost of doing it so many times, over so many items each and bytes in all, in nanoseconds."""
        price = self.fixed_ns.value if self.fixed_ns is not None else 0.0
        for step, following in itertools.zip_longest(self.ns_per_item, self.ns_per_item[1:]):
            end = items if following is None else min(items, following.above)
            price += step.value * max(0, end - step.above)
        touched_ns = 0.0 if self.ns_per_byte is None else self.ns_per_byte.value * size_bytes
        return times * price + touched_ns

    def numbers(self) -> list[tuple[str, Number]]:
        """Its numbers by the name of their field."""
        found = [("fixed_ns", self.fixed_ns), ("ns_per_byte", self.ns_per_byte), ("spread", self.spread)]
        steps = [
            (f"ns_per_item above {step.above}" if step.above else "ns_per_item", step) for step in self.ns_per_item
        ]
        return [(name, number) for name, number in found if number is not None] + steps


class CostSet(BaseModel):
    """Prices of operations on one kernel and machine.

    Parameters
    ----------
    name
        Its name, that of its file.
    title, machine, kernel
        Where the prices hold.
    sources
        Full names of the sources that numbers refer to.
    default_spread
        Standard deviation over mean for operations that have none of their own.
    operations
        Prices by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    title: str = ""
    machine: str = ""
    kernel: str = ""
    extends: str | None = None
    sources: dict[str, str] = {}
    default_spread: Number
    operations: dict[str, Operation]

    @cached_property
    def _prices(self) -> dict[tuple[str, int, int, int], tuple[int, float]]:
        """What was asked for before; not a private attribute, which pydantic looks up too slowly for this."""
        return {}

    def _repr_html_(self) -> str:
        return cost_set_html(self)

    def operation(self, name: str) -> Operation:
        """The prices of an operation.

        Raises
        ------
        InputError
            If the set has none.
        """
        found = self.operations.get(name)
        if found is None:
            raise InputError(f"cost set {self.name} has no price for {name!r}: {did_you_mean(name, self.operations)}")
        return found

    def price_ns(self, operation: str, items: int = 1, size_bytes: int = 0) -> int:
        """The mean cost of an operation in whole nanoseconds."""
        return self.price(operation, items, size_bytes)[0]

    def price(self, operation: str, items: int, size_bytes: int, times: int = 1) -> tuple[int, float]:
        """Mean, in whole nanoseconds, and standard deviation of an operation's cost.

        Parameters
        ----------
        operation
            Its name.
        items
            Of each time.
        size_bytes
            Of all times together.
        times
            How often it is done.

        Raises
        ------
        InputError
            If the set has no price for it.
        """
        key = (operation, items, size_bytes, times)
        found = self._prices.get(key)
        if found is None:
            priced = self.operation(operation)
            mean_ns = round(priced.price_ns(items, size_bytes, times))
            spread = self.default_spread if priced.spread is None else priced.spread
            found = self._prices[key] = (mean_ns, mean_ns * spread.value)
        return found

    def with_operations(self, operations: dict[str, Operation]) -> CostSet:
        """A set with some operations added or replaced."""
        return CostSet.model_validate({**dict(self), "operations": {**self.operations, **operations}})


def cost_set_names() -> list[str]:
    """Names of the sets that come with kubesim."""
    folder = resources.files("kubesim.cost") / "sets"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))


def is_file_name(name: str) -> bool:
    """Whether a cost set is given as the path of a file, not by name."""
    return name.endswith((".yaml", ".yml"))


def load_cost_set(name: str) -> CostSet:
    """Load a cost set by name, or from a file.

    Parameters
    ----------
    name
        A name as :func:`cost_set_names` gives it, or the path of a YAML file.

    Raises
    ------
    InputError
        If there is no such set, or the file is not one.
    """
    return _load(name, Path(), seen=()) if is_file_name(name) else _packaged(name)


@functools.cache
def _packaged(name: str) -> CostSet:
    """A set that comes with kubesim, read once: a sweep asks for it again and again, and nobody changes it."""
    return _load(name, Path(), seen=())


def _load(name: str, base: Path, seen: tuple[str, ...]) -> CostSet:
    """Load a set; what it extends is a name, or a file relative to it."""
    key = str((base / name).resolve()) if is_file_name(name) else name
    if key in seen:
        raise InputError(f"cost set {name} extends itself")
    document = _read(name, base)
    raw = document.data
    if not isinstance(raw, dict):
        raise InputError(f"{document.place}: a cost set is a mapping")
    raw.setdefault("name", Path(name).stem)
    if raw.get("extends"):
        here = (base / name).parent if is_file_name(name) else base
        parent = _load(str(raw["extends"]), here, (*seen, key)).model_dump(exclude_none=True)
        for field in ("operations", "sources"):
            own = raw.get(field) or {}
            raw[field] = {**parent[field], **own} if isinstance(own, dict) else own
        raw = {**parent, **raw}
    return validate(CostSet, replace(document, data=raw))


def _read(name: str, base: Path) -> YamlDocument:
    """The file of a set."""
    if is_file_name(name):
        path = base / name
        return parse_yaml(read_text(path), str(path))
    if name not in cost_set_names():
        raise InputError(f"there is no cost set {name!r}: {did_you_mean(name, cost_set_names())}")
    text = (resources.files("kubesim.cost") / "sets" / f"{name}.yaml").read_text("utf-8")
    return parse_yaml(text, f"cost set {name}")
