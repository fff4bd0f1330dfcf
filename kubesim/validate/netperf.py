"""Predictions by running a workload between two pods, or two processes on nodes, as netperf and iperf3 do."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from kubesim.scenario import run
from kubesim.units import BITS_PER_BYTE
from kubesim.validate.predictor import Predictor

if TYPE_CHECKING:
    from kubesim.scenario import Result
    from kubesim.validate.bench import Bench

_MANIFEST = "netperf.yaml"
_BITS_PER_GBIT = 1e9
_OFF_CPU = ("nic_serialise", "port_serialise", "wire")
_PEERS = {
    "pod": "a pod on another node",
    "service": "a Service of a pod on another node",
    "host": "another node",
    "near-pod": "a pod on the same node",
    "near-service": "a Service of a pod on the same node",
    "near-host": "a process on the same node",
}
_NAMES = {
    "pod": "server",
    "service": "server-service",
    "host": "server-host",
    "near-pod": "near",
    "near-service": "near-service",
    "near-host": "near-host",
}


class Netperf(Predictor):
    """A run of the simulator."""

    by: Literal["netperf"]
    cni: Any = "calico-bgp"
    proxy: Any = Field(default="iptables", description="none: no conntrack and no tables on the nodes")
    sender: Literal["pod", "host"] = "pod"
    receiver: Literal["pod", "service", "host", "near-pod", "near-service", "near-host"] = "pod"
    traffic: dict[str, Any]
    hardware: dict[str, Any] = Field(default={}, description="what differs from the machine's")
    measure: Literal[
        "throughput_per_s",
        "goodput_bit_per_s",
        "latency_mean_ns",
        "one_way_ns",
        "client_cpu_ns",
        "server_cpu_ns",
        "client_cpu_ns_per_byte",
        "server_cpu_ns_per_byte",
    ]

    @property
    def how(self) -> str:
        """Who sends what to whom."""
        sender = "a pod" if self.sender == "pod" else "a process on a node"
        cni, proxy = (one if isinstance(one, str) else one.get("name") for one in (self.cni, self.proxy))
        connections = self.traffic.get("connections", 1)
        return (
            f"simulated {self.traffic['workload']} x{connections} from {sender} to {_PEERS[self.receiver]}, "
            f"{cni}, proxy {proxy}"
        )

    def predict(self, bench: Bench) -> float:
        """Run it."""
        with resources.as_file(resources.files("kubesim.validate") / _MANIFEST) as manifest:
            return self._measured(run(self._scenario(bench, manifest)))

    def _scenario(self, bench: Bench, manifest: Path) -> Any:
        return bench.scenario(
            cluster={"manifests": [manifest]},
            cni=self.cni,
            proxy=self.proxy,
            traffic={
                "from": "client" if self.sender == "pod" else "client-host",
                "to": _NAMES[self.receiver],
                **self.traffic,
            },
            hardware={**bench.hardware, **self.hardware},
        )

    def _measured(self, result: Result) -> float:
        if self.measure == "one_way_ns":
            return float(result.summary["latency_mean_ns"]) / 2
        if self.measure in result.summary:
            return float(result.summary[self.measure])
        per_transaction = _cpu_ns(result, "node-1" if self.measure.startswith("client") else "node-2")
        if self.measure.endswith("_per_byte"):
            bytes_per_transaction = (
                result.summary["goodput_bit_per_s"] / result.summary["throughput_per_s"] / BITS_PER_BYTE
            )
            return per_transaction / float(bytes_per_transaction)
        return per_transaction


class NetperfRatio(Predictor):
    """One run over another."""

    by: Literal["netperf_ratio"]
    of: Netperf
    to: Netperf

    @property
    def how(self) -> str:
        """Both runs."""
        return f"{self.of.how}; over the same to {self.to.how}"

    def predict(self, bench: Bench) -> float:
        """Run both."""
        return self.of.predict(bench) / self.to.predict(bench)


class LineRate(Predictor):
    """Goodput over what the line carries, both as simulated."""

    by: Literal["line_rate"]
    of: Netperf

    @property
    def how(self) -> str:
        """The run."""
        return f"goodput over line rate of {self.of.how}"

    def predict(self, bench: Bench) -> float:
        """Run it."""
        gbit_per_s = {**bench.hardware, **self.of.hardware}["nic_gbit_per_s"]
        return self.of.predict(bench) / (float(gbit_per_s) * _BITS_PER_GBIT)


def _cpu_ns(result: Result, node: str) -> float:
    """CPU time of a node per transaction, wake-ups of idle cores left out."""
    hops = result.hops()
    on_cpu = hops[(hops["node"] == node) & ~hops["operation"].isin(_OFF_CPU)]
    return float(on_cpu["cost_ns"].sum()) / len(result.transactions)
