"""The stops of a packet, in order, with its headers before and after."""

from __future__ import annotations

import pytest

from kubesim.kernel.device import Device
from kubesim.kernel.namespace import Host
from kubesim.kernel.packet import FlowTuple, Packet
from kubesim.kernel.walk import Context, HookVisit, Hop, Path
from kubesim.kernel.watch import Sight, Watch
from kubesim.scenario import trace
from kubesim.scenario.stops import StopKind, stops_of
from kubesim.scenario.telling import clauses
from kubesim.scenario.visits import PricedHop, Role
from tests.scenarios import PROXIES, scenario


def test_a_service_on_the_other_node_over_vxlan() -> None:
    first = trace(scenario(), "client-1", "svc-04").packet("first")
    assert [(stop.host, stop.namespace, stop.name) for stop in first.stops] == [
        ("node-1", "default/client-1", "socket"),
        ("node-1", "default/client-1", "routing"),
        ("node-1", "default/client-1", "eth0"),
        ("node-1", "node-1", "veth-default/client-1"),
        ("node-1", "node-1", "cni0"),
        ("node-1", "node-1", "PREROUTING"),
        ("node-1", "node-1", "routing"),
        ("node-1", "node-1", "FORWARD"),
        ("node-1", "node-1", "POSTROUTING"),
        ("node-1", "node-1", "flannel.1"),
        ("node-1", "node-1", "routing"),
        ("node-1", "node-1", "OUTPUT"),
        ("node-1", "node-1", "POSTROUTING"),
        ("node-1", "node-1", "eth0"),
        ("node-1", "", "wire"),
        ("node-2", "node-2", "eth0"),
        ("node-2", "node-2", "PREROUTING"),
        ("node-2", "node-2", "routing"),
        ("node-2", "node-2", "INPUT"),
        ("node-2", "node-2", "flannel.1"),
        ("node-2", "node-2", "PREROUTING"),
        ("node-2", "node-2", "routing"),
        ("node-2", "node-2", "FORWARD"),
        ("node-2", "node-2", "POSTROUTING"),
        ("node-2", "node-2", "cni0"),
        ("node-2", "node-2", "veth-default/svc-04-0"),
        ("node-2", "default/svc-04-0", "eth0"),
        ("node-2", "default/svc-04-0", "routing"),
        ("node-2", "default/svc-04-0", "socket"),
    ]
    changed = [stop.name for stop in first.stops if stop.before != stop.after]
    assert changed == ["PREROUTING", "flannel.1", "flannel.1"]
    assert [stop.between for stop in first.stops if stop.kind is StopKind.HOOK][:3] == [
        "iif cni0",
        "iif cni0, oif flannel.1",
        "iif cni0, oif flannel.1",
    ]


def test_ipvs_takes_over_at_input() -> None:
    first = trace(scenario(cni="calico-ipip", proxy="ipvs"), "client-1", "svc-04").packet("first")
    names = [stop.name for stop in first.stops]
    assert names[:9] == [
        "socket", "routing", "eth0", "cali-default/client-1", "PREROUTING", "routing", "INPUT", "routing", "OUTPUT",
    ]  # fmt: skip
    changed = [(stop.name, len(stop.before), len(stop.after)) for stop in first.stops if stop.before != stop.after]
    assert changed == [("INPUT", 1, 1), ("tunl0", 1, 2), ("tunl0", 2, 1)]


@pytest.mark.parametrize("proxy", PROXIES)
def test_stops_are_all_of_the_way(proxy: str) -> None:
    for packet in trace(scenario(proxy=proxy), "client-1", "svc-04").packets:
        assert tuple(one for stop in packet.stops for one in stop.hops) == packet.hops
        assert sum(stop.cost_ns for stop in packet.stops) == packet.total_ns
        assert sum(stop.rules_tested for stop in packet.stops) == packet.rules_tested
        assert sum(len(stop.hooks) for stop in packet.stops) == len(packet.path.hooks)
        assert all(before.after == after.before for before, after in zip(packet.stops, packet.stops[1:], strict=False))
        assert packet.stops[-1].after == (packet.path.packet.flow,)


