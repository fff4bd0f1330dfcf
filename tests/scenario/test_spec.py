"""Scenario files: what they may say, and what is said of those that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.cni import cni_names
from kubesim.cost import DEFAULT_COST_SET
from kubesim.errors import InputError
from kubesim.proxy import proxy_names
from kubesim.scenario import Scenario, load_scenario
from kubesim.scenario.simulation import provenance
from kubesim.workload import workload_names

GOOD = """\
name: good
cluster: {nodes: 2, services: 10}
cni: flannel-vxlan
proxy: {name: ipvs, scheduler: wlc}
traffic:
  workload: tcp_rr
  clients: 2
hardware: {cores: 4, softirq_cores: 2}
"""


def load(text: str, tmp_path: Path) -> Scenario:
    """A scenario from text."""
    file = tmp_path / "scenario.yaml"
    file.write_text(text)
    return load_scenario(file)


def test_a_scenario_file(tmp_path: Path) -> None:
    scenario = load(GOOD, tmp_path)
    assert (scenario.cni.name, scenario.proxy.name, scenario.proxy.scheduler) == ("flannel-vxlan", "ipvs", "wlc")
    assert scenario.traffic.clients == 2
    assert scenario.seed == 1
    again = Scenario.model_validate_json(scenario.model_dump_json(by_alias=True))
    assert again == scenario


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    text = GOOD.replace("nodes: 2,", "nodes: 2, manifests: web.yaml,") + "costs: mine.yaml\n"
    scenario = load(text, tmp_path / "sub")
    assert scenario.cluster.manifests == [tmp_path / "sub" / "web.yaml"]
    assert scenario.costs == str(tmp_path / "sub" / "mine.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("flannel-vxlan", "flanel-vxlan", "line 3: cni: there is no 'flanel-vxlan': did you mean 'flannel-vxlan'?"),
        ("name: ipvs", "name: ipvz", "line 4: proxy.name: there is no 'ipvz': did you mean 'ipvs'?"),
        ("scheduler: wlc", "scheduler: wl", "line 4: proxy.scheduler: there is no scheduler 'wl': did you mean 'wlc'?"),
        ("scheduler: wlc", "sheduler: wlc", "line 4: proxy.sheduler: unknown field: did you mean 'scheduler'?"),
        ("tcp_rr", "tcp_r", "line 6: traffic.workload: there is no 'tcp_r': did you mean 'tcp_rr'?"),
        ("workload: tcp_rr", "clients_on: [node-1]", "line 5: traffic: the field 'workload' is needed"),
        ("clients: 2", "client: 2", "line 7: traffic.client: unknown field: did you mean 'clients'?"),
        ("clients: 2", "clients: 0", "line 7: traffic.clients: input should be greater than or equal to 1, not 0"),
        ("clients: 2", "clients: many", "line 7: traffic.clients: input should be a valid integer"),
        ("clients: 2", "clients: 2\n  from: x", "line 5: traffic: give either from, or clients and clients_on"),
        ("nodes: 2", "node: 2", "line 2: cluster.node: unknown field: did you mean 'nodes'?"),
        ("nodes: 2", "nodes: -2", "line 2: cluster.nodes: input should be greater than or equal to 1, not -2"),
        ("cluster:", "clusters:", "line 2: clusters: unknown field: did you mean 'cluster'?"),
        ("cni: flannel-vxlan\n", "", "cni: this field is needed"),
        (
            "softirq_cores: 2",
            "softirq_cores: 4",
            "line 8: hardware.softirq_cores: 4 of 4 cores for interrupts leave none",
        ),
        ("name: good", "name: good\nname: bad", "line 2: 'name' is there already, on line 1"),
        ("traffic:", "traffic: {", "line 7, column 10"),
        ("name: good", "engine: sympy", "line 1: engine: there is no engine 'sympy': did you mean 'simpy'?"),
        ("name: good", "seed: -1", "line 1: seed: input should be greater than or equal to 0, not -1"),
        ("name: good", "warmup_ratio: 1.5", "line 1: warmup_ratio: input should be less than 1, not 1.5"),
        ("name: good", "name: [x]", "line 1: name: input should be a valid string"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        load(GOOD.replace(old, new, 1), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "5\n"])
def test_a_file_that_is_no_mapping(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a mapping is needed, with fields such as name, description"):
        load(text, tmp_path)


def test_the_schema_names_every_plugin_and_field() -> None:
    text = str(Scenario.model_json_schema(by_alias=True))
    for name in (
        *cni_names(),
        *proxy_names(),
        *workload_names(),
        "softirq_cores",
        "request_bytes",
        "scheduler",
        "'from'",
    ):
        assert name in text


def test_every_field_is_described() -> None:
    definitions = Scenario.model_json_schema(by_alias=True)["$defs"]
    for name, definition in definitions.items():
        for field, described in definition.get("properties", {}).items():
            if field not in ("name", "workload", "choice"):
                assert described.get("description"), f"{name}.{field}"


def test_where_files_lie_leaves_no_trace_in_results(online_boutique: Path, tmp_path: Path) -> None:
    texts = []
    for place in ("here", "there"):
        directory = tmp_path / place
        directory.mkdir()
        (directory / "shop.yaml").write_bytes(online_boutique.read_bytes())
        (directory / "mine.yaml").write_text(f"extends: {DEFAULT_COST_SET}\n")
        (directory / "scenario.yaml").write_text(
            "{cluster: {manifests: [shop.yaml]}, cni: calico-bgp, proxy: ipvs, costs: mine.yaml,"
            " traffic: {workload: call_graph, requests: 2}}"
        )
        texts.append(provenance(load_scenario(directory / "scenario.yaml")))
    assert texts[0] == texts[1]
    assert "shop.yaml (sha256 " in texts[0]["scenario"]
    assert str(tmp_path) not in texts[0]["scenario"]
    assert texts[0]["cost_set"].startswith("mine.yaml (sha256 ")
