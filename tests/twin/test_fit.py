"""Prices from times."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from kubesim.cost import load_cost_set
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Context, Hop, Path
from kubesim.twin.cases import Measured, Way
from kubesim.twin.fit import fit
from kubesim.twin.probe import Timing

BASE = load_cost_set("published-x86-server")


def hop(operation: str, items: int = 1, size_bytes: int = 0) -> Hop:
    return Hop("node-1", Context.PROCESS, operation, items, size_bytes, "")


def measured(hops: tuple[Hop, ...], time_ns: float) -> Measured:
    packet = Packet("10.0.0.1", "10.0.0.2", "udp", 1, 2, 64)
    path = Path(hops, (), {}, "server", None, packet, None)
    return Measured(Way("a twin", "svc", 64, is_new=True), "server", Timing(time_ns, time_ns, 100), path)


def designed(veth_ns: float, rule_ns: float, lookup_ns: float) -> list[Measured]:
    """Ways that tell three operations apart, timed by these prices."""
    ways = []
    for veths, rules, lookups in [(1, 0, 0), (2, 0, 1), (3, 10, 0), (1, 100, 2), (2, 300, 1), (1, 50, 3)]:
        hops = [hop("veth_transmit")] * veths + [hop("route_lookup")] * lookups
        hops += [hop("iptables_rule", rules)] if rules else []
        ways.append(measured(tuple(hops), veths * veth_ns + rules * rule_ns + lookups * lookup_ns))
    return ways


@given(st.floats(300, 2000), st.floats(2, 20), st.floats(20, 200))
def test_ways_that_were_not_measured_are_predicted(veth_ns: float, rule_ns: float, lookup_ns: float) -> None:
    found = fit(designed(veth_ns, rule_ns, lookup_ns), BASE)
    other = (hop("veth_transmit"), hop("iptables_rule", 200), hop("route_lookup"), hop("route_lookup"))
    truth_ns = veth_ns + 200 * rule_ns + 2 * lookup_ns
    assert found.predict_ns(other, BASE) == pytest.approx(truth_ns, rel=0.1)
    assert np.all(found.values_ns >= 0)
    assert np.all(found.errors_ns >= 0)


def test_the_machine_s_speed_is_found() -> None:
    def base_ns(operation: str, items: int = 1) -> int:
        return BASE.price_ns(operation, items, 0)

    ways = [
        measured(tuple(hops), 2.0 * sum(base_ns(one.operation, one.items) for one in hops))
        for hops in ([hop("veth_transmit")], [hop("veth_transmit"), hop("route_lookup")], [hop("route_lookup")] * 5)
    ]
    assert fit(ways, BASE).speed == pytest.approx(2.0, rel=0.02)


def test_operations_that_always_come_together_share_as_in_the_base_set() -> None:
    pair = (hop("veth_transmit"), hop("backlog"))
    found = fit([measured(pair * times, 3000.0 * times) for times in (1, 2, 3)], BASE)
    assert found.predict_ns(pair, BASE) == pytest.approx(3000, rel=0.02)
    made = found.cost_set(BASE, "here", name="mine")
    shares = [one.price_ns("veth_transmit", 1, 0) / one.price_ns("backlog", 1, 0) for one in (made, BASE)]
    assert shares[0] == pytest.approx(shares[1], rel=0.02)


def test_what_was_measured_says_so_and_the_rest_is_the_base_set_s() -> None:
    made = fit(designed(600, 5, 50), BASE).cost_set(BASE, "kubesim calibrate, somewhere", name="mine")
    fixed = made.operation("veth_transmit").fixed_ns
    assert fixed is not None
    assert fixed.kind.value == "measured"
    assert fixed.source == "kubesim calibrate, somewhere"
    assert fixed.uncertainty is not None
    assert made.operation("vxlan_encapsulate") == BASE.operation("vxlan_encapsulate")
