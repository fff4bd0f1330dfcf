"""CNI plugins: programs that wire nodes and pods.

Each plugin is one module; its file name is its name. The module has a class ``Plugin`` as :class:`CniPlugin` says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from kubesim import plugins

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class CniPlugin(Protocol):
    """What a plugin's ``Plugin`` class is; it is made once for a cluster with ``Plugin(cluster, settings, mtu)``.

    Pods of one node must be wired alike: what a packet pays between two pods may depend on their nodes, and on whether
    they are one and the same pod, but on nothing else.
    """

    settings_model: ClassVar[type[BaseModel]]
    """Its settings, checked by pydantic."""

    pod_mtu: int
    """MTU of the pods' interfaces and of tunnels in bytes; it may be set to another one before nodes are installed."""

    def __init__(self, cluster: Cluster, settings: Any, underlay_mtu: int) -> None:
        """Read the cluster."""

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Write what a node has without any pod into its root namespace."""

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Make a pod's namespace and wire it to its node's, as the CNI command ADD does."""


@runtime_checkable
class Settles(Protocol):
    """A plugin whose daemon has more to do once others have written their rules."""

    def settle(self, namespace: Namespace) -> None:
        """Bring a node's root namespace to where it is left in peace."""


@runtime_checkable
class CachesMegaflows(Protocol):
    """A plugin that has Open vSwitch carry packets."""

    upcall_ratio: float | None
    """Share of connections that find no megaflows and go to user space; None where it uses something else."""


def cni_names() -> list[str]:
    """Names of all CNI plugins."""
    return plugins.plugin_names(sys.modules[__name__])


def cni_class(name: str) -> type[CniPlugin]:
    """The plugin of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    found: type[CniPlugin] = plugins.load_plugin(sys.modules[__name__], name, "CNI plugin")
    return found
