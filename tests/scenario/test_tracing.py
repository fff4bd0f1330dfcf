"""Single packets, hop by hop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubesim.errors import InputError
from kubesim.scenario import trace
from kubesim.scenario.simulation import deploy
from tests.scenarios import scenario


def test_the_four_packets_of_a_connection() -> None:
    found = trace(scenario(), "client-1", "svc-04")
    assert [packet.kind for packet in found.packets] == ["first", "first_reply", "established", "reply"]
    first, first_reply, established, reply = found.packets
    assert first.sent == "10.244.0.2:40000 > 10.96.0.4:80"
    assert first.delivered_to == established.delivered_to == "default/svc-04-0"
    assert first_reply.delivered_to == reply.delivered_to == "default/client-1"
    assert first.rules_tested > established.rules_tested == 19, "9 on the sender, 10 on the receiver, as measured"
    assert first.total_ns > established.total_ns
    assert first.total_ns == sum(hop.cost_ns for hop in first.hops)
    assert first.cpu_ns < first.total_ns
    assert established.wakeups == 2, "the core of the receive queue, and that of the process"


def test_the_json_is_as_documented() -> None:
    text = json.dumps(trace(scenario(), "client-1", "svc-04").to_dict())
    packets: list[dict[str, Any]] = json.loads(text)["packets"]
    for packet in packets:
        assert set(packet) >= {"kind", "hops", "rules_tested", "delivered_to", "total_ns"}
        assert packet["total_ns"] == sum(hop["cost_ns"] for hop in packet["hops"])
        assert packet["rules_tested"] == sum(packet["rules_tested_at"].values())
        for hop in packet["hops"]:
            assert set(hop) >= {"node", "operation", "count", "cost_ns"}
    assert packets[0]["to"].endswith(":8080")


@pytest.mark.parametrize(
    ("target", "sent_to"),
    [
        ("svc-04", "10.96.0.4:80"),
        ("svc-04:80", "10.96.0.4:80"),
        ("default/svc-04", "10.96.0.4:80"),
        ("svc-04.default.svc.cluster.local", "10.96.0.4:80"),
        ("svc-04-1", "10.244.1.12:8080"),
        ("default/svc-04-1:9000", "10.244.1.12:9000"),
        ("10.96.0.4:80", "10.96.0.4:80"),
        ("10.244.1.12", "10.244.1.12:80"),
        ("192.168.0.12:22", "192.168.0.12:22"),
        ("node-2:22", "192.168.0.12:22"),
    ],
)
def test_targets(target: str, sent_to: str) -> None:
    found = trace(scenario(), "client-1", target)
    assert found.packets[0].sent.endswith(f"> {sent_to}")
    assert found.packets[0].delivered_to is not None


def test_without_a_proxy_a_name_leads_to_a_pod_and_a_virtual_address_nowhere() -> None:
    by_name = trace(scenario(proxy="none"), "client-1", "svc-04")
    assert by_name.packets[0].sent.endswith("> 10.244.1.11:8080")
    by_address = trace(scenario(proxy="none"), "client-1", "10.96.0.4")
    (lost,) = by_address.packets
    assert lost.delivered_to is None
    assert lost.path.reason == "10.96.0.4 is not in the cluster: the packet leaves through 192.168.0.1"


def test_a_node_may_be_the_sender() -> None:
    found = trace(scenario(), "node-1", "svc-04")
    assert found.packets[0].sent.startswith("192.168.0.11:40000")
    assert found.packets[3].delivered_to == "node-1"


MANIFEST = """\
{apiVersion: v1, kind: Service, metadata: {name: en}, spec: {type: ExternalName, externalName: example.org}}
---
{apiVersion: v1, kind: Service, metadata: {name: bare}, spec: {clusterIP: None, selector: {app: agent}}}
---
{apiVersion: v1, kind: Service, metadata: {name: signalling}, spec: {ports: [{port: 36412, protocol: SCTP}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, labels: {app: agent}}
spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c, ports: [{containerPort: 9100}]}]}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest with Services that lead nowhere, and a pod on the host network."""
    file = tmp_path / "manifest.yaml"
    file.write_text(MANIFEST)
    return file


def test_a_port_of_a_host_is_a_pods_only_if_the_pod_declares_it(manifest: Path) -> None:
    chosen = scenario(cluster={"manifests": [manifest]})
    address = deploy(chosen).cluster.node("node-2").address
    delivered = {port: trace(chosen, "client-1", f"{address}:{port}").packets[0].delivered_to for port in (9100, 10250)}
    assert delivered == {9100: "default/agent", 10250: "node-2"}
    by_udp = trace(chosen, "client-1", f"{address}:9100", protocol="udp").packets[0]
    assert by_udp.delivered_to == "node-2"
    assert [packet.delivered_to for packet in trace(chosen, "agent", "svc-04").packets[1::2]] == ["default/agent"] * 2


@pytest.mark.parametrize(
    ("target", "protocol", "message"),
    [
        ("en", None, "to: Service en is an ExternalName, another name in DNS: no packet goes through it"),
        ("bare", None, "to: Service bare has no ports"),
        ("signalling", None, "protocol: only tcp and udp can be traced, not 'sctp'"),
        ("svc-04", "sctp", "protocol: only tcp and udp can be traced, not 'sctp'"),
    ],
)
def test_what_cannot_be_traced(target: str, protocol: str | None, message: str, manifest: Path) -> None:
    with pytest.raises(InputError) as caught:
        trace(scenario(cluster={"manifests": [manifest]}), "client-1", target, protocol=protocol)
    assert message in str(caught.value)


def test_udp_and_sizes() -> None:
    tcp = trace(scenario(), "client-1", "svc-04-0", payload_bytes=4000).packets[0]
    assert next(hop.hop.items for hop in tcp.hops if hop.hop.operation == "nic_receive") == 3
    udp = trace(scenario(), "client-1", "10.244.1.11", protocol="udp").packets[0]
    assert "udp_send" in [hop.hop.operation for hop in udp.hops]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("client-9", "svc-04", "from: there is no pod, node or machine outside 'client-9': did you mean 'client-1'?"),
        ("node-9", "svc-04", "from: there is no pod, node or machine outside 'node-9': did you mean 'node-"),
        ("client-1", "node-9", "to: there is no Service, pod or node 'node-9': did you mean 'node-"),
        ("client-1", "svc-4", "to: there is no Service, pod or node 'svc-4': did you mean 'svc-"),
        ("client-1", "svc-04:http", "to: Service svc-04 has no port 'http': known: 80"),
        ("client-1", "svc-04-0:99999", "to: '99999' is not a port"),
        ("client-1", "", "to: a Service, a pod, a node or an address is needed"),
    ],
)
def test_whom_nobody_knows(source: str, target: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        trace(scenario(), source, target)
    assert message in str(caught.value)
