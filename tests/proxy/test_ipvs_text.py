"""kube-proxy's IPVS mode: the texts it writes, example by example and feature by feature, and what the kernel says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubesim.cluster import Cluster
from kubesim.cluster.fleet import Fleet
from kubesim.cluster.records import Node
from kubesim.kernel.ipvs.ipvsadm import bucket_sizes, read_ipvsadm
from kubesim.kernel.netfilter.ipset import read_ipsets
from kubesim.kernel.netfilter.syntax import parse_rule
from kubesim.kernel.walk import Path
from kubesim.proxy._ipvs_fleet import FleetAddressEntries, FleetLoops, FleetPlaces, FleetServices
from kubesim.proxy._ipvs_rules import CHAINS
from kubesim.proxy._kube_proxy.settings import Family
from kubesim.proxy.ipvs import Plugin, Settings
from tests.clusters import ROUTED, cluster_of, converse, deploy, sized_cluster


def service(name: str, ports: str = "{port: 80}", endpoints: str = "", **spec: Any) -> str:
    """A Service and its endpoints, as text."""
    fields = "".join(f", {key}: {value}" for key, value in spec.items())
    labels = f"{{kubernetes.io/service-name: {name}}}"
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{ports}]{fields}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {labels}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{endpoints}]
---
"""


NODES = """
apiVersion: v1
kind: Node
metadata: {name: here}
spec: {podCIDR: 10.244.0.0/24}
status:
  addresses:
  - {type: InternalIP, address: 192.168.0.2}
  - {type: ExternalIP, address: 203.0.113.2}
  - {type: InternalIP, address: "2001:db8::2"}
---
apiVersion: v1
kind: Node
metadata: {name: there}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.0.3}]}
---
"""
THERE = "{addresses: [10.244.1.9], nodeName: there}"
BOTH = "{addresses: [10.244.0.9], nodeName: here}, " + THERE


class Written:
    """What the proxy writes for node ``here``."""

    def __init__(self, text: str, tmp_path: FilePath, family: Family = "ipv4", **settings: Any) -> None:
        self.cluster = cluster_of(NODES + text, tmp_path)
        self.plugin = Plugin(self.cluster, Settings(**settings))
        node = self.cluster.node("here")
        self.restore = self.plugin.restore(node, family)
        self.rules = self.restore.splitlines()
        self.ipsets = self.plugin.ipsets(node, family)
        self.ipvsadm = self.plugin.ipvsadm(node, family)
        self.addresses = self.plugin.addresses(node, family).split()

    def entries(self, name: str) -> list[str]:
        """The entries of a set, as text."""
        return [line.split()[2] for line in self.ipsets.splitlines() if line.startswith(f"add {name} ")]

    def servers(self, place: str) -> list[str]:
        """The real servers of a virtual service."""
        lines = (line.split() for line in self.ipvsadm.splitlines())
        return [words[4] for words in lines if words[0] == "-a" and words[2] == place]


EXAMPLES = (
    "cluster_ip_general",
    "external_traffic_policy_local",
    "internal_traffic_policy_local_one",
    "load_balancer_source_ranges",
    "no_endpoints_reject",
    "nodeports_v4_localhost_enabled",
    "own_kubeadm_defaults",
    "own_session_affinity_3ep",
    "own_seven_endpoints_probabilities",
    "sync_repeated_partial",
    "terminating_local_only_terminating",
)


def states(directory: FilePath) -> Iterator[tuple[str, list[Any]]]:
    """The objects that are there at each sync of an example, with the end of its files' names."""
    objects = list(yaml.safe_load_all((directory / "input.yaml").read_text()))
    yield "", objects
    steps = directory / "steps.yaml"
    number = 0
    for step in yaml.safe_load(steps.read_text()) if steps.exists() else []:
        if step["op"] == "sync":
            number += 1
            yield f".step{number:02d}", objects
        else:
            changed = identity(step["object"])
            objects = [one for one in objects if identity(one) != changed]
            objects += [] if step["op"] == "delete" else [step["object"]]


def identity(given: Any) -> tuple[str, str, str]:
    """What tells one object from another."""
    return given["kind"], given["metadata"]["namespace"], given["metadata"]["name"]


