"""Which twins are measured."""

from __future__ import annotations

import pytest

from kubesim.twin import designs
from kubesim.twin.cases import Case, Measurement
from kubesim.twin.designs import Extent, designed, held_out


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(designs, "has_ipvs", lambda: False)
    monkeypatch.setattr(designs, "has_ipsets", lambda: True)


def names(cases: list[Case]) -> set[str]:
    return {case.name for case in cases}


@pytest.mark.parametrize("extent", list(Extent))
def test_prices_are_tried_on_other_twins_than_they_come_from(extent: Extent) -> None:
    fitted, others = designed(extent), held_out(extent)
    assert len(names(fitted)) == len(fitted)
    assert not names(fitted) & names(others)
    assert not {str(case.scenario) for case in fitted} & {str(case.scenario) for case in others}


def test_quick_is_less() -> None:
    assert len(designed(Extent.QUICK)) < len(designed(Extent.NORMAL)) == len(designed(Extent.GRID))
    assert len(held_out(Extent.QUICK)) < len(held_out(Extent.NORMAL)) < len(held_out(Extent.GRID))


def test_the_grid_has_every_plugin_proxy_and_size() -> None:
    found = names(held_out(Extent.GRID))
    assert len(found) == 3 * 3 * 5
    assert {"calico-bgp, iptables, 1 Services of 3", "flannel-vxlan, nftables, 10000 Services of 3"} <= found


def test_what_the_kernel_has_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("ipvs" in name for name in names(designed(Extent.QUICK)))
    monkeypatch.setattr(designs, "has_ipvs", lambda: True)
    monkeypatch.setattr(designs, "has_ipsets", lambda: False)
    found = names(designed(Extent.NORMAL))
    assert {"calico-bgp, ipvs, 5000 Services", "calico-bgp, ipvs, 40 servers"} <= found
    assert not any("a set" in name for name in found)


def test_the_state_of_each_case_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(designs, "has_ipvs", lambda: True)
    cases = [*designed(Extent.QUICK), *held_out(Extent.QUICK)]
    assert any("ipvs" in case.name for case in cases)
    Measurement(cases)
