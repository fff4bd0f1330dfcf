"""Rules from manifests and kube-proxy's own configuration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kubesim.errors import InputError
from kubesim.scenario.node_rules import node_rules

MANIFEST = Path(__file__).parents[1] / "kernel" / "every-feature.yaml"
CONFIG = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clusterCIDR: 10.244.0.0/16,fd00::/48
configSyncPeriod: 0s
conntrack: {maxPerCore: null, tcpBeLiberal: false}
detectLocalMode: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, scheduler: "", strictARP: false}
mode: ""
nodePortAddresses: null
"""


def config(tmp_path: Path, **changes: object) -> Path:
    data = {**yaml.safe_load(CONFIG), **changes}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def rules(tmp_path: Path, changes: dict[str, object] | None = None, node: str | None = "node-a") -> str:
    return node_rules([MANIFEST], node, config=config(tmp_path, **(changes or {}))).text


def test_kubeadms_configuration_is_read(tmp_path: Path) -> None:
    text = rules(tmp_path)
    assert "! -s 10.244.0.0/16 -j KUBE-MARK-MASQ" in text
    assert "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000" in text
    assert text.startswith("*filter\n")


@pytest.mark.parametrize(
    ("change", "expected", "is_there"),
    [
        ({"iptables": {"masqueradeAll": True}}, "! -s", False),
        ({"iptables": {"masqueradeBit": 15}}, "0x00008000", True),
        ({"iptables": {"localhostNodePorts": False}}, "! -d 127.0.0.0/8", True),
        ({"clusterCIDR": ""}, "! -s", False),
        ({"detectLocalMode": "NodeCIDR"}, "! -s 10.244.1.0/24", True),
        ({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}}, "! -i cni0", True),
        (
            {"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "cali"}},
            "! -i cali+",
            True,
        ),
        ({"nodePortAddresses": ["192.168.99.0/24"]}, "-d 192.168.99.11 -j KUBE-NODEPORTS", True),
        ({"conntrack": {"tcpBeLiberal": True}}, "INVALID", False),
        ({"featureGates": {"LoadBalancerIPMode": False}}, "9.9.9.9", True),
        ({"bindAddress": "203.0.113.1"}, "-s 1.2.3.4 -j KUBE-EXT", True),
    ],
)
def test_settings_of_the_configuration(
    change: dict[str, object], expected: str, is_there: bool, tmp_path: Path
) -> None:
    text = "\n".join(line for line in rules(tmp_path, change).splitlines() if "KUBE-FIREWALL" not in line)
    assert (expected in text) is is_there


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
def test_the_mode_is_the_configurations(mode: str, tmp_path: Path) -> None:
    starts = {"iptables": "*filter", "nftables": "add table ip kube-proxy", "ipvs": "-A -"}
    assert rules(tmp_path, {"mode": mode}).startswith(starts[mode])
    other = node_rules([MANIFEST], "node-a", config=config(tmp_path, mode="iptables"), mode=mode).text
    assert other.startswith(starts[mode]), "what is asked for comes first"


def test_the_node_is_the_configurations(tmp_path: Path) -> None:
    assert "KUBE-SVL" in rules(tmp_path, {"hostnameOverride": "node-b"}, node=None)
    first = node_rules([MANIFEST]).text
    assert first == node_rules([MANIFEST], "node-a").text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusterCIRD": "10.0.0.0/8"}, "clusterCIRD: unknown field: did you mean 'clusterCIDR'?"),
        (
            {"kind": "KubeletConfiguration"},
            "there is no 'KubeletConfiguration': did you mean 'KubeProxyConfiguration'?",
        ),
        ({"apiVersion": "v2"}, "there is no 'v2'"),
        ({"mode": "userspace"}, "there is no 'userspace'"),
        ({"clusterCIDR": "10.0.0.0/33"}, "'10.0.0.0/33' is not a range of addresses"),
        ({"detectLocalMode": "BridgeInterface"}, "detect_local_mode BridgeInterface needs bridge_interface"),
        ({"iptables": {"masqueradeBit": 32}}, "less than or equal to 31"),
    ],
)
def test_wrong_configurations_are_told_in_one_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        rules(tmp_path, changes)
    assert "\n" not in str(caught.value)


def test_wrong_names() -> None:
    with pytest.raises(InputError, match="there is no node 'node-c': did you mean"):
        node_rules([MANIFEST], "node-c")
    with pytest.raises(InputError, match="there is no service proxy 'iptable': did you mean 'iptables'"):
        node_rules([MANIFEST], mode="iptable")
    with pytest.raises(InputError, match="mode: 'none' writes no rules"):
        node_rules([MANIFEST], mode="none")
    with pytest.raises(InputError, match="mode iptables has no 'nft', but restore, save"):
        node_rules([MANIFEST], form="nft")


def test_a_node_that_only_endpoints_speak_of(tmp_path: Path) -> None:
    text = MANIFEST.read_text("utf-8").partition("---")[2].partition("---")[2]  # without the objects of both nodes
    file = tmp_path / "no-nodes.yaml"
    file.write_text(text)
    found = node_rules([file], "node-b")
    assert "there is no Node object node-b" in found.notices[-1]
    assert "KUBE-SVL" in found.text
