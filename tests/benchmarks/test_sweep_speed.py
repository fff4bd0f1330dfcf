"""How much faster two workers are than one, as a ratio: it should be below 1 / 1.8 = 0.56 on two idle cores.

By hand: ``pytest tests/benchmarks/test_sweep_speed.py --benchmark-enable --benchmark-only``, which takes some minutes.
Runs take a third of a second; where they take less, starting workers weighs more. Each sweep is a program of its own, with start-up of workers, writing of results and figures.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.conftest import Compare

EXPERIMENT = """\
name: speed
scenario:
  cluster: {{nodes: 2, services: 100, endpoints: 2, endpoint_nodes: [node-2]}}
  cni: flannel-host-gw
  traffic: {{workload: tcp_crr, clients_on: [node-1], transactions: {transactions}, connections: 4}}
factors:
  proxy: [iptables, nftables]
replications: {replications}
"""


def test_two_workers_against_one(tmp_path: Path, benchmark: BenchmarkFixture, compare: Compare) -> None:
    replications, transactions = (100, 7000) if benchmark.enabled else (2, 5)
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT.format(replications=replications, transactions=transactions))

    def sweep(workers: int) -> Path:
        out = tmp_path / f"out-{workers}"
        options = ["--fresh", "--workers", str(workers), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "kubesim", "sweep", str(file), *options], check=True, capture_output=True)
        return out / "runs.parquet"

    assert sweep(2).read_bytes() == sweep(1).read_bytes()
    compare(
        f"sweep of {2 * replications} runs: 2 workers / 1",
        lambda: sweep(2),
        lambda: sweep(1),
        rounds=3,
    )
