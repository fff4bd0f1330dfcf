"""Experiments: levels combined, run anywhere with the same bytes, and what is finished is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from kubesim.errors import InputError, KubesimError, OutputError
from kubesim.experiment import Progress, load_experiment, places, sweep
from kubesim.report import draw_directory
from tests.experiment import small
from tests.experiment.small import contents

SMALL = """\
name: small
question: Does it work?
scenario:
  cluster: {nodes: 2, services: 10, endpoints: 2, endpoint_nodes: [node-2]}
  cni: flannel-host-gw
  traffic: {workload: tcp_crr, clients_on: [node-1], transactions: 10}
factors:
  proxy: [iptables, {name: ipvs, scheduler: lc}]
  cluster.services: [1, 20]
figures:
  - {name: lines, x: cluster.services, y: first_packet_ns, by: proxy, band: [first_packet_p50_ns, first_packet_p99_ns]}
  - {name: bars, kind: bars, x: proxy, y: latency_p50_ns, by: cluster.services}
  - {name: time, kind: breakdown, x: proxy, panel: cluster.services}
  - {name: share, x: cluster.services, y: throughput_per_s, by: proxy, relative_to: iptables}
tables:
  - {value: first_packet_ns, rows: [proxy], columns: cluster.services}
"""


def experiment_file(tmp_path: Path, text: str = SMALL) -> Path:
    """The experiment in a file."""
    return small.experiment_file(tmp_path, text)


def test_levels_are_combined_each_once(tmp_path: Path) -> None:
    text = (
        SMALL.partition("factors:")[0]
        + """replications: 2
