"""Tunnels whose packets pass threads: flannel's UDP and WireGuard back ends, and Calico with WireGuard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kubesim.cni import cni_class
from kubesim.kernel.packet import Packet
from kubesim.proxy import proxy_class
from kubesim.scenario.deployment import Deployment
from tests.clusters import cluster_of, rules, send
from tests.clusters import converse as speak
from tests.cni.test_hook_traversal import TOPOLOGY, converse
from tests.scenarios import PROXIES, simulate

if TYPE_CHECKING:
    from kubesim.kernel.walk import Path as WalkedPath
    from kubesim.scenario import Result

CALICO = {"name": "calico-bgp", "encryption": "wireguard"}
CALICO_IPIP = {"name": "calico-ipip", "encryption": "wireguard"}
TUNNELS: dict[str, tuple[dict[str, Any], str, int]] = {
    "flannel-udp": ({"name": "flannel-udp"}, "flannel0", 8285),
    "flannel-wireguard": ({"name": "flannel-wireguard"}, "flannel-wg", 51820),
    "calico": (CALICO, "wireguard.cali", 51820),
    "calico over ipip": (CALICO_IPIP, "wireguard.cali", 51820),
}
"""What is set, the device, and the port that both nodes use."""

MANY_CORES = {"cores": 32, "softirq_cores": 16, "nic_gbit_per_s": 100}


def bring_up(cni: dict[str, Any], tmp_path: Path, proxy: str = "iptables") -> Deployment:
    """The topology of the measured hook traversals."""
    cluster = cluster_of(TOPOLOGY, tmp_path)
    settings = {key: value for key, value in cni.items() if key != "name"}
    plugin, proxy_plugin = cni_class(cni["name"]), proxy_class(proxy)
    return Deployment(
        cluster,
        plugin(cluster, plugin.settings_model(**settings), 1500),
        proxy_plugin(cluster, proxy_plugin.settings_model()),
        "192.168.0.0/24",
        1500,
    )


def inet_hooks(path: WalkedPath) -> list[tuple[str, str, str | None, str | None]]:
    return [(one.host, one.hook, one.in_device, one.out_device) for one in path.hooks if one.family == "inet"]


@pytest.mark.parametrize("name", sorted(TUNNELS))
def test_hooks_in_order(name: str, tmp_path: Path) -> None:
    cni, device, _ = TUNNELS[name]
    path = converse(bring_up(cni, tmp_path), "10.96.0.21", 53)[0]
    is_bridged = name.startswith("flannel")
    pod_side = {
        "n1": "cni0" if is_bridged else "cali-default/p11",
        "n2": "cni0" if is_bridged else "cali-default/p21",
    }
    sent_by = None if name == "flannel-udp" else device
    assert inet_hooks(path) == [
        ("n1", "prerouting", pod_side["n1"], None),
        ("n1", "forward", pod_side["n1"], device),
        ("n1", "postrouting", pod_side["n1"], device),
        ("n1", "output", None, "eth0"),
        ("n1", "postrouting", sent_by, "eth0"),
        ("n2", "prerouting", "eth0", None),
        ("n2", "input", "eth0", None),
        ("n2", "prerouting", device, None),
        ("n2", "forward", device, pod_side["n2"]),
        ("n2", "postrouting", device, pod_side["n2"]),
    ]
    assert any(one.family == "bridge" for one in path.hooks) is is_bridged
    assert path.packet.destination == "10.244.2.21"


@pytest.mark.parametrize("name", sorted(TUNNELS))
def test_two_nodes_have_one_connection_that_is_established(name: str, tmp_path: Path) -> None:
    cni, _, port = TUNNELS[name]
    deployment = bring_up(cni, tmp_path)
    _, reply, second = converse(deployment, "10.96.0.21", 53)
    for node in ("n1", "n2"):
        conntrack = deployment.host(node).root.conntrack
        assert conntrack is not None
        outer = [one for one in conntrack.connections() if one.original.destination_port == port]
        assert [(one.original.source_port, one.has_reply) for one in outer] == [(port, True)]
    assert rules(reply, "n2", "nat/OUTPUT") == 0, "conntrack knows it from the other side"
    assert rules(second, "n1", "nat/OUTPUT") == 0


@pytest.mark.parametrize(
    ("cni", "mtu", "overhead_bytes"),
    [({"name": "flannel-udp"}, 1472, 28), ({"name": "flannel-wireguard"}, 1420, 60 + 12), (CALICO, 1440, 60 + 12)],
    ids=str,
)
def test_headers_and_mtu(cni: dict[str, Any], mtu: int, overhead_bytes: int, tmp_path: Path) -> None:
    deployment = bring_up(cni, tmp_path, "none")
    assert deployment.cni.pod_mtu == mtu
    packet = Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, 1000)  # 1028 bytes, 1040 when padded
    (line,) = (hop for hop in send(deployment, "10.244.1.11", packet).hops if hop.operation == "nic_serialise")
    assert line.size_bytes == 20 + 14 + 4 + 20 + 8 + 1000 + overhead_bytes


def test_calico_encrypts_in_place_of_ipip(tmp_path: Path) -> None:
    deployment = bring_up(CALICO_IPIP, tmp_path)
    assert deployment.cni.pod_mtu == 1440
    path = converse(deployment, "10.244.2.21", 5353)[0]
    done = {hop.operation for hop in path.hops}
    assert "wireguard_encrypt" in done
    assert "ipip_encapsulate" not in done


def test_pods_of_one_node_are_not_encrypted(tmp_path: Path) -> None:
    path = converse(bring_up(CALICO, tmp_path), "10.244.1.12", 5353)[0]
    assert path.reason is None
    assert not [hop for hop in path.hops if hop.operation.startswith(("wireguard", "worker"))]


def used_cores(result: Result, host: str, kind: str) -> set[int]:
    """Which of a host's cores are busy."""
    busy = result.utilisation
    return set(busy[(busy["host"] == host) & (busy["kind"] == kind) & (busy["busy_ns"] > 0)]["number"])


