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
        ({"bindAddress": "999.1.1.1"}, "bindAddress: '999.1.1.1' is not an address"),
        ({"clusterCIDR": "10.244.0.0"}, "clusterCIDR: '10.244.0.0' is not a range of addresses, such as"),
        ({"clusterCIDR": "10.244.0.0/16, fd00::/48"}, "clusterCIDR: ' fd00::/48' is not a range of addresses"),
        ({"clusterCIDR": "10.244.0.0/16,10.245.0.0/16"}, "has two ranges of one family"),
        ({"nodePortAddresses": ["192.168.0.2"]}, "nodePortAddresses.0: '192.168.0.2' is not a range of addresses"),
        ({"iptables": {"syncPeriod": "-5s"}}, "iptables.syncPeriod: '-5s' is negative"),
        ({"ipvs": {"minSyncPeriod": "5 s"}}, "ipvs.minSyncPeriod: '5 s' is not a duration, such as '30s'"),
        (
            {"nftables": {"syncPeriod": "1s", "minSyncPeriod": "1m"}},
            "nftables: minSyncPeriod is longer than syncPeriod",
        ),
        ({"ipvs": {"scheduler": "bogus"}}, "ipvs.scheduler: there is no scheduler 'bogus'"),
        ({"mode": "userspace"}, "known: iptables, ipvs, nftables"),
    ],
)
def test_wrong_configurations_are_told_in_one_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        rules(tmp_path, changes)
    assert "\n" not in str(caught.value)


def test_null_is_not_given(tmp_path: Path) -> None:
    names = ("mode", "clusterCIDR", "hostnameOverride", "detectLocalMode", "featureGates", "detectLocal", "bindAddress")
    blank: dict[str, object] = {**dict.fromkeys(names), "iptables": {"masqueradeAll": None, "syncPeriod": None}}
    assert rules(tmp_path, blank) == rules(tmp_path, {"clusterCIDR": "", "iptables": {}})


@pytest.mark.parametrize("period", ["0", "30s", "1h30m", "1.5s", "100ms"])
def test_durations_are_written_as_go_does(period: str, tmp_path: Path) -> None:
    assert rules(tmp_path, {"configSyncPeriod": period, "iptables": {"syncPeriod": period}})


def test_the_name_of_the_node_is_trimmed_and_lowered(tmp_path: Path) -> None:
    plain = rules(tmp_path, {"hostnameOverride": "node-b"}, node=None)
    assert rules(tmp_path, {"hostnameOverride": " Node-B "}, node=None) == plain


def test_the_configuration_may_be_in_its_config_map(tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-proxy"}}
    file.write_text(yaml.safe_dump({**config_map, "data": {"config.conf": CONFIG, "kubeconfig.conf": "a: b"}}))
    assert node_rules([MANIFEST], "node-a", config=file).text == rules(tmp_path)
    file.write_text(yaml.safe_dump({**config_map, "data": {"kubeconfig.conf": "a: b"}}))
    with pytest.raises(InputError, match=r"the ConfigMap holds no 'config\.conf': did you mean 'kubeconfig\.conf'"):
        node_rules([MANIFEST], "node-a", config=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"config.yaml is empty: a KubeProxyConfiguration \(kubeproxy.config.k8s.io/v1alpha1\) is wanted"),
        ("- 1", "a mapping is needed, with fields such as apiVersion, kind, mode, clusterCIDR"),
    ],
)
def test_files_that_are_no_configuration(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        node_rules([MANIFEST], config=file)


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    assert node_rules([MANIFEST], "node-a").notices[0] == (
        "assumed that traffic of pods is what comes from 10.244.0.0/22: "
        "give kube-proxy's configuration, with its clusterCIDR, as --config"
    )
    assert "is not told from that of others" in node_rules([MANIFEST], "node-a", family="ipv6").notices[0]
    assert not any("assumed" in one for one in node_rules([MANIFEST], "node-a", config=config(tmp_path)).notices)
    gates = config(tmp_path, featureGates={"NoSuchGate": True, "TopologyAwareHints": True})
    assert "feature gates that no rule here follows from: NoSuchGate" in node_rules([MANIFEST], config=gates).notices


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


def test_maps_of_cilium_need_no_configuration_of_kube_proxy(tmp_path: Path) -> None:
    found = node_rules([MANIFEST], "node-a", mode="cilium-ebpf")
    assert found.text.startswith("ID ")
    assert not any("clusterCIDR" in notice for notice in found.notices)
    with pytest.raises(InputError, match="config: cilium-ebpf is no mode of kube-proxy, whose configuration this is"):
        node_rules([MANIFEST], "node-a", mode="cilium-ebpf", config=config(tmp_path))
