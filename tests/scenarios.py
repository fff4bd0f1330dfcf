"""Small scenarios."""

from __future__ import annotations

import copy
from typing import Any

from kubesim.cni import cni_names
from kubesim.proxy import proxy_names
from kubesim.scenario import Result, Scenario, run

PROXIES = [name for name in proxy_names() if name not in ("dump", "cilium-ebpf")]
"""The proxies that go with every CNI plugin; ``dump`` needs files, and is tested where these are made."""

CNIS = [name for name in cni_names() if name != "docker-bridge"]
"""The plugins that join several nodes."""

BASE: dict[str, Any] = {
    "name": "small",
    "cluster": {"nodes": 2, "services": 10, "endpoints": 3, "endpoint_nodes": ["node-2"]},
    "cni": "flannel-vxlan",
    "proxy": "iptables",
    "traffic": {"workload": "tcp_rr", "clients_on": ["node-1"], "transactions": 50},
}

WORKLOADS: dict[str, dict[str, Any]] = {
    "tcp_rr": {"transactions": 50},
    "udp_rr": {"transactions": 50},
    "tcp_crr": {"transactions": 30, "connections": 2},
    "tcp_stream": {"buffers": 40},
    "udp_stream": {"datagrams": 200, "message_bytes": 1300},
    "poisson_connections": {"connections": 60, "requests": 2, "rate_per_s": 5000},
}


def scenario(**changes: Any) -> Scenario:
    """The small scenario with fields changed; mappings are merged, but for a new workload's traffic."""
    data = copy.deepcopy(BASE)
    for field, value in changes.items():
        is_new_workload = field == "traffic" and value.get("workload", "tcp_rr") != "tcp_rr"
        if is_new_workload:
            data[field] = {"clients_on": ["node-1"], **WORKLOADS.get(value["workload"], {}), **value}
        elif isinstance(value, dict) and isinstance(data.get(field), dict):
            data[field] = {**data[field], **value}
        else:
            data[field] = value
    return Scenario.model_validate(data)


def simulate(**changes: Any) -> Result:
    """Run it."""
    return run(scenario(**changes))
