"""Worked examples of kube-proxy's output: where they are, and clusters and settings made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesim.cluster import Cluster, ClusterSpec, build_cluster
from kubesim.cluster.records import Node

EXAMPLES = Path(__file__).parents[2] / "shared" / "data" / "kubeproxy"
NAMES = sorted(path.name for path in EXAMPLES.iterdir()) if EXAMPLES.exists() else []

each_example = pytest.mark.parametrize(
    "name", NAMES or [pytest.param("none", marks=pytest.mark.skip(reason="the worked examples are not here"))]
)


class Example:
    """One example.

    Parameters
    ----------
    name
        Of its directory.
    tmp_path
        Where manifests of later steps are written.
    """

    def __init__(self, name: str, tmp_path: Path) -> None:
        self.path = EXAMPLES / name
        self.config: dict[str, Any] = yaml.safe_load(self.text("config.yaml"))
        self._tmp_path = tmp_path
        addresses = [one.partition("/")[0] for one in self.config["nodeInterfaceAddresses"]]
        own = tuple(one for one in addresses if not one.startswith("127.") and one != "::1")
        labels = self.config.get("nodeLabels") or {}
        self.node = Node(self.config["nodeName"], self.config["nodeIP"], "10.1.0.0/24", labels, own)

    def text(self, file: str) -> str:
        """The text of one of its files."""
        return (self.path / file).read_text("utf-8")

    def cluster(self) -> Cluster:
        """The cluster at first."""
        return build_cluster(ClusterSpec(manifests=[self.path / "input.yaml"]))

    def steps(self) -> Iterator[tuple[str, Cluster, bool]]:
        """The cluster at each later sync, with the ending of its files, and whether all is written again."""
        objects = [one for one in yaml.safe_load_all(self.text("input.yaml")) if one]
        number = 0
        for step in yaml.safe_load(self.text("steps.yaml")) if (self.path / "steps.yaml").exists() else ():
            if step["op"] == "sync":
                number += 1
                file = self._tmp_path / f"{number}.yaml"
                file.write_text(yaml.safe_dump_all(objects), "utf-8")
                yield f"step{number:02d}", build_cluster(ClusterSpec(manifests=[file])), step.get("force", False)
                continue
            objects = [one for one in objects if _key(one) != _key(step["object"])]
            if step["op"] != "delete":
                objects.append(step["object"])

    def settings(self) -> dict[str, Any]:
        """kube-proxy's settings."""
        config = self.config
        return {
            "cluster_cidr": [config["clusterCIDR"]] if config["clusterCIDR"] else [],
            "detect_local_mode": config.get("detectLocalMode") or "ClusterCIDR",
            "random_fully": config["randomFully"],
            "masquerade_all": config["masqueradeAll"],
            "localhost_node_ports": config["localhostNodePorts"],
            "conntrack_tcp_be_liberal": config["conntrackTCPBeLiberal"],
            "node_port_addresses": config["nodePortAddresses"],
            "feature_gates": config.get("featureGates") or {},
        }

    def marked(self, text: str) -> str:
        """A text with the mark written as in this example: a real kube-proxy writes it with all zeros."""
        return text.replace("0x00004000", self.config["masqueradeMark"])


def _key(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]
