"""The measures that expectations may name are those that runs have."""

from __future__ import annotations

from kubesim.experiment.measures import MEASURES, UNITS, dimension_of, is_better
from kubesim.scenario import Scenario, run
from kubesim.units import unit_of


def test_measures_are_those_of_a_summary() -> None:
    scenario = Scenario.model_validate(
        {
            "cluster": {"nodes": 2, "services": 2},
            "cni": "flannel-host-gw",
            "proxy": "iptables",
            "conntrack": {},
            "hardware": {"rps_cores": 2},
            "update": {"change": "service-added"},
            "traffic": {"workload": "tcp_crr", "transactions": 5},
        }
    )
    assert sorted(run(scenario).summary) == sorted(MEASURES)


def test_units_are_those_that_values_are_shown_in() -> None:
    for measure in MEASURES:
        for largest in (1.0, 1e4, 1e7, 1e10):
            shown = unit_of(measure, largest)
            name = {"cores per Gbit/s": "", "per s": "/s"}.get(shown.name, shown.name)
            assert UNITS[dimension_of(measure)][name] == shown.factor


def test_better_is_less_but_for_rates() -> None:
    assert is_better("throughput_per_s", is_higher=True)
    assert not is_better("latency_p99_ns", is_higher=True)
    assert is_better("duration_ns", is_higher=True) is None
