"""Holds the walk against the kernel that this runs in, which may be a user-mode one, and says what differs."""

from __future__ import annotations

import json
import sys
import traceback

from kubesim.twin.cases import Measurement
from kubesim.twin.designs import Extent, designed
from tests.twin.test_realise import hold_against_the_kernel

_ROUNDS = 40  # enough packets for each of 8 servers


def measure_designs() -> dict[str, list[int]]:
    """Measure the designs of IPVS, and give how many items each of its operations has had."""
    found: dict[str, set[int]] = {}
    for one in Measurement([case for case in designed(Extent.QUICK) if "ipvs" in case.name]).run(_ROUNDS):
        for hop in one.hops:
            if hop.operation.startswith("ipvs_"):
                found.setdefault(hop.operation, set()).add(hop.items)
    return {operation: sorted(items) for operation, items in found.items()}


if __name__ == "__main__":
    answer: dict[str, object] = {"differs": ""}
    try:
        if sys.argv[1] == "designs":
            answer["found"] = measure_designs()
        else:
            hold_against_the_kernel(sys.argv[2], sys.argv[3], sys.argv[4])
    except Exception:  # noqa: BLE001 - whatever it is, the test that started this prints it
        answer["differs"] = traceback.format_exc()
    sys.stdout.write(json.dumps(answer))
