"""Predictions of what one packet costs a router: a host with two cards, with rules or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from kubesim.errors import InputError
from kubesim.kernel.ipvs.ipvsadm import read_ipvsadm
from kubesim.kernel.namespace import Host
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.nic import Ethernet, Nic
from kubesim.kernel.packet import Packet
from kubesim.kernel.rule_dumps import RuleDumps
from kubesim.kernel.walk import Context, Walk
from kubesim.scenario.visits import priced
from kubesim.units import NS_PER_S
from kubesim.validate.predictor import Predictor

if TYPE_CHECKING:
    from kubesim.validate.bench import Bench

_INSIDE, _OUTSIDE, _BEHIND, _SENDER, _VIRTUAL = "10.0.0.1", "10.0.1.1", "10.0.1.2", "10.0.0.2", "10.0.9.9"
_PORT, _SMALLEST_PAYLOAD_BYTES = 9, 18
_MTU = 1500
_IPVS = f"-A -u {_VIRTUAL}:{_PORT} -s sh\n-a -u {_VIRTUAL}:{_PORT} -r {_BEHIND}:{_PORT} -m -w 1\n"


class Router(Predictor):
    """The walk of a 64-byte packet from one card, priced on the core that received it."""

    by: Literal["router"]
    to: Literal["through", "self", "virtual"] = Field(
        default="through", description="forwarded; for the router itself; or for a virtual address of IPVS"
    )
    table: str | None = Field(default=None, description="table of iptables that rules are in")
    chain: str = "FORWARD"
    rule: str = Field(default="", description="one rule; {a}.{b} are its number, as two bytes of an address")
    rules: int = Field(default=1, ge=0)
    has_conntrack: bool = False
    is_established: bool = Field(default=False, description="whether a packet of its flow has gone before")
    cores: int = Field(default=1, ge=1)
    times: int = Field(default=1, ge=1, description="packets that count as one")
    measure: Literal["packet_ns", "ns_per_rule", "throughput_per_s"] = "packet_ns"

    @property
    def how(self) -> str:
        """The router, and its rules."""
        rules = f", {self.rules} rules {self.rule!r} in {self.table} {self.chain}" if self.table else ""
        conntrack = ", conntrack" if self.has_conntrack else ""
        return f"priced walk of a packet at a router, {self.to}{rules}{conntrack}"

    def predict(self, bench: Bench) -> float:
        """Walk it."""
        packet_ns = self._packet_ns(bench, self.rules) * self.times
        match self.measure:
            case "ns_per_rule":
                return (packet_ns - self._packet_ns(bench, 0) * self.times) / self.rules
            case "throughput_per_s":
                return self.cores * NS_PER_S / packet_ns
        return packet_ns

    def _packet_ns(self, bench: Bench, rules: int) -> float:
        router, card = self._build(rules)
        for _ in range(2 if self.is_established else 1):
            walk = Walk()
            walk.host = router.name
            destination = {"through": _BEHIND, "self": _INSIDE, "virtual": _VIRTUAL}[self.to]
            packet = Packet(_SENDER, destination, "udp", 40_000, _PORT, _SMALLEST_PAYLOAD_BYTES)
            walk.defer(card.poll, walk, packet)
            path = walk.run(packet)
        hops = [hop for hop in path.hops if hop.host == router.name and hop.context is Context.SOFTIRQ]
        return float(sum(hop.cost_ns for hop in priced(hops, bench.costs)))

    def _build(self, rules: int) -> tuple[Host, Nic]:
        """The router and the card that packets come in by."""
        router, behind = Host("router"), Host("behind")
        outside = Ethernet()
        card = Nic(router.root, "eth0", _MTU, Ethernet())
        router.root.add_address(card, f"{_INSIDE}/24")
        for host, address in ((router, _OUTSIDE), (behind, _BEHIND)):
            nic = Nic(host.root, "eth1", _MTU, outside)
            host.root.add_address(nic, f"{address}/24")
            outside.plug_in(nic)
        router.root.is_forwarding = True
        if self.table is not None:
            self._install(router, self.table, rules)
        if self.to == "virtual":
            RuleDumps(virtual_services=read_ipvsadm(_IPVS, "the virtual service")).install(router.root)
        return router, card

    def _install(self, router: Host, table: str, rules: int) -> None:
        lines = [f"-A {self.chain} {self.rule.format(a=n // 256, b=n % 256)}" for n in range(rules)]
        text = "\n".join([f"*{table}", *lines, "COMMIT", ""])
        rule_set = RuleSet.read(text, "rules of a target")
        if rule_set.unmodelled():
            raise InputError(f"rules of a target: not modelled: {', '.join(rule_set.unmodelled())}")
        if self.has_conntrack:
            rule_set.install(router.root)
        else:
            Table(router.root, table).replace_chains(rule_set.tables[table].values())
