"""Where Numba is not installed, runs take longer, and that is all."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
if sys.argv[1] == "without":
    sys.modules["numba"] = None  # so that importing it fails
from kubesim.engine import compiled_engine
from kubesim.scenario import simulation, summarise
from kubesim.scenario.provenance import run_id
from tests.scenarios import scenario
simulation.WORTH_IT = 0
run = scenario(traffic={"workload": sys.argv[2], "transactions": 300})
print(json.dumps([compiled_engine.IS_COMPILED, run_id(run), repr(summarise(run).summary)]))
"""


@pytest.mark.parametrize("workload", ["tcp_rr", "tcp_crr"])
def test_results_and_names_are_the_same(workload: str) -> None:
    found = {}
    for name in ("with", "without"):
        command = [sys.executable, "-c", PROGRAM, name, workload]
        is_compiled, *found[name] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        if name == "with" and not is_compiled:
            pytest.skip("Numba is not installed")
        assert is_compiled is (name == "with")
    assert found["with"] == found["without"]