@pytest.mark.parametrize("cni", [{"name": "flannel-udp"}, {"name": "flannel-wireguard"}, CALICO], ids=str)
def test_two_nodes_share_one_receive_queue(cni: dict[str, Any]) -> None:
    traffic = {"workload": "udp_stream", "connections": 20, "clients": 1, "datagrams": 50, "rate_per_s": 1000}
    far = {"endpoint_nodes": ["node-2"]}
    result = simulate(cni=cni, proxy="none", cluster=far, hardware=MANY_CORES, traffic=traffic)
    assert len(used_cores(result, "node-2", "softirq core")) == 1
    spread = simulate(cni="flannel-vxlan", proxy="none", cluster=far, hardware=MANY_CORES, traffic=traffic)
    assert len(used_cores(spread, "node-2", "softirq core")) > 4


def stream(cni: str | dict[str, Any], connections: int) -> Result:
    traffic = {"workload": "tcp_stream", "buffers": 100, "clients": 1, "connections": connections}
    return simulate(cni=cni, hardware=MANY_CORES, traffic=traffic)


def test_one_core_binds_all_streams_through_a_daemon() -> None:
    one, eight = stream("flannel-udp", 1), stream("flannel-udp", 8)
    for result in (one, eight):
        busiest = result.utilisation.sort_values("busy_ns").iloc[-1]
        assert (busiest["kind"], busiest["number"]) == ("application core", 15), "flanneld's"
        assert busiest["utilisation"] > 0.9
    assert eight.summary["goodput_bit_per_s"] < 1.1 * one.summary["goodput_bit_per_s"]
    assert one.summary["goodput_bit_per_s"] < stream("flannel-vxlan", 1).summary["goodput_bit_per_s"] / 5