def example(directory: FilePath, objects: list[Any], tmp_path: FilePath) -> tuple[Plugin, Node]:
    """The proxy and the node that the settings of an example describe."""
    config = yaml.safe_load((directory / "config.yaml").read_text())
    listed = [address.partition("/")[0] for address in config["nodeInterfaceAddresses"]]
    addresses = [{"type": "InternalIP", "address": one} for one in listed if one not in ("127.0.0.1", "::1")]
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config["nodeName"]},
        "spec": {"podCIDR": "10.250.0.0/24"},
        "status": {"addresses": addresses},
    }
    cluster = cluster_of(yaml.safe_dump_all([node, *objects]), tmp_path, service_cidr="172.16.0.0/12")
    settings = Settings(
        cluster_cidr=[config["clusterCIDR"]] if config["clusterCIDR"] else [],
        masquerade_all=config["masqueradeAll"],
        random_fully=config["randomFully"],
        node_port_addresses=config["nodePortAddresses"],
    )
    return Plugin(cluster, settings), cluster.node(config["nodeName"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_texts_are_kube_proxys(name: str, shared_data: FilePath, tmp_path: FilePath) -> None:
    directory = shared_data / "kubeproxy" / name
    gone: set[str] = set()
    compared = 0
    for suffix, objects in states(directory):
        plugin, node = example(directory, objects, tmp_path)
        expected = {
            what: (directory / f"ipvs.{what}{suffix}").read_text()
            for what in ("iptables-restore", "ipset", "ipvsadm", "kube-ipvs0")
        }
        restore = expected["iptables-restore"].replace("0x4000", "0x00004000")
        assert plugin.restore(node) == restore
        assert plugin.ipsets(node) == expected["ipset"]
        assert plugin.addresses(node) == expected["kube-ipvs0"]
        # Real servers that are not wanted any more are left to end their connections, which an example still shows.
        lines = expected["ipvsadm"].splitlines()
        wanted = plugin.ipvsadm(node).splitlines()
        assert [line for line in lines if line in wanted or line not in gone] == wanted
        gone |= {line for line in lines if line.startswith("-a ")}
        compared += 1
    assert plugin.jumps() == (directory / "ipvs.jumps.iptables").read_text()
    assert compared == len(list(directory.glob("ipvs.ipvsadm*")))


def test_every_example_is_compared(shared_data: FilePath) -> None:
    assert {file.parent.name for file in (shared_data / "kubeproxy").glob("*/ipvs.ipvsadm")} == set(EXAMPLES)


def test_a_cluster_ip(tmp_path: FilePath) -> None:
    """All of it, as a small case of our own."""
    written = Written(service("web", endpoints=BOTH, clusterIP="10.96.0.20"), tmp_path)
    assert (
        written.restore
        == """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst ! -s 10.244.0.0/23 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT
"""
    )
    assert (
        written.ipvsadm
        == """\
-A -t 10.96.0.20:80 -s rr
-a -t 10.96.0.20:80 -r 10.244.0.9:8080 -m -w 1
-a -t 10.96.0.20:80 -r 10.244.1.9:8080 -m -w 1
"""
    )
    assert written.addresses == ["10.96.0.20"]
    assert written.entries("KUBE-LOOP-BACK") == ["10.244.0.9,tcp:8080,10.244.0.9"]
    assert len(read_ipsets(written.ipsets, "sets")) == 17


def test_no_services_leave_rules_out(tmp_path: FilePath) -> None:
    written = Written("", tmp_path)
    assert not [line for line in written.rules if line.startswith("-A KUBE-SERVICES") and "set" in line]
    assert "add " not in written.ipsets
    assert written.ipvsadm == ""
    assert written.addresses == []


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"masquerade_all": True}, "dst,dst -j KUBE-MARK-MASQ"),
        ({"cluster_cidr": []}, "src,dst -j KUBE-MARK-MASQ"),
        ({"cluster_cidr": ["10.0.0.0/8"]}, "dst,dst ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ"),
        ({"detect_local_mode": "NodeCIDR"}, "dst,dst ! -s 10.244.0.0/24 -j KUBE-MARK-MASQ"),
        (
            {"detect_local_mode": "InterfaceNamePrefix", "interface_name_prefix": "cali"},
            "dst,dst ! -i cali+ -j KUBE-MARK-MASQ",
        ),
    ],
)
def test_what_is_masqueraded(settings: dict[str, Any], rule: str, tmp_path: FilePath) -> None:
    written = Written(service("web", endpoints=BOTH), tmp_path, **settings)
    (found,) = [line for line in written.rules if "-A KUBE-SERVICES" in line and "MARK-MASQ" in line]
    assert found.endswith(f"--match-set KUBE-CLUSTER-IP {rule}")


