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
:class:`Result`; or for their sums alone :func:`summarise`, :class:`Summarised`), following a packet (:func:`trace`), a
node's rules (:func:`node_rules`) and what rules do to a packet (:func:`read_dumps`, :class:`Flow`,
:func:`trace_rules`), experiments (:func:`load_experiment`, :func:`sweep`, :func:`check`), figures
(:func:`draw_directory`, :func:`draw_frame`, :func:`draw_trace`), costs (:func:`load_cost_set`, :func:`evidence`) and
errors (:class:`KubesimError`). Objects show themselves in Jupyter.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubesim.cost import CostSet, load_cost_set
    from kubesim.errors import InputError, KubesimError, OutputError
    from kubesim.experiment import Experiment, check, load_experiment, plan_experiment, sweep
    from kubesim.jupyter import trace
    from kubesim.kernel.rule_dumps import read_dumps
    from kubesim.kernel.rule_trace import Flow, RuleTrace, trace_rules
    from kubesim.report import Picture, draw_directory, draw_frame, draw_trace
    from kubesim.scenario import (
        Result,
        Scenario,
        Summarised,
        TraceResult,
        evidence,
        load_scenario,
        run,
        save_result,
        summarise,
    )
    from kubesim.scenario.node_rules import node_rules

_HOMES = {
    "CostSet": "kubesim.cost",
    "Experiment": "kubesim.experiment",
    "InputError": "kubesim.errors",
    "KubesimError": "kubesim.errors",
    "OutputError": "kubesim.errors",
    "Picture": "kubesim.report",
    "Result": "kubesim.scenario",
    "Scenario": "kubesim.scenario",
    "Summarised": "kubesim.scenario",
    "TraceResult": "kubesim.scenario",
    "check": "kubesim.experiment",
    "draw_directory": "kubesim.report",
    "draw_frame": "kubesim.report",
    "draw_trace": "kubesim.report",
    "evidence": "kubesim.scenario",
    "Flow": "kubesim.kernel.rule_trace",
    "RuleTrace": "kubesim.kernel.rule_trace",
    "load_cost_set": "kubesim.cost",
    "load_experiment": "kubesim.experiment",
    "load_scenario": "kubesim.scenario",
    "node_rules": "kubesim.scenario.node_rules",
    "read_dumps": "kubesim.kernel.rule_dumps",
    "plan_experiment": "kubesim.experiment",
    "run": "kubesim.scenario",
    "save_result": "kubesim.scenario",
    "summarise": "kubesim.scenario",
    "sweep": "kubesim.experiment",
    "trace": "kubesim.jupyter",
    "trace_rules": "kubesim.kernel.rule_trace",
}

__all__ = [
    "CostSet",
    "Experiment",
    "Flow",
    "InputError",
    "KubesimError",
    "OutputError",
    "Picture",
    "Result",
    "RuleTrace",
    "Scenario",
    "Summarised",
    "TraceResult",
    "check",
    "draw_directory",
    "draw_frame",
    "draw_trace",
    "evidence",
    "load_cost_set",
    "load_experiment",
    "load_scenario",
    "node_rules",
    "plan_experiment",
    "read_dumps",
    "run",
    "save_result",
    "summarise",
    "sweep",
    "trace",
    "trace_rules",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: ``import kubesim`` and ``kubesim --help`` stay quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kubesim' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
