"""Workloads: when messages are sent, by whom and to which Service, named as netperf names them.

Each workload is one module; its file name is its name. The module has a class ``Plugin`` that is a
:class:`Traffic`, holds its settings, and makes :class:`Messages`.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Protocol

from kubesim import plugins
from kubesim.workload._dns import DnsSpec
from kubesim.workload._lookups import with_lookups
from kubesim.workload._messages import (
    NODE_LOCAL_DNS,
    Destination,
    Flows,
    MessageKind,
    Messages,
    Part,
    Script,
    Through,
    Work,
)
from kubesim.workload._messages import (
    NONE as NO_MESSAGE,
)
from kubesim.workload._sequences import MessagesPart, Sequences
from kubesim.workload._traffic import Traffic, WorkloadContext

__all__ = [
    "NODE_LOCAL_DNS",
    "NO_MESSAGE",
    "Destination",
    "Flows",
    "MessageKind",
    "Messages",
    "MessagesPart",
    "Part",
    "Script",
    "Sequences",
    "Through",
    "Traffic",
    "Work",
    "Workload",
    "WorkloadContext",
    "with_lookups",
    "workload_class",
    "workload_names",
]


class Workload(Protocol):
    """What a workload's ``Plugin`` class is: a :class:`Traffic` that makes messages."""

    protocol: ClassVar[str]
    """``tcp`` or ``udp``: of the Services that are made by number for it."""

    makes_clients: ClassVar[bool]
    workload: str
    clients: int
    clients_on: list[str] | None
    is_from_outside: bool
    from_: str | None
    dns: DnsSpec | None

    def objects(self) -> tuple[dict[str, Any], ...]:
        """Kubernetes objects that it needs, made where the manifests have none of the kind and name."""

    def messages(self, context: WorkloadContext) -> Messages | Sequences:
        """Make the messages, or say how they follow from their numbers."""


def workload_names() -> list[str]:
    """Names of all workloads."""
    return plugins.plugin_names(sys.modules[__name__], "_")


def workload_class(name: str) -> type[Traffic]:
    """The workload of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    found: type[Traffic] = plugins.load_plugin(sys.modules[__name__], name, "workload", "_")
    return found