def test_mark_bit_and_random_ports(tmp_path: FilePath) -> None:
    written = Written(service("web", endpoints=BOTH), tmp_path, masquerade_bit=4, random_fully=False)
    assert "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00000010" in written.rules
    assert "--random-fully" not in written.restore


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_scheduler_and_affinity(scheduler: str, tmp_path: FilePath) -> None:
    text = service("web", endpoints=BOTH, clusterIP="10.96.0.20", sessionAffinity="ClientIP")
    first = Written(text, tmp_path, scheduler=scheduler).ipvsadm.splitlines()[0]
    flags = " -b mh-port" if scheduler == "mh" else ""
    assert first == f"-A -t 10.96.0.20:80 -s {scheduler} -p 10800{flags}"


def test_external_addresses(tmp_path: FilePath) -> None:
    text = service("web", endpoints=BOTH, clusterIP="10.96.0.20", externalIPs="[203.0.113.2, 203.0.113.9]")
    written = Written(text, tmp_path)
    assert written.addresses == ["10.96.0.20", "203.0.113.9"], "the node has the other itself"
    assert written.entries("KUBE-EXTERNAL-IP") == ["203.0.113.2,tcp:80", "203.0.113.9,tcp:80"]
    assert written.servers("203.0.113.2:80") == written.servers("203.0.113.9:80") == written.servers("10.96.0.20:80")
    rules_of_set = [line for line in written.rules if "-A KUBE-SERVICES" in line and "KUBE-EXTERNAL-IP " in line]
    assert [line.partition(" dst,dst ")[2] for line in rules_of_set] == [
        "-j KUBE-MARK-MASQ",
        "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
        "-m addrtype --dst-type LOCAL -j ACCEPT",
    ]
    there = written.plugin.addresses(written.cluster.node("there"))
    assert there.split() == ["10.96.0.20", "203.0.113.2", "203.0.113.9"], "another node binds both"


@pytest.mark.parametrize(("endpoints", "expected"), [(BOTH, ["10.244.0.9:8080"]), (THERE, ["10.244.1.9:8080"])])
def test_policy_local_falls_back_to_all_endpoints(endpoints: str, expected: list[str], tmp_path: FilePath) -> None:
    outside = service(
        "out", "{port: 80, nodePort: 30080}", endpoints, type="NodePort", externalTrafficPolicy="Local",
        clusterIP="10.96.0.20", externalIPs="[203.0.113.9]",
    )  # fmt: skip
    inside = service("in", endpoints=endpoints, clusterIP="10.96.0.21", internalTrafficPolicy="Local")
    written = Written(outside + inside, tmp_path)
    for place in ("203.0.113.9:80", "192.168.0.2:30080", "203.0.113.2:30080", "10.96.0.21:80"):
        assert written.servers(place) == expected, place
    assert written.servers("10.96.0.20:80")[-1] == "10.244.1.9:8080"
    assert written.entries("KUBE-EXTERNAL-IP-LOCAL") == ["203.0.113.9,tcp:80"]
    assert written.entries("KUBE-EXTERNAL-IP") == []
    assert written.entries("KUBE-NODE-PORT-LOCAL-TCP") == written.entries("KUBE-NODE-PORT-TCP") == ["30080"]


PROTOCOLS = (
    "{name: t, port: 80, nodePort: 30080}, {name: u, port: 80, protocol: UDP, nodePort: 30081}, "
    "{name: s, port: 80, protocol: SCTP, nodePort: 30082}"
)


