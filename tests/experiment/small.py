"""A small experiment that takes a moment, and what its directory holds."""

from __future__ import annotations

from pathlib import Path

SMALL = """\
name: small
question: Does it work?
scenario:
  cluster: {nodes: 2, services: 10, endpoints: 2, endpoint_nodes: [node-2]}
  cni: flannel-host-gw
  traffic: {workload: tcp_crr, clients_on: [node-1], transactions: 5}
factors:
  proxy: [iptables, {name: ipvs, scheduler: lc}]
  cluster.services: [1, 20]
"""


def experiment_file(tmp_path: Path, text: str = SMALL) -> Path:
    """The experiment in a file."""
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    return file


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a directory but the one that tells of machine and times."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != "environment.json"
    }
