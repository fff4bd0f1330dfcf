"""Predictions of what a request through a gateway takes, sent from outside of the cluster at a steady rate."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from kubesim.scenario import run
from kubesim.units import NS_PER_S, NS_PER_US
from kubesim.validate.predictor import Predictor

if TYPE_CHECKING:
    from kubesim.validate.bench import Bench

_MANIFEST = "gateway.yaml"


class Gateway(Predictor):
    """Connections that are kept, each with a request at a time, and so long between two that the rate comes out."""

    by: Literal["gateway"]
    cni: str = "calico-bgp"
    proxy: Any = "iptables"
    rate_per_s: float = Field(default=1000, gt=0, description="requests per second, but for the time they take")
    connections: int = Field(default=1, ge=1)
    requests: int = Field(default=1000, ge=1, description="requests of each connection")
    measure: Literal["latency_mean_ns", "latency_p50_ns", "p99_over_p50"] = "latency_mean_ns"

    @property
    def how(self) -> str:
        """Who sends what."""
        return (
            f"simulated requests x{self.connections} at {self.rate_per_s:g} per s from outside through a gateway, "
            f"{self.cni}, proxy {self.proxy}"
        )

    def predict(self, bench: Bench) -> float:
        """Run it."""
        traffic = {
            "workload": "http",
            "to": "cafe.example.com/latte",
            "clients_on": ["outside"],
            "connections": self.connections,
            "requests": self.requests,
            "think_us": self.connections / self.rate_per_s * NS_PER_S / NS_PER_US,
        }
        with resources.as_file(resources.files("kubesim.validate") / _MANIFEST) as manifest:
            cluster = {"manifests": [manifest], "nodes": 3}
            summary = run(bench.scenario(cluster=cluster, cni=self.cni, proxy=self.proxy, traffic=traffic)).summary
        if self.measure == "p99_over_p50":
            return float(summary["latency_p99_ns"] / summary["latency_p50_ns"])
        return float(summary[self.measure])