def test_node_ports_of_all_protocols(tmp_path: FilePath) -> None:
    text = service("web", PROTOCOLS, type="NodePort", externalTrafficPolicy="Local", clusterIP="10.96.0.20")
    written = Written(text, tmp_path)
    assert written.ipvsadm.splitlines() == [
        "-A --sctp-service 10.96.0.20:80 -s rr",
        "-A -t 10.96.0.20:80 -s rr",
        "-A -u 10.96.0.20:80 -s rr",
        "-A -t 192.168.0.2:30080 -s rr",
        "-A -u 192.168.0.2:30081 -s rr",
        "-A --sctp-service 192.168.0.2:30082 -s rr",
        "-A -t 203.0.113.2:30080 -s rr",
        "-A -u 203.0.113.2:30081 -s rr",
        "-A --sctp-service 203.0.113.2:30082 -s rr",
    ]
    places = ["192.168.0.2,sctp:30082", "203.0.113.2,sctp:30082"]
    assert written.entries("KUBE-NODE-PORT-SCTP-HASH") == written.entries("KUBE-NODE-PORT-LOCAL-SCTP-HASH") == places
    chain = [line.split(" -m set --match-set ")[1] for line in written.rules if "-A KUBE-NODE-PORT -p" in line]
    assert chain == [
        "KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN",
        "KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ",
        "KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN",
        "KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ",
        "KUBE-NODE-PORT-LOCAL-SCTP-HASH dst,dst -j RETURN",
        "KUBE-NODE-PORT-SCTP-HASH dst,dst -j KUBE-MARK-MASQ",
    ]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (["192.168.0.0/16"], ["192.168.0.2"]),
        (["192.168.0.0/16", "127.0.0.0/8"], ["192.168.0.2"]),
        (["0.0.0.0/0"], ["192.168.0.2", "203.0.113.2"]),
        (["172.16.0.0/12"], []),
    ],
)
def test_node_port_addresses(ranges: list[str], expected: list[str], tmp_path: FilePath) -> None:
    text = service("web", "{port: 80, nodePort: 30080}", BOTH, type="NodePort")
    written = Written(text, tmp_path, node_port_addresses=ranges)
    found = [record.key.address for record in read_ipvsadm(written.ipvsadm, "table") if record.key is not None]
    assert [one for one in found if not one.startswith("10.96.")] == expected
    assert written.entries("KUBE-NODE-PORT-TCP") == (["30080"] if expected else [])


def balanced(**spec: Any) -> str:
    """A Service with a load balancer's address."""
    text = service("lb", endpoints=BOTH, type="LoadBalancer", clusterIP="10.96.0.20", **spec)
    return text.replace("\n---\n", "\nstatus: {loadBalancer: {ingress: [{ip: 198.51.100.7}]}}\n---\n", 1)


def test_health_check_port(tmp_path: FilePath) -> None:
    written = Written(balanced(externalTrafficPolicy="Local", healthCheckNodePort=32000), tmp_path)
    assert written.entries("KUBE-HEALTH-CHECK-NODE-PORT") == ["32000"]
    assert written.entries("KUBE-LOAD-BALANCER-LOCAL") == ["198.51.100.7,tcp:80"]


@pytest.mark.parametrize("covers_node", [True, False])
def test_source_ranges(covers_node: bool, tmp_path: FilePath) -> None:
    ranges = "[192.168.0.0/24, 10.1.0.0/16]" if covers_node else "[10.1.0.0/16]"
    written = Written(balanced(loadBalancerSourceRanges=ranges), tmp_path)
    place = "198.51.100.7,tcp:80"
    assert written.entries("KUBE-LOAD-BALANCER-FW") == [place]
    assert f"{place},10.1.0.0/16" in written.entries("KUBE-LOAD-BALANCER-SOURCE-CIDR")
    assert written.entries("KUBE-LOAD-BALANCER-SOURCE-IP") == ([f"{place},198.51.100.7"] if covers_node else [])
    closed = "-A KUBE-IPVS-OUT-FILTER -s 198.51.100.7 -m ipvs --vaddr 198.51.100.7 --vproto tcp --vport 80 -j DROP"
    assert (closed in written.rules) is not covers_node


def test_a_range_of_everybody_is_one_that_the_kernel_refuses(tmp_path: FilePath) -> None:
    written = Written(balanced(loadBalancerSourceRanges="[0.0.0.0/0]"), tmp_path)
    assert written.entries("KUBE-LOAD-BALANCER-SOURCE-CIDR") == []
    assert any("KUBE-LOAD-BALANCER-SOURCE-CIDR" in line for line in written.rules)


SIX = """
apiVersion: v1
kind: Service
metadata: {name: six}
spec:
  type: NodePort
  clusterIP: 10.96.0.30
  clusterIPs: [10.96.0.30, "fd00::30"]
  ipFamilies: [IPv4, IPv6]
  ports: [{port: 80, protocol: SCTP, nodePort: 30090}]
  externalIPs: ["2001:db8::99"]
  externalTrafficPolicy: Local
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: six-1, labels: {kubernetes.io/service-name: six}}
addressType: IPv6
ports: [{port: 8080, protocol: SCTP}]
endpoints: [{addresses: ["fd00:1::9"], nodeName: here}]
"""


