"""Print how fast kubesim is beside others, and among many Services: ``python -m tests.benchmarks``.

Simulators that are not installed are left out: ``uv run --group benchmarks python -m tests.benchmarks`` has them all.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from tests.benchmarks.simulators import NAMES
from tests.benchmarks.table import SERVICES, TRANSACTIONS, Run, cases, check, installed, show, show_runs


def main() -> None:
    """Play all, in turn, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts (default: 3)")
    parser.add_argument("--only", nargs="+", choices=sorted(NAMES), default=list(NAMES), help="these simulators")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 110)
    played = list(cases(installed(options.only, console)))
    runs = [Run(services, TRANSACTIONS) for services in SERVICES]
    with console.status("") as status:
        for turn in range(options.rounds):
            for one in played:
                size = f"{one.packets:,} packets, {one.stations} stations"
                status.update(f"round {turn + 1} of {options.rounds}: {NAMES[one.name]}, {size}")
                one.measure()
            for run in runs:
                status.update(f"round {turn + 1} of {options.rounds}: whole run among {run.services:,} Services")
                run.measure()
    check(played)
    show(played, console)
    show_runs(runs, console)


if __name__ == "__main__":
    main()
