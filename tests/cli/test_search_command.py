"""``kubesim search`` as somebody uses it: what it prints, its exit codes, and what it says of what makes no sense."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kubesim.experiment import places
from tests.cli.test_commands import Done, fail, kubesim

SCENARIO = """\
name: small
cluster: {nodes: 2, services: 1, endpoints: 1, endpoint_nodes: [node-2]}
cni: flannel-host-gw
proxy: iptables
traffic: {workload: tcp_crr, clients_on: [node-1], transactions: 4, to: {choice: last}}
"""
BORDER = ("--until", "first_packet_rules < 60", "--within", "50 %", "--replications", 3, "--workers", 1)
"""Rules are counted, so that three replications tell."""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A scenario that takes a moment."""
    file = tmp_path / "small.yaml"
    file.write_text(SCENARIO)
    return file


def test_a_border_is_shown(scenario: Path) -> None:
    done = kubesim("search", scenario, "--vary", "cluster.services", *BORDER)
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"\s{2,}", "|", line.strip()) for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == "value(first_packet_rules) < 60, cluster.services varied"
    assert lines[1] == "cluster.services|estimate|from limit|replications|verdict"
    rows = [line.split("|") for line in lines[3:-2]]
    levels = [int(row[0]) for row in rows]
    assert levels == sorted(levels)
    assert {row[-1] for row in rows} == {"holds", "fails"}
    last = max(int(row[0]) for row in rows if row[-1] == "holds")
    first = min(int(row[0]) for row in rows if row[-1] == "fails")
    assert last < first
    assert lines[-2] == f"it holds up to cluster.services = {last} and fails at {first}"
    assert lines[-1] == f"{3 * len(rows)} runs of {len(rows)} levels"


def test_json_is_for_programs(scenario: Path) -> None:
    done = kubesim("search", scenario, "--vary", "cluster.services", *BORDER, "--set", "cluster.services=3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["field"], found["expectation"]) == ("cluster.services", "value(first_packet_rules) < 60")
    assert found["tried"][0]["level"] <= found["holds_at"] < found["fails_at"] <= found["tried"][-1]["level"]
    assert found["runs"] == 3 * len(found["tried"])
    assert 3 in {one["level"] for one in found["tried"]}, "it begins at what --set says"
    for one in found["tried"]:
        assert one["low"] <= one["estimate"] <= one["high"]
        assert (one["verdict"] == "holds") == (one["estimate"] < 60)


def test_no_border_is_exit_code_3(scenario: Path) -> None:
    within = ("--vary", "cluster.services", "--from", 2, "--to", 3, "--workers", 1)
    done = kubesim("search", scenario, *within, "--until", "mean < 1 s")
    assert done.returncode == 3
    assert "cluster.services from 2 to 3: it holds everywhere" in done.stdout
    assert done.stderr == "note: there is no border in the range: give another --from or --to\n"
    done = kubesim("search", scenario, *within, "--until", "mean < 1 ns")
    assert "it fails everywhere" in done.stdout
    assert done.returncode == 3


def test_what_stopped_it_is_said(scenario: Path) -> None:
    done = kubesim("search", scenario, "--vary", "hardware.cores", "--from", 512, "--until", "mean < 1 s", "--json",
                   "--workers", 1)  # fmt: skip
    assert done.returncode == 3
    assert json.loads(done.stdout)["fails_at"] is None
    notes = done.stderr.splitlines()
    assert len(notes) == 2
    assert "hardware.cores: input should be less than or equal to 1024, not 2048" in notes[0]


def test_data_that_cannot_tell_are_exit_code_3_too(scenario: Path) -> None:
    probe = kubesim("search", scenario, "--vary", "cluster.services", "--from", 1, "--to", 2, "--until", "mean < 1 s",
                    "--workers", 1, "--json")  # fmt: skip
    limits = [one["estimate"] for one in json.loads(probe.stdout)["tried"]]
    until = f"mean within {min(limits)} ns to 1 s"
    done = kubesim("search", scenario, "--vary", "cluster.services", "--from", 1, "--to", 2, "--until", until,
                   "--replications", 3, "--workers", 1)  # fmt: skip
    assert done.returncode == 3
    assert "cannot tell" in done.stdout
    assert "note: at cluster.services = " in done.stderr
    assert "the interval reaches over the limit" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "cluster.servces"], "--vary cluster.servces: unknown field: did you mean 'services'?"),
        (["--vary", "cluster.servces", "--from", "1"], "--vary cluster.servces: unknown field: did you mean 'services'?"),
        (["--vary", "cluster.services.x"], "--vary cluster.services.x: services has no fields"),
        (["--vary", "proxy"], "--vary proxy: this is no number"),
        (["--vary", "hardware.has_tunnel_offload"], "this is no number"),
        (["--vary", "name", "--from", "1"], "--vary name: text is needed, not 1"),
        (["--vary", "seed", "--from", "1", "--to", "2.5"], "--vary seed: its levels are whole numbers, and 2.5 is none"),
        (["--vary", "cluster.services", "--from", "5", "--to", "5"], "--from 5 has to be less than --to 5"),
        (["--vary", "cluster.services", "--to", "inf"], "--to inf: a number is needed"),
        (["--vary", "cluster.services", "--to", "nan"], "--to nan: a number is needed"),
        (["--vary", "cluster.services", "--from", "1", "--to", "1e9"], "cluster.services: input should be less than or equal to 250000"),
        (["--vary", "cluster.services", "--within", "2"], "--within 2: a share is needed, such as 1 %"),
        (["--vary", "cluster.services", "--set", "proxy=ipv"], "--set proxy: there is no 'ipv': did you mean 'ipvs'?"),
        (["--vary", "cluster.services", "--until", "p98 < 1 ms"], "--until: 'p98' is no measure: did you mean 'p99'?"),
        (["--vary", "cluster.services", "--until", "p99 < 1 %"], "--until: at '1 %': % is no unit of latency_p99_ns"),
        (["--vary", "cluster.services", "--until", "p99"], "--until: at its end: >, >=, <, <= or within is needed"),
        (["--vary", "cluster.services", "--until", "regression: a.parquet within 1 %"], "--until: a search needs an expectation of a measure"),
        (["--vary", "cluster.services", "--until", "snat_highest_ports < 5"], "--until: the results have no 'snat_highest_ports'"),
        (["--vary", "cluster.services", "--until", "value(p99, prxy=ipvs) < 1 ms"], "prxy: unknown field: did you mean 'proxy'?"),
        (["--vary", "cluster.services", "--replications", "2"], "'--replications'"),
        (["--until", "p99 < 1 ms"], "'--vary'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(arguments: list[str], message: str, scenario: Path) -> None:
    until = [] if "--until" in arguments else ["--until", "p99 < 1 ms"]
    assert message in fail("search", scenario, "--workers", 1, *arguments, *until)


def test_no_scenario(tmp_path: Path) -> None:
    assert "cannot read" in fail("search", tmp_path / "none.yaml", "--vary", "seed", "--until", "p99 < 1 ms")
    (tmp_path / "list.yaml").write_text("[1]")
    assert "a mapping is needed" in fail(
        "search", tmp_path / "list.yaml", "--vary", "seed", "--from", 1, "--until", "p99 < 1 ms"
    )


def test_ctrl_c(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(places, "run_one", interrupt)
    done = kubesim("search", scenario, "--vary", "cluster.services", *BORDER)
    assert done == Done(130, "", "kubesim: interrupted\n")
