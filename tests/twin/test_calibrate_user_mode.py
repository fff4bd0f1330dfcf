"""A cost set of IPVS from a user-mode kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.cost import load_cost_set
from kubesim.twin.calibrate_user_mode import UserModeCalibration, write_user_mode_cost_set
from kubesim.twin.operations import Estimate
from tests.twin.test_fit import BASE


def test_the_file_has_ipvs_and_takes_the_rest_from_its_base(tmp_path: Path) -> None:
    prices = {
        "ipvs_service_lookup fixed_ns": Estimate(500.0, None),
        "ipvs_schedule ns_per_item": Estimate(4.0, None),
        "ipvs_schedule ns_per_item above 100": Estimate(6.0, None),
        "ipvs_connection_new fixed_ns": Estimate(-5.0, None),
        "iptables_rule ns_per_item": Estimate(99.0, None),
        "conntrack_evict fixed_ns": Estimate(700.0, None),
    }
    ratios = {"ipip/vxlan": Estimate(0.97, None)}
    found = UserModeCalibration(prices, ratios, Estimate(2.0, 0.4), "6.1", BASE)
    write_user_mode_cost_set(found, tmp_path / "mine.yaml")
    made = load_cost_set(str(tmp_path / "mine.yaml"))
    lookup = made.operation("ipvs_service_lookup").fixed_ns
    assert lookup is not None
    assert (lookup.value, lookup.kind.value) == (500.0, "derived")
    assert lookup.uncertainty == pytest.approx(0.2)
    fixed_ns = made.price_ns("ipvs_schedule", 0, 0)
    assert made.price_ns("ipvs_schedule", 150, 0) - fixed_ns == 100 * 4 + 50 * 6
    assert made.operation("ipvs_connection_new") == BASE.operation("ipvs_connection_new"), "no price is below zero"
    assert made.price_ns("conntrack_evict") == 700
    assert made.operation("iptables_rule") == BASE.operation("iptables_rule")
    assert "ipip/vxlan" in (tmp_path / "mine.yaml").read_text()