def test_hooks_where_nothing_is_done_are_noted_where_they_are() -> None:
    established = trace(scenario(), "client-1", "svc-04").packet("established")
    tunnel = next(stop for stop in established.stops if stop.name == "flannel.1")
    assert tunnel.passed == ("POSTROUTING",)
    bridge = next(stop for stop in established.stops if stop.name == "cni0")
    assert bridge.passed == ("br_prerouting",)


def made_up(*hops: Hop, watch: Watch | None = None, hooks: tuple[HookVisit, ...] = ()) -> Path:
    """A path of such hops."""
    packet = Packet("10.0.0.1", "10.0.0.2", "udp", 1, 2, 64)
    return Path(hops, hooks, {}, None, "lost", packet, None, watch=watch)


def test_what_is_at_no_device_goes_with_what_came_before() -> None:
    namespace = Host("a").root
    Device(namespace, "lxc1", 1500)
    Device(namespace, "lxc2", 1500)
    headers = (FlowTuple("10.0.0.1", "10.0.0.2", "udp", 1, 2),)
    path = made_up(
        *(Hop("a", Context.SOFTIRQ, "bpf_map_lookup", 1, 0, at) for at in ("lxc1", "policy", "connections", "lxc2")),
        watch=Watch([Sight(0, namespace, headers)]),
    )
    found = stops_of([PricedHop(hop, Role.SEND, 10, 0.0) for hop in path.hops], path)
    assert [(stop.name, len(stop.hops)) for stop in found] == [("lxc1", 3), ("lxc2", 1)]
    assert clauses(found[0]) == ["bpf map lookup", "bpf map lookup (policy)", "bpf map lookup (connections)"]


def test_what_nobody_has_thought_of_is_a_device_or_a_process() -> None:
    path = made_up(
        Hop("a", Context.SOFTIRQ, "bpf_redirect", 1, 0, "lxc1"),
        Hop("a", Context.DAEMON, "tun_read", 1, 64, "flanneld"),
        Hop("a", Context.DAEMON, "tun_write", 1, 64, "flanneld"),
        Hop("a", Context.WORKER, "cipher", 1, 64, "wg0"),
        Hop("a", Context.NIC, "nic_serialise", 1, 64, "eth0"),
        Hop("a", Context.WIRE, "wire", 1, 0, "eth0"),
        Hop("b", Context.SOFTIRQ, "nic_receive", 1, 0, "eth0"),
    )
    found = stops_of([PricedHop(hop, Role.SEND, 10, 0.0) for hop in path.hops], path)
    assert [(stop.host, stop.kind, stop.name, stop.cost_ns) for stop in found] == [
        ("a", StopKind.DEVICE, "lxc1", 10),
        ("a", StopKind.PROCESS, "flanneld", 20),
        ("a", StopKind.PROCESS, "wg0", 10),
        ("a", StopKind.WIRE, "wire", 20),
        ("b", StopKind.DEVICE, "eth0", 10),
    ]
    assert [stop.contexts for stop in found] == ["softirq", "daemon", "worker", "", "softirq"]


def test_what_a_process_on_the_way_sends_goes_by_devices() -> None:
    found = trace(scenario(proxy="userspace"), "client-1", "svc-04").packet("first").stops
    process = next(number for number, stop in enumerate(found) if stop.kind is StopKind.PROCESS)
    behind = [(stop.kind, stop.name) for stop in found[process + 1 :] if stop.host == "node-1"]
    assert [name for kind, name in behind if kind is StopKind.DEVICE][-2:] == ["flannel.1", "eth0"]
    assert StopKind.PROCESS not in {kind for kind, _ in behind}