def test_ipv6(tmp_path: FilePath) -> None:
    written = Written(SIX, tmp_path, "ipv6")
    assert written.ipvsadm.splitlines() == [
        "-A --sctp-service [2001:db8::2]:30090 -s rr",
        "-a --sctp-service [2001:db8::2]:30090 -r [fd00:1::9]:8080 -m -w 1",
        "-A --sctp-service [2001:db8::99]:80 -s rr",
        "-a --sctp-service [2001:db8::99]:80 -r [fd00:1::9]:8080 -m -w 1",
        "-A --sctp-service [fd00::30]:80 -s rr",
        "-a --sctp-service [fd00::30]:80 -r [fd00:1::9]:8080 -m -w 1",
    ]
    assert written.addresses == ["2001:db8::99", "fd00::30"]
    names = [line.split()[1] for line in written.ipsets.splitlines() if line.startswith("create ")]
    assert all(name.startswith("KUBE-6-") and len(name) <= 31 for name in names)
    assert {"KUBE-6-LOAD-BALANCER-SOURCE-CID", "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"} <= set(names)
    assert written.entries("KUBE-6-LOOP-BACK") == ["fd00:1::9,sctp:8080,fd00:1::9"]
    assert "create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536" in written.ipsets
    assert "-A KUBE-SERVICES -s ::1/128 -j RETURN" in written.rules
    assert "--match-set KUBE-6-NODE-PORT-LOCAL-SCTP-HAS dst,dst -j RETURN" in written.restore


def test_services_of_another_family_are_not_there(tmp_path: FilePath) -> None:
    written = Written(service("web", endpoints=BOTH), tmp_path, "ipv6")
    assert written.ipvsadm == ""
    assert written.addresses == []


def test_every_form_is_a_text(tmp_path: FilePath) -> None:
    written = Written(service("web", endpoints=BOTH), tmp_path)
    texts = {form: written.plugin.text(written.cluster.node("here"), form, "ipv4") for form in Plugin.forms}
    assert texts["ipvsadm"] == written.ipvsadm
    assert texts["ipset"] == written.ipsets
    assert texts["addresses"].split() == written.addresses
    assert texts["restore"] == written.restore
    inputs = [line.rpartition(" ")[2] for line in texts["save"].splitlines() if line.startswith("-A INPUT ")]
    assert inputs == ["KUBE-IPVS-FILTER", "KUBE-PROXY-FIREWALL", "KUBE-NODE-PORT"]


fleets = st.builds(
    lambda services, endpoints, nodes, last: Fleet(
        services,
        endpoints,
        tuple(Node(f"node-{n}", f"192.168.0.{n}", f"10.{n}.0.0/16") for n in range(nodes)),
        f"10.96.0.{last}",
        tuple(f"10.{n}.0.2" for n in range(nodes)),
    ),
    st.integers(1, 600),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 255),
)


@given(fleet=fleets)
def test_what_is_computed_is_what_is_listed(fleet: Fleet) -> None:
    services = FleetServices(fleet)
    keys = list(services.keys())
    assert services.addresses.bucket_sizes() == bucket_sizes(keys)
    assert all(services.endpoints(key) is not None for key in keys)
    assert services.endpoints(keys[0]._replace(port=81)) is None
    loops = [FleetLoops(fleet, f"node-{n}") for n in range(4)]
    for entries in (FleetPlaces(services), FleetAddressEntries(services.addresses), *loops):
        listed = list(entries)
        assert len(set(listed)) == len(listed) == len(entries)
        assert all(entry in entries for entry in listed)
        assert ("10.95.0.0",) not in entries
        assert ("10.95.0.0", "tcp", 80) not in entries
        assert ("fd00::1", "tcp", 80) not in entries
        assert ("10.95.0.0", "tcp", 8080, "10.95.0.0") not in entries
    assert sum(map(len, loops)) == fleet.services * fleet.endpoints
    assert not any(entry in loops[1] for entry in loops[0])


def test_services_made_by_number_are_written_as_given_ones() -> None:
    cluster = sized_cluster(services=12, endpoints=2)
    plugin = Plugin(cluster, Settings())
    node = cluster.node("node-1")
    records = read_ipvsadm(plugin.ipvsadm(node), "table")
    assert len(records) == 12
    assert all(len(record.servers) == 2 for record in records)
    read = read_ipsets(plugin.ipsets(node), "sets")
    assert [len(read[name]) for name in ("KUBE-CLUSTER-IP", "KUBE-IPVS-IPS", "KUBE-LOOP-BACK")] == [12, 12, 12]
    assert len(plugin.addresses(node).split()) == 12


def reach(cluster: Cluster, target: str, port: int, **settings: Any) -> Path:
    """The first packet from a pod on ``here`` to a place."""
    deployment = deploy(cluster, ROUTED, "ipvs", **settings)
    return converse(deployment, "10.244.0.9", target, port).first


