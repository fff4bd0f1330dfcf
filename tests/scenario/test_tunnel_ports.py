"""Tunnel ports that repeat: what conntrack knows already is not held against the nat chains again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from shutil import which

import numpy as np
import pytest

from kubesim.kernel.udp_tunnel import SOURCE_PORTS
from kubesim.scenario.tunnel_ports import draw_known, known_ratio
from kubesim.streams import Streams
from tests.scenarios import simulate

TOOLS = ("ip", "iptables-legacy")
SERVICES = 50
ALWAYS = 1e9


def first_packet_rules(cni: str, rate_per_s: float | None) -> float:
    found = simulate(
        cni=cni,
        cluster={"services": SERVICES, "background_connections_per_s": rate_per_s},
        traffic={"workload": "tcp_crr", "transactions": 200, "to": {"choice": "last"}},
    )
    return float(found.summary["first_packet_rules"])


def test_a_known_port_spares_the_nat_chains_on_both_nodes() -> None:
    quiet, busy = first_packet_rules("flannel-vxlan", None), first_packet_rules("flannel-vxlan", ALWAYS)
    assert quiet - busy > 2 * SERVICES, "OUTPUT of the sender and PREROUTING of the receiver"
    assert quiet - busy < 2 * SERVICES + 20
    half = first_packet_rules("flannel-vxlan", np.log(2) * SOURCE_PORTS / 30)
    assert half == pytest.approx((quiet + busy) / 2, rel=0.1)


def test_what_has_no_tunnel_does_not_notice() -> None:
    assert first_packet_rules("flannel-host-gw", ALWAYS) == first_packet_rules("flannel-host-gw", None)


def test_established_packets_do_not_notice() -> None:
    rules = [
        simulate(cluster={"background_connections_per_s": rate}).summary["established_packet_rules"]
        for rate in (0, ALWAYS)
    ]
    assert rules[0] == rules[1]


def test_a_busy_run_that_was_taken_for_a_quiet_cluster_says_so() -> None:
    busy = {"workload": "tcp_crr", "transactions": 100, "connections": 4}
    (notice,) = simulate(traffic=busy).notices
    assert "set cluster.background_connections_per_s to " in notice
    assert not simulate(traffic=busy, cluster={"background_connections_per_s": 0}).notices
    assert not simulate(traffic=busy, cni="calico-bgp").notices
    assert not simulate(traffic=busy, cni="cilium", proxy="cilium-ebpf").notices, "no Service has a rule of nat"
    assert not simulate().notices, "one connection that stays"


def test_draws_follow_the_rate() -> None:
    known = draw_known(1000, 100_000, Streams(1), is_one_flow=False)
    assert known.mean() == pytest.approx(known_ratio(1000), abs=0.01)
    assert not draw_known(None, 100, Streams(1), is_one_flow=False).any()
    assert draw_known(ALWAYS, 100, Streams(1), is_one_flow=False).all()
    assert draw_known(None, 100, Streams(1), is_one_flow=True).all()


@pytest.fixture
def namespace() -> Iterator[Callable[[str], str]]:
    """Makes network namespaces, and removes them."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    missing = [tool for tool in TOOLS if which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    made: list[str] = []

    def make(name: str) -> str:
        made.append(f"kubesim-{os.getpid()}-{name}")
        shell(f"ip netns add {made[-1]}")
        return made[-1]

    try:
        yield make
    finally:
        for name in made:
            shell(f"ip netns del {name}")


def shell(command: str) -> str:
    done = subprocess.run(command.split(), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


MANY_FLOWS = """
import socket
for port in range(10_000, 40_000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("10.2.0.1", port))
        one.sendto(b"x", ("10.2.0.2", 7))
"""


@pytest.mark.root
def test_the_kernel_walks_nat_chains_once_per_port_not_per_connection(namespace: Callable[[str], str]) -> None:
    """30 000 flows through a VXLAN of Linux: as many meet the nat chains as there are new ports among them."""
    here, there = namespace("here"), namespace("there")
    shell(f"ip link add wire netns {here} type veth peer name wire netns {there}")
    for own, other, name in ((1, 2, here), (2, 1, there)):
        shell(f"ip -n {name} addr add 10.1.0.{own}/24 dev wire")
        shell(f"ip -n {name} link set wire up")
        ends = f"local 10.1.0.{own} remote 10.1.0.{other} dstport 8472"
        shell(f"ip -n {name} link add tunnel type vxlan id 1 {ends} nolearning")
        shell(f"ip -n {name} addr add 10.2.0.{own}/24 dev tunnel")
        shell(f"ip -n {name} link set tunnel up")
        shell(f"ip netns exec {name} iptables-legacy -w -A FORWARD -m conntrack --ctstate NEW")
    counters = []
    for name, hook in ((here, "OUTPUT"), (there, "PREROUTING")):
        counters.append(f"ip netns exec {name} iptables-legacy -w -t nat -vxnL {hook}")
        shell(f"ip netns exec {name} iptables-legacy -w -t nat -A {hook} -p udp --dport 8472")
    subprocess.run(["ip", "netns", "exec", here, sys.executable, "-c", MANY_FLOWS], check=True)
    flows = 30_000
    expected = SOURCE_PORTS * known_ratio(flows / 30)
    for counter in counters:
        walked = int(shell(counter).splitlines()[-1].split()[0])
        assert walked == pytest.approx(expected, rel=0.02)
