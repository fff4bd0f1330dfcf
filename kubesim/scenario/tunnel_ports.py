"""How often conntrack knows the source port that a tunnel gives to a new connection.

VXLAN takes the outer source port from a hash of the inner flow, out of 28 232 ports per pair of nodes. A port that
another connection has used within conntrack's timeout of UDP still has an entry, and its packets skip the nat chains.
With new connections at random times, a port has been used lately with probability ``1 − exp(−rate · timeout / ports)``:
nearly never in a quiet cluster, nearly always at some thousand connections per second.
"""

from __future__ import annotations

from math import exp, log10
from typing import TYPE_CHECKING

import numpy as np

from kubesim.kernel.netfilter.conntrack import UDP_TIMEOUT_S
from kubesim.kernel.udp_tunnel import SOURCE_PORTS
from kubesim.units import NS_PER_S

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.kernel.walk import Hop
    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.streams import Streams

_WORTH_SAYING = 0.1


def known_ratio(connections_per_s: float) -> float:
    """The share of new connections whose tunnel port conntrack knows, at a rate per pair of nodes."""
    return 1 - exp(-connections_per_s * UDP_TIMEOUT_S / SOURCE_PORTS)


def draw_known(
    connections_per_s: float | None, flows: int, streams: Streams, *, is_one_flow: bool
) -> npt.NDArray[np.bool_]:
    """Whether conntrack knows the tunnel port of each flow; no rate stands for a quiet cluster, where it knows none.

    A tunnel without ports, as IPIP is, or with fixed ones, as WireGuard's, is one connection for each pair of nodes,
    which conntrack has always known: what nodes say to each other keeps it there, 600 s or 120 s at a time.
    """
    if is_one_flow:
        return np.ones(flows, np.bool_)
    numbers = streams.generator("tunnel port of each flow").random(flows)
    return np.asarray(numbers < known_ratio(connections_per_s or 0), np.bool_)


def notice_of_reuse(classes: FlowClasses, end_ns: int) -> str | None:
    """What to say if a run that was taken for a quiet cluster opens connections so fast that tunnel ports repeat."""
    counts: dict[tuple[str, str], int] = {}
    for route, flows in zip(classes.routes, np.bincount(classes.route, minlength=len(classes.routes)), strict=True):
        hops = next(iter(route.values())).hops
        if _scans_behind_vxlan([one.hop for one in hops]):
            pair = hops[0].hop.host, hops[-1].hop.host
            counts[pair] = counts.get(pair, 0) + int(flows)
    if not counts or end_ns <= 0:
        return None
    rate_per_s = max(counts.values()) / end_ns * NS_PER_S
    known = known_ratio(rate_per_s)
    if known < _WORTH_SAYING or max(counts.values()) < 1 / _WORTH_SAYING:
        return None
    rounded = round(rate_per_s, -int(log10(rate_per_s)))
    return (
        f"a pair of nodes opens about {rounded:,.0f} connections per s; if that lasts, the tunnel's {SOURCE_PORTS:,} "
        f"source ports come again within conntrack's {UDP_TIMEOUT_S} s, and {known:.0%} of new connections are spared "
        f"the nat chains that all pay here: set cluster.background_connections_per_s to {rounded:.0f} to see that"
    )


def _scans_behind_vxlan(hops: list[Hop]) -> bool:
    """Whether a packet goes through VXLAN, and its outer packet is held against rules of nat's OUTPUT."""
    operations = [hop.operation for hop in hops]
    if "vxlan_encapsulate" not in operations:
        return False
    wrapped = operations.index("vxlan_encapsulate")
    sent = operations.index("nic_transmit", wrapped) if "nic_transmit" in operations[wrapped:] else len(operations)
    return any(
        hop.operation.endswith("_rule") and hop.at.startswith("nat") and hop.at.endswith("OUTPUT")
        for hop in hops[wrapped:sent]
    )
