"""Predictions of what one packet to a Service takes between two pods of one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from kubesim.scenario import trace
from kubesim.validate.predictor import ROUTED, Predictor, name_of

if TYPE_CHECKING:
    from kubesim.validate.bench import Bench


class FirstPacket(Predictor):
    """A traced packet to the last of so many Services, from socket to socket on awake cores."""

    by: Literal["first_packet"]
    proxy: Any
    cni: Any = ROUTED
    services: int = Field(ge=1)
    endpoints: int = Field(default=1, ge=1)
    packet: Literal["first", "established"] = "first"
    measure: Literal["total_ns", "rules_tested"] = "total_ns"

    @property
    def how(self) -> str:
        """Which packet it is."""
        return f"traced {self.packet} packet to the last of {self.services} Services on one node, {name_of(self.cni)}"

    def predict(self, bench: Bench) -> float:
        """Trace it."""
        scenario = bench.scenario(
            cluster={"nodes": 1, "services": self.services, "endpoints": self.endpoints},
            cni=self.cni,
            proxy=self.proxy,
            traffic={"workload": "udp_rr", "transactions": 1},
        )
        last = f"svc-{self.services}"
        packets = trace(scenario, "client-1", last, payload_bytes=1).packets
        found = next(one for one in packets if one.kind == self.packet)
        if self.measure == "rules_tested":
            return float(
                sum(tested for (_, place), tested in found.path.rules_tested.items() if place == "nat/PREROUTING")
            )
        return float(found.total_ns)
