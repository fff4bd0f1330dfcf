"""The command line, as people and scripts use it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator

from kubesim.cli import main
from kubesim.experiment import places

SCENARIO = """\
name: small
cluster: {nodes: 2, services: 20, endpoints: 2, endpoint_nodes: [node-2]}
cni: flannel-vxlan
proxy: iptables
traffic: {workload: tcp_rr, clients_on: [node-1], transactions: 40}
"""

EXPERIMENT = """\
name: small
question: Does it work?
scenario:
  cluster: {nodes: 2, services: 5}
  cni: calico-bgp
  proxy: none
  traffic: {workload: tcp_rr, transactions: 20}
factors: {proxy: [iptables, nftables], cluster.services: [1, 5]}
figures: [{name: f, x: cluster.services, y: latency_p50_ns, by: proxy}]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A scenario file."""
    file = tmp_path / "scenario.yaml"
    file.write_text(SCENARIO)
    return file


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment file."""
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT)
    return file


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def kubesim(*arguments: object) -> Done:
    """Run the program in this process, as its entry point does."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["kubesim", *map(str, arguments)])
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
    return Done(code or 0, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> str:
    """Run it and expect that it worked; what it printed."""
    done = kubesim(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(*arguments: object) -> str:
    """Run it and expect one line about what was wrong, and exit code 2."""
    done = kubesim(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("kubesim: ")
    return done.stderr


def fail_last(*arguments: object) -> str:
    """Run it and expect that it fails at its end, behind a progress bar; the last line."""
    done = kubesim(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def test_run_prints_a_table_and_writes_a_directory(scenario: Path, tmp_path: Path) -> None:
    text = succeed("run", scenario, "--out", tmp_path / "out", "--packets", "--csv")
    for word in ("latency p99", "throughput", "first packet", "syscall_receive", "written to"):
        assert word in text
    files = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert files >= {
        "manifest.json", "summary.json", "scenario.json", "transactions.parquet", "transactions.csv", "breakdown.csv",
        "utilisation.parquet", "packets.parquet", "hops.csv", "figures/latency.png", "figures/breakdown.svg",
    }  # fmt: skip
    table = pd.read_parquet(tmp_path / "out" / "transactions.parquet")
    assert set(table.columns) >= {"latency_ns", "kubesim_version", "seed", "cost_set", "scenario_sha256"}
    pictures = succeed("plot", tmp_path / "out").split()
    assert all(Path(picture).exists() for picture in pictures)


def test_run_says_unstable_where_latency_has_no_mean(scenario: Path) -> None:
    overloaded = {"workload": "poisson_connections", "rate_per_s": 90_000, "connections": 500, "server_us": 100}
    settings = [f"traffic={json.dumps({'to': {'choice': 'last'}, 'clients_on': ['node-1'], **overloaded})}"]
    settings += ["cluster.endpoints=1"]
    options = [part for setting in settings for part in ("--set", setting)]
    lines = [line.split() for line in succeed("run", scenario, *options).splitlines() if "latency" in line]
    assert len(lines) == 5
    assert all(line[-1] == "unstable" for line in lines)
    found = json.loads(succeed("run", scenario, "--json", *options))["summary"]
    assert found["latency_p99_ns"] is None
    assert found["offered_load"] > 1


def test_run_twice_gives_the_same_bytes(scenario: Path, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        succeed("run", scenario, "--out", tmp_path / name, "--packets")
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()})
    assert written[0] == written[1]


def test_a_used_directory_holds_nothing_of_the_run_before(scenario: Path, experiment: Path, tmp_path: Path) -> None:
    def files() -> set[str]:
        return {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}

    succeed("run", scenario, "--out", tmp_path / "out")
    fresh = files()
    succeed("run", scenario, "--out", tmp_path / "out", "--packets")
    succeed("run", scenario, "--out", tmp_path / "out")
    assert files() == fresh
    (tmp_path / "out" / "notes.txt").write_text("mine")
    message = fail_last("sweep", experiment, "--out", tmp_path / "out", "--workers", 1)
    assert "holds the results of a run: give another directory for those of a sweep" in message
    assert files() == {*fresh, "notes.txt"}


def test_run_as_json_with_fields_changed(scenario: Path) -> None:
    found = json.loads(succeed("run", scenario, "--json", "--set", "proxy=nftables", "--set", "cluster.services=7"))
    changed = json.loads(found["scenario"])
    assert (changed["proxy"]["name"], changed["cluster"]["services"]) == ("nftables", 7)
    assert found["summary"]["transactions"] == 36
    scheduled = json.loads(succeed("run", scenario, "--json", "--set", "proxy=ipvs", "--set", "proxy.scheduler=lc"))
    assert json.loads(scheduled["scenario"])["proxy"]["scheduler"] == "lc"


def test_trace(scenario: Path) -> None:
    text = succeed("trace", scenario, "--from", "client-1", "--to", "svc-07")
    for word in ("first reply", "conntrack_new", "nat/PREROUTING", "delivered to default/svc-07-0", "rules tested"):
        assert word in text
    found = json.loads(succeed("trace", scenario, "--from", "client-1", "--to", "svc-07:80", "--json"))
    assert [packet["kind"] for packet in found["packets"]] == ["first", "first_reply", "established", "reply"]
    lost = succeed("trace", scenario, "--from", "client-1", "--to", "8.8.8.8")
    assert "got nowhere: 8.8.8.8 is not in the cluster" in lost


def test_trace_in_words_and_as_a_picture(scenario: Path, tmp_path: Path) -> None:
    ends = ("trace", scenario, "--from", "client-1", "--to", "svc-07")
    text = succeed(*ends, "--text", "--packet", "reply", "--packet", "first")
    assert text.startswith("reply: tcp 10.244.")
    assert text.count("PREROUTING (iif cni0): conntrack finds") == 2
    drawn = tmp_path / "new" / "way.svg"
    assert f"written to {drawn}" in succeed(*ends, "--picture", drawn)
    found = json.loads(succeed(*ends, "--picture", tmp_path / "way.png", "--json"))
    assert len(found["packets"]) == 4
    assert drawn.read_text("utf-8").startswith("<?xml")
    assert (tmp_path / "way.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--picture", "way.pdf"], "picture: way.pdf: a picture is a .png or .svg file"),
        (["--packet", "first"], "--packet goes with --picture or --text"),
        (["--text", "--packet", "frist"], "packet: there is no 'frist': did you mean 'first'?"),
        (["--text", "--json"], "--text and --json are two forms of the same: give one of them"),
    ],
)
def test_what_cannot_be_drawn_or_told(options: list[str], message: str, scenario: Path) -> None:
    assert message in fail("trace", scenario, "--from", "client-1", "--to", "svc-07", *options)


@pytest.mark.parametrize("option", [["--picture", "way.svg"], ["--text"], ["--packet", "first"]])
def test_dumps_have_no_pictures(option: list[str]) -> None:
    said = fail("trace", "--rules", "x", "--src", "10.0.0.1", "--dst", "10.0.0.2", "--dport", "80", *option)
    assert f"{option[0]} goes with a scenario, not with --rules" in said


def test_sweep_and_plot(experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = succeed("sweep", experiment, "--workers", 2)
    assert "Does it work?" in text
    out = tmp_path / "results" / "small"
    assert len(pd.read_parquet(out / "runs.parquet")) == 4
    picture = out / "figures" / "f.png"
    before = picture.read_bytes()
    picture.unlink()
    found = json.loads(succeed("plot", out, "--json"))
    assert [Path(name).name for name in found["figures"]] == ["f.png", "f.svg"]
    assert picture.read_bytes() == before
    again = json.loads(succeed("sweep", experiment, "--out", out, "--json"))
    assert (again["finished"], again["planned"]) == (4, 4)


def test_costs(scenario: Path) -> None:
    text = succeed("costs", scenario)
    titles = [
        line.rstrip() for line in text.splitlines() if line.rstrip() in ("assumed", "derived", "published", "given")
    ]
    assert titles == ["assumed", "derived", "published", "given"]
    found = json.loads(succeed("costs", scenario, "--json"))
    kinds = [number["kind"] for number in found["numbers"]]
    assert kinds == sorted(kinds, key=["assumed", "derived", "published", "measured", "given"].index)
    operations = {number["operation"] for number in found["numbers"]}
    assert {"vxlan_encapsulate", "iptables_rule", "core_wakeup"} <= operations
    assert "ipvs_schedule" not in operations, "only what the scenario uses"
    assert all(number["source"] for number in found["numbers"])


def test_the_schema_of_results_says_what_columns_are(scenario: Path) -> None:
    found = json.loads(succeed("schema", "results"))
    assert list(found) == ["runs", "estimates", "breakdown", "latencies"]
    assert found["runs"]["latency_p99_ns"]["unit"] == "ns"
    summary = json.loads(succeed("run", scenario, "--json"))["summary"]
    assert set(summary) <= set(found["runs"])


def test_schemas_accept_what_the_program_accepts(repository: Path) -> None:
    schema = json.loads(succeed("schema"))
    validator = Draft202012Validator(schema)
    validator.validate(yaml.safe_load(SCENARIO))
    bad: Any = yaml.safe_load(SCENARIO.replace("tcp_rr", "tcp_r"))
    assert not validator.is_valid(bad)
    experiments = Draft202012Validator(json.loads(succeed("schema", "experiment")))
    for file in (repository / "experiments").glob("*.yaml"):
        experiments.validate(yaml.safe_load(file.read_text()))


def test_help_and_version() -> None:
    text = succeed("--help")
    for command in ("run", "trace", "sweep", "plot", "costs", "schema"):
        assert f" {command} " in text
        assert "Usage" in succeed(command, "--help")
    assert succeed("--version").startswith("kubesim ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("flannel-vxlan", "flannel-vxlna", "did you mean 'flannel-vxlan'?"),
        ("iptables", "iptable", "did you mean 'iptables'?"),
        ("tcp_rr", "tcp_rx", "did you mean 'tcp_r"),
        ("transactions", "transaction", "did you mean 'transactions'?"),
        ("nodes: 2", "nodes: [", "line "),
        ("transactions: 40", "transactions: -40", "greater than or equal to 1"),
        ("transactions: 40", "transactions: 99999999", "too many to be held in memory"),
        ("services: 20", "services: 0", "this scenario has no traffic"),
        ("services: 20", "manifests: [nowhere.yaml]", "nowhere.yaml: No such file"),
        ("services: 20", "services: 20, pod_cidr: 10.96.0.0/16", "overlaps service_cidr"),
        ("services: 20", "services: 20, pod_cidr: 10.1.0.0/30", "is too small for 2 nodes"),
        ("clients_on: [node-1]", "clients_on: [node-7]", "there is no node 'node-7' for pod client-1"),
        ("clients_on: [node-1]", "from: nobody", "there is no pod 'nobody'"),
        ("clients_on: [node-1]", "to: nobody", "there is no Service 'nobody'"),
        ("name: small", "costs: cheap", "there is no cost set 'cheap'"),
    ],
)
def test_bad_scenarios(old: str, new: str, message: str, scenario: Path, tmp_path: Path) -> None:
    assert old in SCENARIO
    scenario.write_text(SCENARIO.replace(old, new, 1))
    assert message in fail("run", scenario, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written"


def test_bad_arguments(scenario: Path, experiment: Path, tmp_path: Path) -> None:
    assert "cannot read" in fail("run", tmp_path / "missing.yaml")
    assert "cannot read" in fail("run", tmp_path)
    assert "FIELD=VALUE is needed" in fail("run", scenario, "--set", "proxy")
    assert "there is no pod, node or machine outside 'x'" in fail("trace", scenario, "--from", "x", "--to", "svc-07")
    assert "there is no Service, pod or node 'svc-7'" in fail("trace", scenario, "--from", "client-1", "--to", "svc-7")
    assert "only tcp and udp can be traced, not 'sctp'" in fail(
        "trace", scenario, "--from", "client-1", "--to", "svc-07", "--protocol", "sctp"
    )
    assert "cluster.manifests: cannot read" in fail("run", scenario, "--set", "cluster.manifests=[.]")
    assert "costs: cannot read" in fail("run", scenario, "--set", "costs=nope.yaml")
    assert "there is no schema of 'x'" in fail("schema", "x")
    assert "holds no results of kubesim" in fail("plot", tmp_path)
    assert "cannot write" in fail("run", scenario, "--out", scenario / "below-a-file")
    assert "holds files that are no results" in fail("sweep", experiment, "--out", tmp_path)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(EXPERIMENT.replace("cluster.services", "cluster.servces"))
    assert "did you mean 'services'?" in fail("sweep", wrong, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["proxxy=none"], "--set proxxy: unknown field: did you mean 'proxy'?"),
        (["name.x=1"], "--set name.x: name has no fields"),
        (["seed=["], "--set seed: '[' is not YAML"),
        (["cluster.nodes=-1"], "--set cluster.nodes: input should be greater than or equal to 1, not -1"),
        (["cluster.nodes=2", "cluster.nodes=true"], "--set cluster.nodes: a number is needed, not true or false"),
        (["traffic={workload: tcp_rr, to: 5}"], "--set traffic: to: a list is needed, not 5"),
        (["traffic.to=[]"], "--set traffic.to: list should have at least 1 item"),
        (["traffic.to.choice=zpf"], "--set traffic.to.choice: there is no 'zpf': did you mean 'zipf'?"),
        (["cluster.pod_cidr=10.96.0.0/16"], "scenario.yaml, line 2 (with --set cluster.pod_cidr): cluster: pod_cidr"),
        (["cluster.nodes=2", "traffic.clients=0"], "--set traffic.clients: input should be"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings: list[str], message: str, scenario: Path) -> None:
    said = fail("run", scenario, *(word for setting in settings for word in ("--set", setting)))
    assert message in said


def test_a_setting_is_not_blamed_for_the_file(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("transactions: 40", "transactions: 0"))
    said = fail("run", scenario, "--set", "cluster.nodes=3", "--set", "traffic.clients=1")
    assert "scenario.yaml, line 5: traffic.transactions: input should be" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "no such command 'rnu'. Did you mean 'run'?"),
        (["sweep", "x.yaml", "--workers", "0"], "invalid value for '--workers'"),
        (["trace", "x.yaml", "--from", "client-1"], "trace needs a scenario with --from and --to"),
        (["run"], "missing argument 'SCENARIO.yaml'"),
        (["run", "x.yaml", "--foo"], "no such option: --foo"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    assert message in fail(*arguments)


def test_without_arguments_there_is_help() -> None:
    assert "Usage" in succeed()


def interrupt(*_: Any, **__: Any) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["kubesim.scenario.simulation.deploy", "kubesim.cli.inputs.scenario_with"])
def test_ctrl_c_during_a_run(place: str, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, interrupt)
    assert kubesim("run", scenario) == Done(130, "", "kubesim: interrupted\n")


def test_ctrl_c_during_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader:
        find_spec = staticmethod(interrupt)

    for name in [name for name in sys.modules if name.startswith("kubesim.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Loader(), *sys.meta_path])
    assert kubesim("run", "x.yaml") == Done(130, "", "kubesim: interrupted\n")


def test_ctrl_c_during_a_sweep_shows_what_there_is(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = "figures: [{name: f, x: cluster.services, y: latency_p50_ns, by: proxy, where: {proxy: %s}}]\n"
    tables = "tables: [{title: with %s, value: latency_p50_ns, rows: [cluster.services], where: {proxy: %s}}]\n"
    text = EXPERIMENT.partition("figures")[0]
    for field, entry in (("figures", figures), ("tables", tables)):
        entries = [entry.replace("%s", name).partition("[")[2].rpartition("]")[0] for name in ("iptables", "nftables")]
        text += f"{field}: [{', '.join(entries)}]\n".replace("name: f,", "name: f-1,", 1)
    experiment.write_text(text)

    def run_one(key: tuple[int, int], scenario: str) -> places.Done:
        return interrupt() if key == (2, 0) else really_run_one(key, scenario)

    really_run_one = places.run_one
    monkeypatch.setattr(places, "run_one", run_one)
    out = tmp_path / "out"
    done = kubesim("sweep", experiment, "--out", out, "--workers", 1)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-3:] == [
        "note: the figure f is left out: no finished run has anything to show in it",
        "note: the table 'with nftables' is left out: no finished run has anything to show in it",
        f"kubesim: interrupted: 2 of 4 runs are finished and kept in {out}",
    ]
    assert "with iptables" in done.stdout
    assert {file.name for file in (out / "figures").iterdir()} == {"f-1.png", "f-1.svg"}
    again = kubesim("plot", out)
    assert again.returncode == 0
    assert again.stderr == "note: the figure f is left out: no finished run has anything to show in it\n"
    assert again.stdout.split() == [str(out / "figures" / "f-1.png"), str(out / "figures" / "f-1.svg")]


def test_a_sweep_of_one_run_without_tables_of_its_own(experiment: Path, tmp_path: Path) -> None:
    text = EXPERIMENT.partition("factors")[0]
    experiment.write_text(text + "factors: {proxy: [nftables]}\n")
    assert "nftables" in succeed("sweep", experiment, "--out", tmp_path / "out", "--workers", 1)
    experiment.write_text(text + "factors: {proxy: [nftables]}\ntables: [{value: latncy_p50_ns, rows: [proxy]}]")
    message = fail("sweep", experiment, "--out", tmp_path / "misspelt", "--workers", 1)
    assert "tables.0: 'latncy_p50_ns' is no measure: did you mean 'latency_p50_ns'?" in message
    assert not (tmp_path / "misspelt").exists(), "nothing is run for a table that cannot be"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(scenario: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "cannot write to" in fail("run", scenario, "--out", locked / "out")


def test_the_program_itself(scenario: Path) -> None:
    for arguments, code in (([], 0), (["--set", "proxy=x"], 2)):
        command = [sys.executable, "-m", "kubesim", "run", str(scenario), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


def test_output_that_nobody_reads_to_the_end(scenario: Path) -> None:
    command = f"{sys.executable} -m kubesim trace {scenario} --from client-1 --to svc-07 | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr


def test_levels_across_a_table_may_be_truth_values(experiment: Path, tmp_path: Path) -> None:
    table = "tables: [{value: latency_p50_ns, rows: [proxy], columns: hardware.has_tunnel_offload}]\n"
    factors = "factors: {proxy: [iptables, nftables], hardware.has_tunnel_offload: [false, true]}\n"
    experiment.write_text(EXPERIMENT.partition("factors")[0] + factors + table)
    done = kubesim("sweep", experiment, "--out", tmp_path / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert ["proxy", "no", "yes"] in lines
    assert [line[0] for line in lines if line[0] in ("iptables", "nftables")] == ["iptables", "nftables"]
