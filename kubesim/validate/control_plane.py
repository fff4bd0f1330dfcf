"""Predictions of what kube-proxy writes, and of how long iptables-restore takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from kubesim.cluster import ClusterSpec, build_cluster
from kubesim.proxy import proxy_class
from kubesim.validate.predictor import Predictor

if TYPE_CHECKING:
    from kubesim.validate.bench import Bench


class RuleCount(Predictor):
    """Rules of one table in the text that kube-proxy's first sync hands to iptables-restore."""

    by: Literal["rule_count"]
    services: int = Field(ge=0)
    endpoints: int = Field(default=1, ge=0)
    table: Literal["nat", "filter"] = "nat"
    has_cluster_cidr: bool = Field(default=True, description="whether kube-proxy can tell pods from others")
    is_beyond_empty: bool = Field(default=False, description="leave out what is there without Services")

    @property
    def how(self) -> str:
        """The sizes."""
        return f"rules that are written, {self.table}, {self.services} Services x {self.endpoints} endpoints"

    def predict(self, bench: Bench) -> float:  # noqa: ARG002 - rules are the same on every machine
        """Write and count them."""
        there_already = self._count(0) if self.is_beyond_empty else 0
        return float(self._count(self.services) - there_already)

    def _count(self, services: int) -> int:
        plugin = proxy_class("iptables")
        cluster = build_cluster(ClusterSpec(nodes=1, services=services, endpoints=self.endpoints))
        settings = plugin.settings_model(**({} if self.has_cluster_cidr else {"cluster_cidr": []}))
        text = plugin(cluster, settings).text(cluster.nodes[0], "restore", "ipv4")
        table = text[text.index(f"*{self.table}\n") :]
        return table[: table.index("COMMIT")].count("\n-A ")


class Restore(Predictor):
    """One run of ``iptables-restore --noflush``."""

    by: Literal["iptables_restore"]
    there: int = Field(ge=0, description="rules that are in the table before")
    added: int = Field(ge=1, description="rules that it adds")

    @property
    def how(self) -> str:
        """The sizes."""
        return f"priced: {self.added} rules read, a table of {self.there + self.added} replaced"

    def predict(self, bench: Bench) -> float:
        """Price it."""
        costs = bench.costs
        replaced_ns = costs.price_ns("iptables_replace_table", self.there + self.added)
        return float(costs.price_ns("iptables_restore", self.added) + replaced_ns)
