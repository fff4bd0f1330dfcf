"""A bridge whose frames do not pass iptables: Services on the same bridge break, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.scenario import trace
from tests.clusters import Conversation, cluster_of, converse, deploy
from tests.cni.test_hook_traversal import TOPOLOGY
from tests.scenarios import scenario, simulate

CNIS = ["flannel-host-gw", "flannel-vxlan"]
PROXIES = ["iptables", "nftables", "ipvs"]


def call(cni: str, proxy: str, target: str, port: int, tmp_path: Path, *, is_on: bool) -> Conversation:
    """From the first pod of the measured topology."""
    deployment = deploy(cluster_of(TOPOLOGY, tmp_path), {"name": cni, "bridge_nf_call_iptables": is_on}, proxy)
    return converse(deployment, "10.244.1.11", target, port, "udp")


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("cni", CNIS)
def test_a_service_on_the_same_bridge_breaks(cni: str, proxy: str, tmp_path: Path) -> None:
    found = call(cni, proxy, "10.96.0.11", 53, tmp_path, is_on=False)
    assert found.first.reason is None
    assert found.first.packet.destination == "10.244.1.12", "the request comes to the endpoint"
    assert found.first_reply is not None
    assert found.first_reply.packet.source == "10.244.1.12", "nobody has translated the reply back"
    assert found.first_reply.delivered_to is None
    assert found.first_reply.reason == (
        "default/p11 gets an answer of 10.244.1.12:5353, but has called 10.96.0.11:53: no socket takes it"
    )
    works = call(cni, proxy, "10.96.0.11", 53, tmp_path, is_on=True)
    assert works.reply is not None
    assert works.reply.reason is None


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize(("target", "port"), [("10.96.0.21", 53), ("10.244.1.12", 5353), ("10.244.2.21", 5353)])
@pytest.mark.parametrize("cni", CNIS)
def test_other_nodes_and_pods_are_reached(cni: str, target: str, port: int, proxy: str, tmp_path: Path) -> None:
    found = call(cni, proxy, target, port, tmp_path, is_on=False)
    assert found.reply is not None
    assert found.reply.reason is None
    assert found.reply.packet.source == target


def test_the_request_is_routed_and_the_reply_switched(tmp_path: Path) -> None:
    found = call("flannel-host-gw", "iptables", "10.96.0.11", 53, tmp_path, is_on=False)
    assert [(one.family, one.hook) for one in found.first.hooks] == [
        ("bridge", "br_prerouting"), ("bridge", "br_input"), ("inet", "prerouting"), ("inet", "forward"),
        ("inet", "postrouting"), ("bridge", "br_output"), ("bridge", "br_postrouting"),
    ]  # fmt: skip
    assert found.first_reply is not None
    assert [(one.family, one.hook) for one in found.first_reply.hooks] == [
        ("bridge", "br_prerouting"), ("bridge", "br_forward"), ("bridge", "br_postrouting"),
    ]  # fmt: skip


@pytest.mark.parametrize("workload", ["tcp_rr", "tcp_crr", "udp_rr"])
def test_a_run_says_so(workload: str) -> None:
    cni = {"name": "flannel-vxlan", "bridge_nf_call_iptables": False}
    result = simulate(cni=cni, cluster={"endpoint_nodes": ["node-1"]}, traffic={"workload": workload})
    assert result.summary["transactions"] == 0
    assert result.summary["refused_flows"] > 0
    (reason,) = result.planned.refusals
    assert "no socket takes it" in reason
    assert "not one of the connections gets anywhere: there is nothing to measure" in result.notices


def test_a_trace_shows_it() -> None:
    cni = {"name": "flannel-vxlan", "bridge_nf_call_iptables": False}
    found = trace(scenario(cni=cni, cluster={"endpoint_nodes": ["node-1"]}), "client-1", "svc-01")
    assert [packet.kind for packet in found.packets] == ["first", "first_reply"]
    assert found.packets[-1].delivered_to is None
    assert "no socket takes it" in str(found.packets[-1].path.reason)
