"""kubesim: what a Kubernetes network costs, before it is built.

>>> import kubesim
>>> scenario = kubesim.Scenario(
...     cluster={"nodes": 2, "services": 100, "endpoints": 3},
...     cni="flannel-vxlan",
...     proxy="iptables",
...     traffic={"workload": "tcp_rr", "transactions": 100},
... )
>>> result = kubesim.run(scenario)
>>> result.summary["transactions"]
90

Everything public is here: scenarios (:class:`Scenario`, :func:`load_scenario`), running them (:func:`run`,
:class:`Result`), following a packet (:func:`trace`), experiments (:func:`load_experiment`, :func:`sweep`), figures
(:func:`draw_directory`), costs (:func:`load_cost_set`, :func:`evidence`) and errors (:class:`KubesimError`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubesim.cost import CostSet, load_cost_set
    from kubesim.errors import InputError, KubesimError, OutputError
    from kubesim.experiment import Experiment, load_experiment, sweep
    from kubesim.report import draw_directory
    from kubesim.scenario import Result, Scenario, TraceResult, evidence, load_scenario, run, save_result, trace

_HOMES = {
    "CostSet": "kubesim.cost",
    "Experiment": "kubesim.experiment",
    "InputError": "kubesim.errors",
    "KubesimError": "kubesim.errors",
    "OutputError": "kubesim.errors",
    "Result": "kubesim.scenario",
    "Scenario": "kubesim.scenario",
    "TraceResult": "kubesim.scenario",
    "draw_directory": "kubesim.report",
    "evidence": "kubesim.scenario",
    "load_cost_set": "kubesim.cost",
    "load_experiment": "kubesim.experiment",
    "load_scenario": "kubesim.scenario",
    "run": "kubesim.scenario",
    "save_result": "kubesim.scenario",
    "sweep": "kubesim.experiment",
    "trace": "kubesim.scenario",
}

__all__ = [
    "CostSet",
    "Experiment",
    "InputError",
    "KubesimError",
    "OutputError",
    "Result",
    "Scenario",
    "TraceResult",
    "draw_directory",
    "evidence",
    "load_cost_set",
    "load_experiment",
    "load_scenario",
    "run",
    "save_result",
    "sweep",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: ``import kubesim`` and ``kubesim --help`` stay quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kubesim' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