def test_every_address_of_a_service_is_reached(tmp_path: FilePath) -> None:
    text = balanced(externalIPs="[203.0.113.9]").replace("{port: 80}", "{port: 80, nodePort: 30080}")
    cluster = cluster_of(NODES + text, tmp_path)
    servers = {"10.244.0.9", "10.244.1.9"}
    for target, port in (("10.96.0.20", 80), ("203.0.113.9", 80), ("198.51.100.7", 80), ("192.168.0.2", 30080)):
        first = reach(cluster, target, port)
        assert first.reason is None, target
        assert first.packet.destination in servers
    assert reach(cluster, "10.96.0.20", 81).reason is not None, "a port that no Service has, at a virtual address"


@pytest.mark.parametrize(("ranges", "is_let_in"), [("[10.244.0.0/16]", True), ("[10.7.0.0/16]", False)])
def test_a_load_balancer_lets_its_source_ranges_in(ranges: str, is_let_in: bool, tmp_path: FilePath) -> None:
    cluster = cluster_of(NODES + balanced(loadBalancerSourceRanges=ranges), tmp_path)
    first = reach(cluster, "198.51.100.7", 80)
    assert (first.reason is None) is is_let_in
    if not is_let_in:
        assert "dropped by" in str(first.reason)
    assert reach(cluster, "10.96.0.20", 80).reason is None


Run = Callable[..., str]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs commands in a network namespace of the test's own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux")
    for tool in ("ip", "ipset", "iptables-legacy", "ip6tables-legacy"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the command {tool}")
    name = f"kubesim-test-{os.getpid()}"

    def call(*command: str, text: str = "") -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", name, *command], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot make network namespaces here")
    try:
        probe = subprocess.run(["ip", "netns", "exec", name, "ipset", "list"], capture_output=True, check=False)
        if probe.returncode != 0:
            pytest.skip("the kernel has no ipset")
        yield call
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


RICH = (
    balanced(loadBalancerSourceRanges="[192.168.0.0/24, 10.1.2.3/32]")
    + service("np", PROTOCOLS, BOTH, type="NodePort", externalTrafficPolicy="Local", externalIPs="[203.0.113.9]")
    + service("ext", endpoints=BOTH, externalIPs="[203.0.113.2, 203.0.113.8]", sessionAffinity="ClientIP")
    + service("ip", endpoints=BOTH)
    + SIX
)


@pytest.mark.root
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_kernel_takes_sets_and_rules_and_gives_them_back(family: Family, run: Run, tmp_path: FilePath) -> None:
    written = Written(RICH, tmp_path, family)
    run("ipset", "restore", text=written.ipsets)
    wanted, kept = read_ipsets(written.ipsets, "ours"), read_ipsets(run("ipset", "save"), "the kernel's")
    assert list(kept) == list(wanted)
    for name, ipset in wanted.items():
        assert (kept[name].kind, kept[name].entries) == (ipset.kind, ipset.entries), name
        assert ipset.options in kept[name].options

    ours: dict[str, dict[str, list[str]]] = {"nat": {}, "filter": {}}
    table = ""
    for line in written.rules:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            # A single address is printed with its mask, whether it was given so or not.
            chain, rule = parse_rule(line.replace("-s ::1/128", "-s ::1"), is_ipv6=family == "ipv6")
            ours[table].setdefault(chain, []).append(rule.save(chain).replace("\\'", "'"))

    iptables = "ip6tables-legacy" if family == "ipv6" else "iptables-legacy"
    for line in written.plugin.jumps().splitlines():
        run("sh", "-c", f"{iptables} {line}")
    run(f"{iptables}-restore", "--noflush", "--counters", "--test", text=written.restore)
    run(f"{iptables}-restore", "--noflush", "--counters", text=written.restore)
    saved = run(f"{iptables}-save").replace("\\'", "'").splitlines()
    for table, chains in CHAINS.items():
        kernels = saved[saved.index(f"*{table}") :]
        kernels = kernels[: kernels.index("COMMIT")]
        for chain in chains:
            assert [line for line in kernels if line.startswith(f"-A {chain} ")] == ours[table].get(chain, []), chain
    inputs = [line.rpartition(" ")[2] for line in saved if line.startswith("-A INPUT ")]
    assert inputs == ["KUBE-IPVS-FILTER", "KUBE-PROXY-FIREWALL", "KUBE-NODE-PORT"]
