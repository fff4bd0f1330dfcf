"""Runs among rules of real nodes, which may treat pods of one node each in their own way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.proxy import proxy_class
from kubesim.scenario import Result
from kubesim.scenario.simulation import deploy
from tests.clusters import ROUTED
from tests.scenarios import scenario, simulate

if TYPE_CHECKING:
    from kubesim.proxy import Family

PORT = 8080
CLUSTER: dict[str, Any] = {"nodes": 2, "services": 2, "endpoints": 2, "endpoint_nodes": None}
Way = Literal["cluster-ip", "endpoints"]
WAYS: tuple[Way, ...] = ("cluster-ip", "endpoints")


def traffic_by(way: Way) -> dict[str, Any]:
    return {
        "workload": "poisson_connections",
        "connections": 32,
        "requests": 1,
        "clients": 4,
        "clients_on": ["node-1", "node-2"],
        "through": way,
    }


def addresses() -> dict[str, str]:
    """The address of each pod, by its name."""
    deployment = deploy(scenario(cluster=CLUSTER, traffic=traffic_by("cluster-ip")))
    found = {pod.full_name: pod.address for pod in deployment.cluster.pods}
    for _, service, port in deployment.cluster.service_ports():
        for endpoint in deployment.cluster.endpoints(service, port):
            found[deployment.server_name(endpoint.address, endpoint.port)] = endpoint.address
    return found


ADDRESSES = addresses()
CLIENTS = sorted(name for name in ADDRESSES if "client" in name)
SERVERS = sorted(set(ADDRESSES) - set(CLIENTS))


def run_with(
    *, more: str = "", first: str = "", way: Way = "cluster-ip", form: str = "save", proxy: str = "iptables"
) -> Result:
    """Run among the rules of a proxy as a dump, with further text behind them, or a rule in front of PREROUTING's."""
    with tempfile.TemporaryDirectory() as directory:
        deployment = deploy(scenario(cluster=CLUSTER, cni=ROUTED, proxy=proxy, traffic=traffic_by(way)))
        dumps: dict[str, list[str]] = {}
        family: Family = "ipv4"
        for node in deployment.cluster.nodes:
            text = deployment.proxy.text(node, form, family)
            text = text.replace("-A PREROUTING ", f"{first}\n-A PREROUTING ", 1) if first else text
            file = Path(directory) / node.name
            file.write_text(text + more)
            dumps[node.name] = [str(file)]
        dump = {"name": "dump", "node_rules": dumps}
        return simulate(cluster=CLUSTER, cni=ROUTED, proxy=dump, traffic=traffic_by(way))


def ends(result: Result) -> pd.DataFrame:
    """Who spoke with whom, one row per connection."""
    return result.transactions[["client", "server"]]


@pytest.mark.parametrize(("proxy", "form"), [("iptables", "save"), ("nftables", "nft")])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_proxy_writes_costs_the_same_as_a_dump(proxy: str, form: str, way: Way) -> None:
    """So a proxy's rules treat pods of a node alike, and walking them pod by pod finds nothing else."""
    own = simulate(cluster=CLUSTER, cni=ROUTED, proxy=proxy, traffic=traffic_by(way))
    dumped = run_with(proxy=proxy, form=form, way=way)
    pd.testing.assert_frame_equal(own.transactions, dumped.transactions)
    assert not proxy_class(proxy).tells_pods_apart
    assert len(dumped.classes.routes) > len(own.classes.routes)


def dropping(tool: str, option: str, address: str) -> str:
    """Text that drops forwarded packets from, or to, an address."""
    if tool == "iptables":
        return f"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD {option} {address}/32 -j DROP\nCOMMIT\n"
    field = {"-s": "saddr", "-d": "daddr"}[option]
    hook = "type filter hook forward priority -150; policy accept;"
    return f"\ntable ip walls {{\n\tchain forward {{\n\t\t{hook}\n\t\tip {field} {address} drop\n\t}}\n}}\n"


@settings(max_examples=12, deadline=None)
@given(
    victim=st.sampled_from(CLIENTS + SERVERS),
    option=st.sampled_from(["-s", "-d"]),
    proxy=st.sampled_from([("iptables", "save"), ("nftables", "nft")]),
    way=st.sampled_from(WAYS),
)
def test_a_pod_whose_packets_are_dropped_loses_its_connections_and_no_other_does(
    victim: str, option: str, proxy: tuple[str, str], way: Way
) -> None:
    """Whichever direction is dropped, and whether it is one of the pods that call or of those that serve."""
    name, form = proxy
    result = run_with(proxy=name, form=form, way=way, more=dropping(name, option, ADDRESSES[victim]))
    seen = result.transactions
    is_victims = (seen["client"] == victim) | (seen["server"] == victim)
    assert 0 < is_victims.sum() < len(seen)
    assert (seen["is_complete"] == ~is_victims).all()
    assert result.summary["refused_flows"] == is_victims.sum()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", ["-s", "-d"])
def test_a_pod_whose_connections_are_sent_elsewhere_finds_another_server(option: str, way: Way) -> None:
    """``-s`` takes what one client calls; ``-d`` what is for one server, also once another node has chosen it."""
    victim, other = ("default/client-3" if option == "-s" else "default/svc-1-1"), "default/svc-2-1"
    rule = f"-A PREROUTING {option} {ADDRESSES[victim]}/32 -p tcp -j DNAT --to-destination {ADDRESSES[other]}:{PORT}"
    before, after = run_with(way=way), run_with(first=rule, way=way)
    is_sent = ends(before)["client" if option == "-s" else "server"] == victim
    if option == "-d" and way == "cluster-ip":  # on the caller's own node, the endpoint is not in the header yet
        is_sent &= ends(before)["client"].map(node_of) != node_of(victim)
    expected = ends(before)["server"].mask(is_sent, other)
    assert is_sent.any()
    assert after.transactions["is_complete"].all()
    assert ends(after)["server"].tolist() == expected.tolist()


def node_of(pod: str) -> str:
    """The node that a pod's address is of."""
    return f"node-{int(ADDRESSES[pod].split('.')[2]) + 1}"
