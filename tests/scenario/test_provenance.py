"""Names of runs: the same for the same, and another for anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.scenario import Scenario, load_scenario
from kubesim.scenario import provenance as home
from kubesim.scenario.provenance import code_sha256, provenance, run_id

SCENARIO = {"cni": "flannel-vxlan", "proxy": "iptables", "traffic": {"workload": "tcp_rr"}}
MANIFEST = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: %s}]}\n"


def test_the_same_has_the_same_name_and_anything_else_another() -> None:
    first = Scenario.model_validate(SCENARIO)
    assert run_id(first) == run_id(Scenario.model_validate_json(first.model_dump_json(by_alias=True)))
    others: list[dict[str, object]] = [{"seed": 2}, {"replication": 1}, {"proxy": "ipvs"}, {"hardware": {"cores": 16}}]
    names = {run_id(Scenario.model_validate({**SCENARIO, **change})) for change in others}
    assert len({run_id(first), *names}) == 5


def test_other_code_gives_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Scenario.model_validate(SCENARIO)
    before = run_id(first)
    monkeypatch.setattr(home, "code_sha256", lambda: "another code")
    assert run_id(first) != before


def test_files_count_by_what_is_in_them_and_not_by_where_they_are(tmp_path: Path) -> None:
    names = []
    for place, port in (("a", 80), ("b", 80), ("c", 81)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "m.yaml").write_text(MANIFEST % port)
        (tmp_path / place / "rules.txt").write_text(f"# port {port}\n")
        (tmp_path / place / "s.yaml").write_text(
            "cluster: {manifests: m.yaml}\ncni: calico-bgp\nproxy: {name: dump, rules: rules.txt}\n"
            "traffic: {workload: tcp_rr}\n"
        )
        scenario = load_scenario(tmp_path / place / "s.yaml")
        names.append(run_id(scenario))
        assert str(tmp_path) not in provenance(scenario)["scenario"]
    assert names[0] == names[1] != names[2]


def test_the_code_is_all_that_results_come_from() -> None:
    assert len(code_sha256()) == 64
