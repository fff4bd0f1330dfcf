"""Play a tandem once, and print what that took: ``python -m tests.benchmarks.one NAME PACKETS STATIONS``.

``python -m tests.benchmarks`` starts one process for each, so that each has its own peak of memory.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import time

from tests.benchmarks.peak import peak_mib
from tests.benchmarks.simulators import prepared
from tests.benchmarks.tandem import draw_tandem


def measured(name: str, packets: int, stations: int) -> dict[str, float | str]:
    """Seconds of playing it, the peak of memory of the process, and a hash of the answer."""
    play = prepared(name, draw_tandem(packets, stations))
    gc.collect()
    start = time.process_time()
    depart_ns = play()
    seconds = time.process_time() - start
    answer = hashlib.sha256(depart_ns.tobytes()).hexdigest()
    return {"seconds": seconds, "peak_mib": peak_mib(), "answer": answer}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
