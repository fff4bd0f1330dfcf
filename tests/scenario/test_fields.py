"""Fields by their path: what was set is there, all else is as it was, and what makes no sense is said in one line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.scenario import Scenario, load_scenario
from kubesim.scenario.fields import leaves, set_field
from tests.scenarios import BASE, scenario

names = st.text("abc", min_size=1, max_size=2)
leaf_or_tree = st.recursive(
    st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=6
)
trees = st.dictionaries(names, leaf_or_tree, max_size=3)


@given(trees)
def test_leaves_set_one_by_one_make_the_whole(tree: dict[str, Any]) -> None:
    made: dict[str, Any] = {}
    for path, value in leaves(tree):
        set_field(made, path, value)
    assert made == tree


@given(trees, st.lists(names, min_size=1, max_size=3))
def test_what_is_set_is_not_shared(tree: dict[str, Any], path: list[str]) -> None:
    value = {"a": [1]}
    before = copy.deepcopy(tree)
    try:
        set_field(tree, ".".join(path), value)
    except InputError as error:
        assert str(error).endswith("has no fields")
        return
    value["a"].append(2)
    found: Any = tree
    for part in path:
        found = found[part]
    assert found == {"a": [1]}
    assert {key: value for key, value in tree.items() if key != path[0]} == {
        key: value for key, value in before.items() if key != path[0]
    }


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({}, {}),
        ({"cluster.services": 1000, "proxy": "nftables"}, {"cluster": {"services": 1000}, "proxy": "nftables"}),
        ({"cni.direct_routing": True}, {"cni": {"name": "flannel-vxlan", "direct_routing": True}}),
        ({"proxy": "ipvs", "proxy.scheduler": "lc"}, {"proxy": {"name": "ipvs", "scheduler": "lc"}}),
        ({"hardware.cores": 16, "seed": 2}, {"hardware": {"cores": 16}, "seed": 2}),
        ({"traffic.transactions": 7}, {"traffic": {"transactions": 7}}),
    ],
)
def test_a_changed_scenario_is_as_if_written_so(fields: dict[str, Any], same: dict[str, Any]) -> None:
    before = scenario()
    assert before.with_fields(fields) == scenario(**same)
    assert before == Scenario.model_validate(BASE), "the old one is as it was"


def test_paths_stay_where_they_lead(repository: Path) -> None:
    found = load_scenario(str(repository / "experiments" / "scenarios" / "online-boutique.yaml"))
    assert found.with_fields({"cluster.nodes": 5}).cluster.manifests == found.cluster.manifests


def test_what_nobody_has_given_does_not_count_as_given(repository: Path) -> None:
    found = load_scenario(repository / "experiments" / "scenarios" / "among-1000-services.yaml")
    assert "costs" not in found.model_fields_set
    assert "manifests" not in found.cluster.model_fields_set


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"proxy": "nftabels"}, "proxy: there is no 'nftabels': did you mean 'nftables'?"),
        ({"cluster.servces": 3}, "cluster.servces: unknown field: did you mean 'services'?"),
        ({"cluster.services.many": 3}, "cluster.services.many: services has no fields"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, not -1"),
    ],
)
def test_what_makes_no_sense_is_said(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        scenario().with_fields(fields)
    assert str(caught.value) == message