def test_wireguard_encrypts_on_all_cores_and_sends_on_one() -> None:
    result = stream("flannel-wireguard", 1)
    assert used_cores(result, "node-1", "application core") == set(range(16))
    busy = result.utilisation
    cores = busy[(busy["host"] == "node-1") & (busy["kind"] == "application core")]["utilisation"].sort_values()
    assert cores.iloc[-1] > 0.6, "who sends in order"
    assert cores.iloc[:-2].max() < 0.2, "all others, but for the application's"
    eight = stream("flannel-wireguard", 8)
    assert eight.summary["goodput_bit_per_s"] < 1.3 * result.summary["goodput_bit_per_s"], "but what is in order binds"


def test_new_flows_find_the_tunnel_known() -> None:
    far = {"services": 300, "endpoint_nodes": ["node-2"]}
    for cni in ({"name": "flannel-udp"}, {"name": "flannel-wireguard"}):
        tested = [
            simulate(cni=one, cluster=far, traffic={"workload": "tcp_crr"}).summary["first_packet_rules"]
            for one in (cni, "flannel-host-gw", "flannel-vxlan")
        ]
        assert tested[0] < tested[1] + 60, "a node's own filter rules, and no chain of Services more"
        assert tested[0] + 400 < tested[2]


def test_each_segment_of_a_message_pays() -> None:
    """A request of ten segments against one of one: what flanneld does grows tenfold."""

    def daemon_ns(segments: int) -> float:
        size = segments * (1472 - 52)
        traffic = {"workload": "tcp_rr", "request_bytes": size, "transactions": 20}
        hops = simulate(cni="flannel-udp", traffic=traffic).hops()
        chosen = hops[(hops["kind"] == "request") & hops["operation"].isin(["tun_daemon_lookup", "udp_send"])]
        return float(chosen["cost_ns"].sum())

    assert daemon_ns(10) == pytest.approx(10 * daemon_ns(1))


@pytest.mark.parametrize("source", ["10.244.1.11", "192.168.0.11"])
@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("name", ["calico", "calico over ipip"])
def test_encrypted_calico_delivers_both_ways(name: str, proxy: str, source: str, tmp_path: Path) -> None:
    deployment = bring_up(TUNNELS[name][0], tmp_path, proxy)
    target = ("10.244.2.21", 5353) if proxy_class(proxy).is_headless else ("10.96.0.21", 53)
    found = speak(deployment, source, *target, protocol="udp")
    for request, reply in ((found.first, found.first_reply), (found.established, found.reply)):
        assert request is not None
        assert reply is not None
        assert request.packet.destination == "10.244.2.21"
        assert (request.reason, reply.reason) == (None, None)
        assert (reply.packet.source, reply.packet.source_port) == target
        assert reply.packet.destination == source


def test_what_a_sender_hands_to_a_thread_is_no_longer_its_own() -> None:
    """A datagram has left when the daemon's ring has it; what comes then is of its arrival."""
    hops = simulate(cni="flannel-udp", traffic={"workload": "udp_stream", "datagrams": 50}).hops()
    sent = set(hops[hops["operation"] == "syscall_send"]["packet"]) & set(
        hops[hops["operation"] == "tun_transmit"]["packet"]
    )
    assert len(sent) == 50
    assert not hops["packet"].isin(sent)[hops["operation"].isin(["nic_serialise", "tun_read"])].any()


def test_longer_ways_draw_the_same_luck() -> None:
    """Alternatives are compared with the same packets, however many threads these pass."""
    first = [
        np.log(simulate(cni=cni, traffic={"workload": "tcp_rr"}).planned.plan.service_ns[3::2, 0])
        for cni in ("flannel-wireguard", "flannel-vxlan")
    ]
    assert np.corrcoef(first)[0, 1] > 0.99


def test_what_a_daemon_does_not_read_in_time_is_lost() -> None:
    traffic = {"workload": "udp_stream", "message_bytes": 64, "datagrams": 3000}
    flood = simulate(cni="flannel-udp", hardware=MANY_CORES, traffic={**traffic, "connections": 4})
    assert flood.summary["loss_ratio"] > 0.2
    assert flood.summary["latency_p99_ns"] < 5_000_000, "queues are finite"
    assert simulate(cni="flannel-udp", traffic={**traffic, "rate_per_s": 1000}).summary["loss_ratio"] == 0
