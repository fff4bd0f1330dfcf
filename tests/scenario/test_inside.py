"""Traffic that stays inside: containers of one pod, a pod that calls itself, names without a virtual address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubesim.cni import cni_names
from kubesim.errors import InputError
from kubesim.proxy import proxy_class
from kubesim.scenario import Result, Scenario, TraceResult, run, trace
from tests.clusters import cluster_of, converse, deploy
from tests.scenarios import PROXIES

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec: {nodeName: node-1, containers: [{name: web, ports: [{containerPort: 8080, name: web}]}, {name: sidecar}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, labels: {app: other}}, spec: {nodeName: node-2}}
---
{apiVersion: v1, kind: Service, metadata: {name: two}, spec: {selector: {app: two}, ports: [{port: 80, targetPort: web}]}}
---
apiVersion: v1
kind: Service
metadata: {name: bare}
spec: {clusterIP: None, selector: {app: other}, ports: [{port: 9000}]}
---
{apiVersion: v1, kind: Service, metadata: {name: elsewhere}, spec: {type: ExternalName, externalName: db.example.com}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}}
"""


def scenario(tmp_path: Path, cni: str = "flannel-vxlan", proxy: str = "iptables", **traffic: Any) -> Scenario:
    """The pod with two containers calls what it is told to."""
    file = tmp_path / "inside.yaml"
    file.write_text(MANIFEST)
    sent = {"workload": "tcp_rr", "from": "two", "to": "two", "transactions": 10, **traffic}
    data = {"cluster": {"manifests": [file]}, "cni": cni, "proxy": proxy, "traffic": sent}
    return Scenario.model_validate(data)


def devices(found: TraceResult) -> list[str]:
    """Where the first packet was, in order, each once."""
    return list(dict.fromkeys(one.hop.at for one in found.packets[0].hops))


def kinds_of(result: Result, operation: str) -> set[str]:
    """Which messages paid for an operation."""
    hops = result.hops()
    return set(hops.loc[hops["operation"] == operation, "kind"])


@pytest.mark.parametrize(("target", "source"), [("127.0.0.1:8080", "127.0.0.1"), ("default/two", None)])
def test_containers_of_a_pod_meet_on_its_loopback(target: str, source: str | None, tmp_path: Path) -> None:
    chosen = scenario(tmp_path, proxy="none")
    found = trace(chosen, "two", target)
    assert devices(found) == ["default/two", "lo"]
    assert [packet.delivered_to for packet in found.packets] == ["default/two"] * 4
    assert not found.packets[0].path.hooks, "nobody has put rules into the pod"
    assert source is None or found.packets[0].path.packet.source == source
    assert found.packets[0].wakeups == 1


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("through", ["localhost", "endpoints"])
def test_and_in_a_run(through: str, proxy: str, tmp_path: Path) -> None:
    result = run(scenario(tmp_path, proxy=proxy, through=through))
    assert result.summary["lost_transactions"] == 0
    assert kinds_of(result, "loopback_transmit") == {"syn", "syn_ack", "ack", "request", "reply"}
    assert not kinds_of(result, "veth_transmit")
    assert set(result.transactions["server"]) == {"default/two"}


def test_nobody_else_is_at_localhost(tmp_path: Path) -> None:
    result = run(scenario(tmp_path, to="bare", through="localhost"))
    assert result.planned.refusals == {"connection refused by default/two: it is no endpoint of default/bare": 1}


@pytest.mark.parametrize("proxy", [name for name in PROXIES if not proxy_class(name).is_headless])
@pytest.mark.parametrize("cni", [name for name in cni_names() if name.startswith("flannel")])
def test_a_pod_that_calls_itself_by_its_service_seems_to_be_the_bridge(cni: str, proxy: str, tmp_path: Path) -> None:
    cluster = cluster_of(MANIFEST, tmp_path)
    pod, service = cluster.pod("two"), cluster.service("two")
    found = converse(deploy(cluster, cni, proxy), pod.address, str(service.cluster_ip), 80)
    bridge = cluster.node("node-1").pod_cidr.replace(".0/24", ".1")
    assert found.first.packet.source == bridge
    assert found.first_reply is not None
    assert (found.first_reply.packet.source, found.first_reply.packet.destination) == (service.cluster_ip, pod.address)
    assert [(visit.hook, visit.out_device) for visit in found.first.hooks if visit.family == "inet"] in (
        [("prerouting", None), ("forward", "cni0"), ("postrouting", "cni0")],
        [("prerouting", None), ("input", None), ("output", "cni0"), ("postrouting", "cni0")],
    ), "netfilter sees it once, routed or, under IPVS, as if it came from the node"
    result = run(scenario(tmp_path, cni, proxy))
    assert result.summary["lost_transactions"] == 0
    assert {"syn", "request", "reply"} <= kinds_of(result, "veth_transmit"), "out of the pod and back"


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_headless_services_name_leads_to_pods(proxy: str, tmp_path: Path) -> None:
    chosen = scenario(tmp_path, proxy=proxy, to="bare")
    found = trace(chosen, "two", "bare")
    pod = next(packet.path.packet.destination for packet in found.packets)
    assert found.packets[0].sent.endswith(f"> {pod}:9000"), "no address is rewritten"
    assert found.packets[0].delivered_to == "default/other"
    result = run(chosen)
    assert set(result.transactions["server"]) == {"default/other"}
    assert not kinds_of(result, "nat_rewrite")


def test_an_external_name_has_no_data_path(tmp_path: Path) -> None:
    chosen = scenario(tmp_path, to="elsewhere")
    for way in (lambda: run(chosen), lambda: trace(chosen, "two", "elsewhere")):
        with pytest.raises(InputError, match="elsewhere is an ExternalName, another name in DNS: no packet goes"):
            way()
