"""A small sweep to write pages about, with text that means ill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kubesim.experiment import load_experiment, sweep

HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)></style></svg>&amp;{{ 7 * 7 }} $\\foo$ \x1b[31m"
LONG_WORD = "w" * 100

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "question": f"{HOSTILE} {LONG_WORD}",
    "expectation": f"Little. {HOSTILE}",
    "scenario": {
        "cluster": {"nodes": 2, "services": 10, "endpoints": 2, "endpoint_nodes": ["node-2"]},
        "cni": "flannel-host-gw",
        "traffic": {"workload": "tcp_crr", "clients_on": ["node-1"], "transactions": 10},
    },
    "factors": {
        "proxy": ["iptables", {"name": "ipvs", "scheduler": "lc"}],
        "cluster.services": [1, 20],
        "name": ["plain", f"{HOSTILE} {LONG_WORD}"],
    },
    "replications": 2,
    "figures": [
        {
            "name": "lines",
            "title": f"Lines {HOSTILE}",
            "x": "cluster.services",
            "y": "first_packet_ns",
            "by": "proxy",
            "band": ["first_packet_p50_ns", "first_packet_p99_ns"],
        },
        {"name": "bars", "title": "Bars", "kind": "bars", "x": "name", "y": "latency_p50_ns", "by": "cluster.services"},
        {"name": "time", "kind": "breakdown", "x": "proxy", "panel": "cluster.services"},
        {
            "name": "share",
            "title": "Shares",
            "x": "cluster.services",
            "y": "throughput_per_s",
            "by": "proxy",
            "relative_to": "iptables",
        },
    ],
    "tables": [
        {
            "title": f"Latency {HOSTILE}",
            "value": "latency_p50_ns",
            "rows": ["proxy", "name"],
            "columns": "cluster.services",
        },
        {"value": "cpu_ns_per_transaction", "rows": ["name"]},
    ],
}


def make_sweep(directory: Path, experiment: dict[str, Any] | None = None) -> Path:
    """Run the experiment into a directory beside its file; the directory."""
    file = directory / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment or EXPERIMENT, sort_keys=False))
    sweep(*load_experiment(file), directory / "out", workers=1)
    return directory / "out"
