"""From timed ways to prices, on ways whose prices are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubesim.cost import Kind, load_cost_set
from kubesim.errors import InputError
from kubesim.twin.operations import (
    Estimate,
    chain_prices,
    full_table_prices,
    kernel_ratio,
    main,
    operation_prices,
    ratios,
    slope,
    summarise,
)

LOOK, SERVICE, BUCKET, OPENING, NAT, FORWARD, SCHEDULE = 50.0, 100.0, 4.0, 400.0, 200.0, 60.0, 30.0


def ways() -> dict[str, float]:
    """Ways that take what the prices above say."""
    routed, local = 1000.0, 1100.0
    established = routed + 2 * LOOK + NAT - FORWARD
    new = established + SERVICE + BUCKET + SCHEDULE + OPENING
    found = {"routed": routed, "local": local, "ipvs passing by": routed + LOOK,
             "ipvs, established": established, "ipvs, new": new + 50, "ipvs rr, 1 servers": new - 50}  # fmt: skip
    for items in (0, 16, 64, 256):
        found[f"ipvs miss, {items} in bucket"] = local + 2 * LOOK + SERVICE + BUCKET * items
    for servers in (10, 100, 1000):
        found[f"ipvs rr, {servers} servers"] = new - 50
    for servers in (1, 10, 100):
        found[f"ipvs lc, {servers} servers"] = new + 5 * servers
    found["ipvs lc, 1000 servers"] = new + 5 * 100 + 6 * 900
    for ending in ("", " to the wire"):
        found |= {
            f"host-gw{ending}": 1500.0,
            f"vxlan{ending}": 2500.0,
            f"ipip{ending}": 2300.0,
            f"geneve{ending}": 2400,
        }
    for services in (1, 100, 1000, 10_000):
        found[f"iptables, {services} services, new"] = 2000.0 + 3 * services
        found[f"ipvs, {services} services, new"] = 2500.0
        found[f"iptables, {services} services, established"] = 1400.0
        found[f"ipvs, {services} services, established"] = 1600.0
    return found


def run_of(ways: dict[str, float]) -> dict[str, Any]:
    """A run as the measuring program prints it."""
    return {"ns_per_packet": {name: {"best_decile_ns": ns, "median_ns": ns + 1} for name, ns in ways.items()}}


def test_prices_are_found_again() -> None:
    prices = operation_prices(ways(), {"ip_forward": FORWARD, "ipvs_schedule": SCHEDULE})
    assert prices == pytest.approx(
        {
            "ipvs_connection_lookup fixed_ns": LOOK,
            "ipvs_service_lookup fixed_ns": SERVICE,
            "ipvs_service_lookup ns_per_item": BUCKET,
            "ipvs_schedule ns_per_item": 5,
            "ipvs_schedule ns_per_item above 100": 6,
            "ipvs_connection_new fixed_ns": OPENING,
            "ipvs_nat fixed_ns": NAT,
            "iptables_rule ns_per_item": 3,
            "iptables_rule ns_per_item above 1000": 3,
        }
    )


def test_fixed_prices_are_brought_to_another_kernel() -> None:
    prices = operation_prices(ways(), {"ip_forward": FORWARD, "ipvs_schedule": SCHEDULE}, scale=2)
    assert prices["ipvs_connection_lookup fixed_ns"] == pytest.approx(2 * LOOK)
    assert prices["ipvs_service_lookup fixed_ns"] == pytest.approx(2 * SERVICE)
    assert prices["ipvs_service_lookup ns_per_item"] == pytest.approx(BUCKET)
    assert prices["ipvs_nat fixed_ns"] == pytest.approx(2 * (NAT - FORWARD) + FORWARD)


def test_kernels_are_compared_by_differences() -> None:
    here = ways() | {"routed, conntrack, established": 1200.0, "routed, conntrack, new": 1500.0}
    there = {name: 500 + 2 * ns for name, ns in here.items()}
    ratio = kernel_ratio(here, there)
    assert ratio.value == pytest.approx(2)
    assert ratio.error == pytest.approx(0, abs=1e-9)
    found = summarise([run_of(here)], run_of(there))
    assert found["ratios"]["host/user mode"] == ratio
    assert found["operations"]["ipvs_connection_lookup fixed_ns"].value == pytest.approx(2 * LOOK)


def test_ratios_are_of_what_is_more_than_without() -> None:
    found = ratios(ways())
    assert found["ipip/vxlan"] == pytest.approx(0.8)
    assert found["geneve/vxlan to the wire"] == pytest.approx(0.9)
    assert found["ipvs/iptables, 1 services, established"] == pytest.approx(1.5)
    assert found["ipvs/iptables, 1000 services, new"] == pytest.approx(1500 / 4000)


def test_chains_are_priced_in_steps() -> None:
    looks = {0: 50.0, 4096: 53.0, 65_536: 50.0 + 16 * 4, 262_144: 50.0 + 16 * 4 + 48 * 6}
    by_connections = {
        "routed": dict.fromkeys(looks, 1000.0),
        "ipvs passing by": {number: 1000 + look for number, look in looks.items()},
    }
    assert chain_prices(by_connections) == pytest.approx(
        {"ipvs_connection_lookup ns_per_item": 4, "ipvs_connection_lookup ns_per_item above 16": 6}
    )


EVERY_BUCKET, ENTRY, EVICT, DROP = 60.0, 120.0, 500.0, 30.0


def full_table_ways() -> dict[str, dict[int, float]]:
    """Ways into a full table that take what the prices above say."""
    searched = {256: 1 / 64, 65_536: 4, 262_144: 16}
    return {
        "dropped by a rule": dict.fromkeys(searched, 800.0 + DROP),
        "refused": {number: 800 + EVERY_BUCKET + ENTRY * items for number, items in searched.items()},
        "new": {65_536: 2000.0},
        "evicting": {65_536: 2000 + EVERY_BUCKET - DROP + ENTRY + EVICT},
    }


def test_a_full_table_is_priced_by_what_is_searched() -> None:
    prices = full_table_prices(full_table_ways(), {"iptables_table": 20, "iptables_rule": 10})
    assert prices == pytest.approx(
        {
            "conntrack_early_drop fixed_ns": EVERY_BUCKET,
            "conntrack_early_drop ns_per_item": ENTRY,
            "conntrack_evict fixed_ns": EVICT,
        }
    )
    scaled = full_table_prices(full_table_ways(), {"iptables_table": 0, "iptables_rule": 0}, scale=2)
    assert scaled["conntrack_early_drop fixed_ns"] == pytest.approx(2 * (EVERY_BUCKET - DROP))
    assert scaled["conntrack_early_drop ns_per_item"] == pytest.approx(ENTRY)


def test_runs_of_a_full_table_are_scaled_as_the_others() -> None:
    here = ways() | {"routed, conntrack, established": 1200.0, "routed, conntrack, new": 1500.0}
    there = {name: 500 + 2 * ns for name, ns in here.items()}
    timings = {
        way: {str(number): {"best_decile_ns": ns} for number, ns in numbers.items()}
        for way, numbers in full_table_ways().items()
    }
    runs = [run_of(here), {"ns_per_packet_by_entries": timings}]
    alone, scaled = (summarise(runs, host)["operations"] for host in (None, run_of(there)))
    name = "conntrack_evict fixed_ns"
    assert scaled[name].value == pytest.approx(2 * alone[name].value)


def test_runs_are_averaged() -> None:
    faster = ways() | {"ipvs passing by": 1000.0 + LOOK - 4}
    found = summarise([run_of(ways()), run_of(faster)])["operations"]["ipvs_connection_lookup fixed_ns"]
    assert found.value == pytest.approx(LOOK - 2)
    assert found.error == pytest.approx(2)
    assert Estimate.of([3.0]).error is None
    assert slope([(0, 0), (1, 1), (2, 0), (3, 1)]) == pytest.approx(0.2)


def test_a_run_that_lacks_a_way() -> None:
    lacking = ways()
    del lacking["local"]
    with pytest.raises(InputError, match="a run lacks the way 'local'"):
        summarise([run_of(lacking)])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.json"
    run.write_text(json.dumps(run_of(ways())))
    main([str(run)])
    assert "ipip/vxlan " in capsys.readouterr().out
    run.write_text("{")
    with pytest.raises(SystemExit) as ended:
        main([str(run)])
    assert ended.value.code == 2


def test_the_set_replaces_ipvs_and_nothing_else() -> None:
    base, measured = load_cost_set("published-x86-server"), load_cost_set("ipvs-in-user-mode-linux")
    changed = {name for name in base.operations if base.operations[name] != measured.operations[name]}
    assert changed == {
        "ipvs_connection_lookup", "ipvs_service_lookup", "ipvs_schedule", "ipvs_connection_new", "ipvs_nat",
        "conntrack_early_drop", "conntrack_evict",
    }  # fmt: skip
    assert set(base.operations) == set(measured.operations)
    weak = [
        (name, field)
        for name in sorted(changed)
        for field, one in measured.operations[name].numbers()
        if one.kind is Kind.ASSUMED
    ]
    assert weak == [("ipvs_schedule", "fixed_ns")]
    kept = base.operations["ipvs_schedule"].fixed_ns
    assert kept is not None
    assert measured.operations["ipvs_schedule"].fixed_ns == kept