factors:
- {proxy: [iptables, nftables], cluster.services: [1, 20]}
- {proxy: [iptables], cluster.services: [20], cluster.endpoints: [2, 3]}
"""
    )
    experiment, combinations = load_experiment(experiment_file(tmp_path, text))
    assert [one.number for one in combinations] == list(range(5))
    found = [
        tuple(one.levels[name] for name in ("proxy", "cluster.services", "cluster.endpoints")) for one in combinations
    ]
    assert found == [
        ("iptables", 1, 2), ("iptables", 20, 2), ("nftables", 1, 2), ("nftables", 20, 2), ("iptables", 20, 3),
    ]  # fmt: skip
    sweep(experiment, combinations, tmp_path / "out", workers=1)
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert runs["replication"].tolist() == [0, 1] * 5
    assert runs["run"].tolist() == list(range(10))


def test_a_plugin_that_is_no_factor_everywhere_is_called_by_its_name(tmp_path: Path) -> None:
    text = (
        SMALL.partition("factors:")[0].replace("scenario:\n", "scenario:\n  proxy: nftables\n")
        + "factors:\n- {proxy: [iptables]}\n- {cluster.services: [2]}\n"
    )
    _, runs = load_experiment(experiment_file(tmp_path, text))
    assert [one.levels["proxy"] for one in runs] == ["iptables", "nftables"]


def test_fields_that_a_scenario_does_not_have_have_no_level(tmp_path: Path) -> None:
    text = SMALL.replace(
        "factors:\n  proxy: [iptables, {name: ipvs, scheduler: lc}]\n  cluster.services: [1, 20]\n",
        "factors:\n- {proxy: [iptables], traffic.transactions: [5, 6]}\n"
        "- {proxy: [nftables], traffic: [{workload: tcp_stream, buffers: 5}]}\n",
    ).partition("figures")[0]
    _, runs = load_experiment(experiment_file(tmp_path, text))
    assert [(one.levels["traffic"], one.levels["traffic.transactions"]) for one in runs] == [
        ("tcp_crr", 5), ("tcp_crr", 6), ("tcp_stream", None),
    ]  # fmt: skip
    experiment, runs = load_experiment(experiment_file(tmp_path, text))
    sweep(experiment, runs, tmp_path / "out", workers=1)
    table = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert table["traffic.transactions"].tolist()[:2] == [5, 6]
    assert pd.isna(table["traffic.transactions"][2])


def test_the_same_bytes_from_any_number_of_workers(tmp_path: Path) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path))
    for workers in (1, 2, 3):
        directory = tmp_path / f"with-{workers}"
        progress: list[Progress] = []
        outcome = sweep(experiment, runs, directory, workers, progress.append, with_csv=True)
        assert (outcome.finished, outcome.planned, outcome.is_interrupted) == (4, 4, False)
        assert progress == [(done, 4, 0) for done in range(5)]
        draw_directory(directory)
    first = contents(tmp_path / "with-1")
    assert first == contents(tmp_path / "with-2") == contents(tmp_path / "with-3")
    assert set(first) >= {
        "manifest.json", "runs.parquet", "runs.csv", "breakdown.parquet", "breakdown.csv", "estimates.parquet", "plan.json",
        "figures/lines.png", "figures/lines.svg", "figures/bars.png", "figures/time.svg", "figures/share.png",
    }  # fmt: skip


def test_tables_say_what_made_them(tmp_path: Path) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path))
    sweep(experiment, runs, tmp_path / "out", workers=1, with_csv=True)
    table = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert set(table.columns) >= {
        "run",
        "proxy",
        "cluster.services",
        "latency_p99_ns",
        "seed",
        "cost_set",
        "kubesim_version",
    }
    assert table["scenario_sha256"].nunique() == 4
    pd.testing.assert_frame_equal(
        table, pd.read_parquet(tmp_path / "out" / "runs.parquet"), check_dtype=False, check_exact=False
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["is_complete"]
    assert manifest["factors"]["proxy"] == ["iptables", "ipvs (scheduler=lc)"]
    one = json.loads((tmp_path / "out" / "runs" / f"{table['run_id'][3]}.json").read_text())
    assert json.loads(one["provenance"]["scenario"])["cluster"]["services"] == 20


def test_an_interrupted_sweep_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path))

    def interrupted(key: tuple[int, int], scenario: str) -> places.Done:
        if key == (2, 0):
            raise KeyboardInterrupt
        return run_one(key, scenario)

    run_one = places.run_one
    monkeypatch.setattr(places, "run_one", interrupted)
    outcome = sweep(experiment, runs, tmp_path / "out", workers=1)
    assert (outcome.finished, outcome.is_interrupted) == (2, True)
    assert len(pd.read_parquet(tmp_path / "out" / "runs.parquet")) == 2
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["is_complete"]
    assert not list((tmp_path / "out").glob(".*")), "nothing half-written"


def workers_of(process: int) -> list[int]:
    """Processes that a sweep has started to work for it."""
    children = [
        child for file in Path(f"/proc/{process}/task").glob("*/children") for child in file.read_text().split()
    ]
    return [int(child) for child in children if "LokyProcess" in Path(f"/proc/{child}/cmdline").read_text()]


def ignored_signals(process: int) -> int:
    """The signals that a process does not hear of, as bits."""
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("SigIgn"))
    return int(line.split()[1], 16)


def long_sweep(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A sweep that has just begun and takes long, as if started in a terminal of its own, and its two workers."""
    text = SMALL.replace("transactions: 10", "transactions: 20000").replace("[1, 20]", str(list(range(1, 31))))
    file, out = experiment_file(tmp_path, text), tmp_path / "out"
    command = [sys.executable, "-m", "kubesim", "sweep", str(file), "--out", str(out), "--workers", "2"]
    heard = ["env", "--default-signal=INT"]  # what a shell puts into the background does not hear of Ctrl-C
    process = subprocess.Popen(
        [*heard, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while len(list((out / "runs").glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    return process, workers


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    process, workers = long_sweep(tmp_path)
    assert all(ignored_signals(worker) & 1 << signal.SIGINT - 1 for worker in workers), "or they may print tracebacks"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted:" in errors
    finished = len(list((tmp_path / "out" / "runs").glob("*.json")))
    assert 2 <= finished < 60
    assert len(pd.read_parquet(tmp_path / "out" / "runs.parquet")) == finished


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_workers_do_not_outlive_a_sweep_that_is_killed(tmp_path: Path) -> None:
    process, workers = long_sweep(tmp_path)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(is_running(worker) for worker in workers)


def is_running(process: int) -> bool:
    """Whether there is such a process, and not only its last trace."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_makes_no_sense_stops_the_sweep_and_keeps_the_others(workers: int, tmp_path: Path) -> None:
    text = SMALL.replace("cluster.services: [1, 20]", "traffic.to: [svc-01, svc-99]").partition("figures")[0]
    experiment, runs = load_experiment(experiment_file(tmp_path, text))
    with pytest.raises(
        KubesimError, match=r"the run of proxy = .*, traffic.to = svc-99.*: traffic.to: there is no Service 'svc-99'"
    ):
        sweep(experiment, runs, tmp_path / "out", workers)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert not manifest["is_complete"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("proxy: [ip", "proxies: [ip", "proxies: unknown field: did you mean 'proxy'?"),
        ("cluster.services: [1", "cluster.service: [1", "cluster.service: unknown field: did you mean 'services'?"),
        ("[1, 20]", "[]", "factors.cluster.services: list should have at least 1 item"),
        (
            "[1, 20]",
            "[1, -20]",
            "(with proxy = iptables, cluster.services = -20): cluster.services: input should be greater",
        ),
        ("[iptables,", "[iptable,", "there is no 'iptable': did you mean 'iptables'?"),
        ("x: proxy,", "x: proxi,", "figures.1: 'proxi' is not a factor: did you mean 'proxy'?"),
        (
            "by: proxy, band",
            "by: proxy, where: {proxy: nftables}, band",
            "figures.0: no run has the levels in its where",
        ),
        ("columns: cluster.services}", "where: {cluster.services: 2}}", "tables.0: no run has the levels in its where"),
        ("relative_to: iptables", "relative_to: none", "figures.3: relative_to: no run has the level 'none' of proxy"),
        (", by: proxy, relative_to", ", relative_to", "figures.3: relative_to needs by"),
        ("y: latency_p50_ns, ", "", "figures.1: a figure of kind bars needs y"),
        ("kind: bars, ", "", "figures.1: the levels of proxy are no numbers to draw lines along: kind: bars"),
        (
            "name: lines",
            "name: Lines!",
            "figures.0.name: 'Lines!' is no name: small letters, digits and hyphens are needed",
        ),
        ("name: small", "nome: small", "nome: unknown field: did you mean 'name'?"),
        ("scenario:", "scenari:", "scenari: unknown field: did you mean 'scenario'?"),
        ("cluster.services: [1", "name.x: [1", "line 9: factors: name.x: name has no fields"),
        ("y: latency_p50_ns", "y: latency_p5_ns", "'latency_p5_ns' is no measure: did you mean 'latency_p50_ns'?"),
        ("value: first_packet_ns", "value: latency", "tables.0: 'latency' is no measure: "),
        ("band: [", "band: [a, ", "figures.0.band"),
        ("by: proxy, band: [first_packet_p50_ns, ", "by: proxy, band: [", "figures.0.band"),
    ],
)
def test_files_that_make_no_sense(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in SMALL
    text = SMALL.replace("name: small", "name: small\n").replace("scenario:\n", "scenario:\n  name: s\n")
    with pytest.raises(InputError) as caught:
        load_experiment(experiment_file(tmp_path, text.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directories_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds files that are no results of kubesim"):
        sweep(experiment, runs, foreign, workers=1)
    assert contents(foreign) == {"thesis.txt": b"years of work"}
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        sweep(experiment, runs, in_the_way / "out", workers=1)


def test_a_second_sweep_replaces_the_first(tmp_path: Path) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path))
    sweep(experiment, runs, tmp_path / "out", workers=1)
    draw_directory(tmp_path / "out")
    sweep(experiment, runs[:1], tmp_path / "out", workers=1)
    assert len(pd.read_parquet(tmp_path / "out" / "runs.parquet")) == 1
    assert not (tmp_path / "out" / "figures").exists(), "figures of other data would be worse than none"
