"""Scenario files: what they may say, and what is said of those that make no sense."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from kubesim.cni import cni_names
from kubesim.cost import DEFAULT_COST_SET, Number
from kubesim.errors import InputError
from kubesim.proxy import proxy_names
from kubesim.scenario import Scenario, load_scenario
from kubesim.scenario.provenance import provenance
from kubesim.scenario.spec import Hardware
from kubesim.workload import workload_class, workload_names

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
        ("clients: 2", "clients: many", "line 7: traffic.clients: a whole number is needed, not 'many'"),
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
        (
            "softirq_cores: 2",
            "softirq_cores: 2, rps_cores: 2",
            "line 8: hardware.rps_cores: 2 for RPS and 2 for interrupts of 4 cores leave none for applications",
        ),
        ("softirq_cores: 2", "rps_cores: -1", "line 8: hardware.rps_cores: input should be greater than or equal to 0"),
        ("softirq_cores: 2", "rps_core: 1", "line 8: hardware.rps_core: unknown field: did you mean 'rps_cores'?"),
        ("name: good", "name: good\nname: bad", "line 2: 'name' is there already, on line 1"),
        ("traffic:", "traffic: {", "line 7, column 10"),
        ("name: good", "engine: sympy", "line 1: engine: there is no engine 'sympy': did you mean 'simpy'?"),
        ("name: good", "seed: -1", "line 1: seed: input should be greater than or equal to 0, not -1"),
        ("name: good", "warmup: 1.5", "line 1: warmup: input should be less than 1, not 1.5"),
        ("nodes: 2", "nodes: true", "line 2: cluster.nodes: a number is needed, not true or false"),
        (
            "nodes: 2",
            "service_cidr: 127.0.0.0/8",
            "line 2: cluster.service_cidr: 127.0.0.0/8 cannot be used: 127.0.0.0/8 is for loopback",
        ),
        (
            "nodes: 2",
            "pod_cidr: 224.0.0.0/8",
            "line 2: cluster.pod_cidr: 224.0.0.0/8 cannot be used: 224.0.0.0/4 is for multicast",
        ),
        ("nodes: 2", "node_cidr: 0.0.0.0/0", "line 2: cluster.node_cidr: 0.0.0.0/0 cannot be used: 0.0.0.0/8 is for"),
        ("nodes: 2", "pod_cidr: 10.1.x", "line 2: cluster.pod_cidr: '10.1.x' is not an IPv4 range"),
        (
            "cluster: {nodes: 2, services: 10}",
            "cluster: 5",
            "line 2: cluster: a mapping is needed, with fields such as manifests, nodes, services, endpoints, not 5",
        ),
        ("clients: 2", "to: []", "line 7: traffic.to: list should have at least 1 item, not 0"),
        ("clients: 2", "to: 5", "line 7: traffic.to: a list is needed, not 5"),
        ("clients: 2", "to: {choice: zpf}", "line 7: traffic.to.choice: there is no 'zpf': did you mean 'zipf'?"),
        ("clients: 2", "to: {choise: zipf}", "line 7: traffic.to.choise: unknown field: did you mean 'choice'?"),
        (
            "clients: 2",
            "to: {choice: zipf, exponent: .nan}",
            "line 7: traffic.to.exponent: a finite number is needed, not nan",
        ),
        (
            "cores: 4",
            "nic_gbit_per_s: 1.0e-300",
            "line 8: hardware.nic_gbit_per_s: input should be greater than or equal to 0.001",
        ),
        ("cores: 4", "cores: {}", "line 8: hardware.cores: a whole number is needed"),
        ("name: good", "name: [x]", "line 1: name: text is needed"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        load(GOOD.replace(old, new, 1), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def number_fields(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """Every field of a model, or of one that it holds, that takes numbers with a fraction."""
    for name, field in model.model_fields.items():
        if "float" in repr(field.annotation):
            yield model, name
        for inner in models_in(field.annotation):
            yield from number_fields(inner)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


NUMBER_FIELDS = [*sorted(set(number_fields(Scenario)), key=str), (Number, "value"), (Number, "uncertainty")]


def test_the_fields_that_take_fractions_are_found() -> None:
    names = {name for _, name in NUMBER_FIELDS}
    assert names >= {"nic_gbit_per_s", "exponent", "rate_per_s", "think_us", "work_us", "warmup", "timeout_ms"}


@pytest.mark.parametrize(("model", "name"), NUMBER_FIELDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(model: type[BaseModel], name: str, value: float) -> None:
    given = {"a": value} if "dict" in repr(model.model_fields[name].annotation) else value
    with pytest.raises(ValidationError) as caught:
        model.model_validate({name: given})
    assert "finite_number" in {error["type"] for error in caught.value.errors() if error["loc"][0] == name}


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        ("poisson_connections", "rate_per_s", 1e-300),
        ("udp_stream", "rate_per_s", 1e-300),
        ("udp_rr", "timeout_ms", 1e-300),
        ("call_graph", "work_us", {"a": -1}),
    ],
)
def test_numbers_are_not_absurd(model: str, name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        workload_class(model).model_validate({name: value})
    assert [error["loc"][0] for error in caught.value.errors()] == [name]


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


def test_as_many_cores_as_take_interrupts_leave_none() -> None:
    with pytest.raises(ValueError, match="4 of 4 cores for interrupts leave none for applications"):
        Hardware(cores=4)
    assert Hardware(cores=4, softirq_cores=2).cores == 4
