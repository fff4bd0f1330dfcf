"""Files that include others."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.errors import InputError
from kubesim.experiment import load_experiment
from kubesim.scenario import load_scenario

BASE = """\
cluster: {nodes: 2, services: 5, endpoints: 1}
cni: {name: calico-bgp, has_policy_chains: false}
proxy: iptables
traffic: {workload: tcp_rr, transactions: 10}
"""


def write(directory: Path, **files: str) -> Path:
    """Write files, whose names end in .yaml; the directory."""
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_own_fields_stand_over_included_ones(tmp_path: Path) -> None:
    write(tmp_path, parts__base=BASE, own="include: parts/base.yaml\ncluster: {services: 7}\nproxy: ipvs\n")
    scenario = load_scenario(tmp_path / "own.yaml")
    assert (scenario.cluster.services, scenario.cluster.endpoints, scenario.proxy.name) == (7, 1, "ipvs")
    assert not scenario.cni.has_policy_chains


def test_settings_of_another_plugin_replace_and_of_the_same_are_merged(tmp_path: Path) -> None:
    write(tmp_path, base=BASE, other="include: base.yaml\ncni: {name: flannel-vxlan}\n")
    assert load_scenario(tmp_path / "other.yaml").cni.name == "flannel-vxlan"
    write(tmp_path, same="include: base.yaml\ncni: {name: calico-bgp, pod_mtu: 1400}\n")
    cni = load_scenario(tmp_path / "same.yaml").cni
    assert (cni.pod_mtu, cni.has_policy_chains) == (1400, False)
    write(tmp_path, traffic="include: base.yaml\ntraffic: {workload: tcp_stream, buffers: 3}\n")
    assert load_scenario(tmp_path / "traffic.yaml").traffic.workload == "tcp_stream"


def test_later_files_stand_over_earlier_ones_and_includes_include(tmp_path: Path) -> None:
    write(tmp_path, base=BASE, more="include: base.yaml\nseed: 5\n", last="seed: 6\nproxy: nftables\n")
    write(tmp_path, own="include: [more.yaml, last.yaml]\n")
    scenario = load_scenario(tmp_path / "own.yaml")
    assert (scenario.seed, scenario.proxy.name) == (6, "nftables")


def test_paths_are_those_of_the_file_that_has_them(tmp_path: Path) -> None:
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
    write(
        tmp_path, parts__service=manifest, parts__base=BASE.replace("nodes: 2", "nodes: 2, manifests: [service.yaml]")
    )
    write(tmp_path, runs__own="include: ../parts/base.yaml\n")
    (path,) = load_scenario(tmp_path / "runs" / "own.yaml").cluster.manifests
    assert path.resolve() == (tmp_path / "parts" / "service.yaml").resolve()


def test_the_scenario_of_an_experiment_includes(tmp_path: Path) -> None:
    write(tmp_path, base=BASE, common="replications: 3\nscenario: {seed: 9}\n")
    write(
        tmp_path,
        own="include: common.yaml\nname: own\nscenario: {include: base.yaml, proxy: ipvs}\nfactors: {cluster.services: [1]}\n",
    )
    experiment, (one,) = load_experiment(tmp_path / "own.yaml")
    assert experiment.replications == 3
    assert (one.first.seed, one.first.proxy.name, one.first.cni.name) == (9, "ipvs", "calico-bgp")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("include: nowhere.yaml\n", "own.yaml, line 1: include: cannot read"),
        ("include: own.yaml\n", "own.yaml, line 1: include: own.yaml is included by itself"),
        ("include: around.yaml\n", "around.yaml, line 1: include: own.yaml is included by itself"),
        ("include: 5\n", "include: the path of a file is needed, or a list of paths"),
        ("include: list.yaml\n", "include: list.yaml is no mapping"),
        ("include: wrong.yaml\n", "wrong.yaml, line 1: cluster.servces: unknown field: did you mean 'services'? (included by"),
        ("seed: -1\ninclude: base.yaml\n", "own.yaml, line 1: seed: input should be greater"),
    ],
)  # fmt: skip
def test_includes_that_make_no_sense(own: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, base=BASE, own=own, around="include: own.yaml\n", list="[1]\n")
    write(tmp_path, wrong=BASE.replace("services: 5", "servces: 5"))
    with pytest.raises(InputError) as caught:
        load_scenario(tmp_path / "own.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
