"""Where packets were dropped, as the command line says it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from kubesim.cli.commands import app

OVERLOAD = """\
cluster: {nodes: 2, services: 1, endpoints: 1, endpoint_nodes: [node-2]}
cni: calico-bgp
proxy: none
traffic: {workload: udp_stream, clients: 6, clients_on: [node-1], datagrams: 1000, message_bytes: 64}
hardware: {cores: 16, rps_cores: 1, netdev_max_backlog: 5, nic_gbit_per_s: 100}
"""
LIMIT = "hardware.netdev_max_backlog"


def test_the_limit_and_the_machine_are_named(tmp_path: Path) -> None:
    file = tmp_path / "overload.yaml"
    file.write_text(OVERLOAD)
    found = json.loads(CliRunner().invoke(app, ["run", str(file), "--json"]).stdout)
    (at_backlog,) = (row for row in found["drops"] if row["limit"] == LIMIT)
    assert at_backlog["host"] == "node-2"
    assert at_backlog["dropped_packets"] == found["summary"]["backlog_dropped_packets"] > 0
    (line,) = (line for line in CliRunner().invoke(app, ["run", str(file)]).stdout.splitlines() if LIMIT in line)
    assert line.split()[:3] == ["node-2", LIMIT, f"{at_backlog['dropped_packets']:,}"]


def test_nothing_is_said_where_nothing_was_dropped(tmp_path: Path) -> None:
    file = tmp_path / "calm.yaml"
    file.write_text(OVERLOAD.replace("netdev_max_backlog: 5", "receive_ring: 100000, netdev_max_backlog: 100000"))
    found = json.loads(CliRunner().invoke(app, ["run", str(file), "--json", "--set", "traffic.datagrams=10"]).stdout)
    assert found["drops"] == []
    assert "hardware." not in CliRunner().invoke(app, ["run", str(file), "--set", "traffic.datagrams=10"]).stdout
