"""A scenario as a flat list: every field once, and what is a default told from what is not."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.scenario.settings import settings_of
from tests.scenarios import scenario


def chosen(**changes: Any) -> dict[str, Any]:
    """The fields that are no defaults, with their values."""
    return {one.field: one.value for one in settings_of(scenario(**changes)) if not one.is_default}


def test_what_is_given_is_told_from_defaults() -> None:
    assert chosen(name="x", hardware={"mtu": 9000, "cores": 8}) == {
        "name": "x",
        "cluster.nodes": 2,
        "cluster.services": 10,
        "cluster.endpoints": 3,
        "cluster.endpoint_nodes": ["node-2"],
        "cni.name": "flannel-vxlan",
        "proxy.name": "iptables",
        "traffic.workload": "tcp_rr",
        "traffic.clients_on": ["node-1"],
        "traffic.transactions": 50,
        "hardware.mtu": 9000,
    }


@pytest.mark.parametrize("workload", ["tcp_rr", "poisson_connections", "udp_stream"])
def test_every_field_is_there_once_and_under_its_name_in_files(workload: str) -> None:
    one = scenario(traffic={"workload": workload})
    found = {setting.field: setting.value for setting in settings_of(one)}
    assert len(found) == len(settings_of(one))
    rebuilt: dict[str, Any] = {}
    for field, value in found.items():
        *parents, last = field.split(".")
        place = rebuilt
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    assert rebuilt == one.model_dump(mode="json", by_alias=True)


def test_a_setting_inside_a_default_part_is_a_default() -> None:
    (choice,) = (one for one in settings_of(scenario()) if one.field == "traffic.to.choice")
    assert choice.is_default
    assert chosen(traffic={"to": {"choice": "last"}})["traffic.to.choice"] == "last"
