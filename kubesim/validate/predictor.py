"""What all predictors have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from kubesim.validate.bench import Bench

UNITS = {
    "per s": 1.0,
    "Gbit/s": 1e9,
    "Mbit/s": 1e6,
    "ns": 1.0,
    "µs": 1e3,
    "s": 1e9,
    "ns per byte": 1.0,
    "ns per rule": 1.0,
    "rules": 1.0,
    "ratio": 1.0,
}
"""Units of targets, and what a prediction, in the unit that the end of its measure's name says, is divided by."""

ROUTED: dict[str, Any] = {"name": "calico-bgp", "has_policy_chains": False}
"""Pods routed by veths, without rules of the plugin's own: where a target does not say what it was measured on."""


class Predictor(BaseModel):
    """How a target is predicted: what is built, what is sent through it, and what of the outcome is compared."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @abstractmethod
    def predict(self, bench: Bench) -> float:
        """The value on a machine."""

    @property
    @abstractmethod
    def how(self) -> str:
        """Says it in words."""


def name_of(plugin: Any) -> str:
    """The name of a plugin that is given by name, or by name and settings."""
    return str(plugin if isinstance(plugin, str) else plugin["name"])
