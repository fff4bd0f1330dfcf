"""Every column of results says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kubesim.experiment import Experiment, plan_experiment, sweep
from kubesim.experiment.columns import COLUMNS, FACTOR, results_schema
from kubesim.experiment.measures import MEASURES, Dimension, dimension_of
from kubesim.scenario.measures import MEASURES as DESCRIBED

EVERYTHING: dict[str, Any] = {
    "cluster": {"nodes": 2, "endpoint_nodes": ["node-2"]},
    "cni": "flannel-host-gw",
    "proxy": "iptables",
    "hardware": {"rps_cores": 1},
    "conntrack": {},
    "update": {"change": "service-added"},
    "traffic": {"workload": "tcp_crr", "clients_on": ["node-1"], "transactions": 5},
}
UNITS = {
    Dimension.TIME: {"ns"},
    Dimension.BIT_RATE: {"bit/s"},
    Dimension.RATE: {"1/s"},
    Dimension.SHARE: {"1"},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of a scenario that has all there is to measure."""
    directory = tmp_path_factory.mktemp("results")
    experiment = Experiment.model_validate(
        {"name": "all", "scenario": EVERYTHING, "factors": {"cluster.services": [1, 2]}}
    )
    sweep(experiment, plan_experiment(experiment), directory, workers=1)
    return directory


@pytest.mark.parametrize("table", sorted(COLUMNS))
def test_the_columns_of_a_sweep_are_those_that_are_described(table: str, results: Path) -> None:
    schema = pq.read_schema(results / f"{table}.parquet")
    assert {FACTOR if name == "cluster.services" else name for name in schema.names} == set(COLUMNS[table])
    for field in schema:
        known = COLUMNS[table][FACTOR if field.name == "cluster.services" else field.name]
        found = {key.decode(): text.decode() for key, text in field.metadata.items()}
        assert found == {"unit": known.unit, "description": known.description}


def test_units_are_those_at_the_end_of_names() -> None:
    assert set(DESCRIBED) == set(MEASURES)
    for name, column in DESCRIBED.items():
        dimension = dimension_of(name)
        if dimension is Dimension.COUNT:
            assert column.unit not in {"", *set.union(*UNITS.values())}, name
        else:
            assert column.unit in UNITS[dimension], name


def test_each_description_is_its_own_and_plain() -> None:
    for columns in results_schema().values():
        texts = [column["description"] for column in columns.values()]
        assert len(set(texts)) == len(texts)
        assert all(text and not text.endswith(".") and "\n" not in text for text in texts)
