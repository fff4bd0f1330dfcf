"""Service proxies: programs that write kernel state so that packets for Services find an endpoint.

Each proxy is one module; its file name is its name. The module has a class ``Plugin`` as :class:`ServiceProxy` says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from kubesim import plugins
from kubesim.proxy._kube_proxy.configuration import KubeProxyConfiguration, read_configuration
from kubesim.proxy._kube_proxy.settings import Family, KubeProxySettings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace


@dataclass(frozen=True)
class RuleUpdate:
    """What one sync of a proxy hands to the kernel.

    Parameters
    ----------
    rules
        Rules, and entries of maps, sets and tables of servers, that are written.
    text_bytes
        Length of the text, or of the messages, that say so.
    operations
        What is done and how often, priced by the cost set.
    """

    rules: int
    text_bytes: int
    operations: dict[str, int]


class ServiceProxy(Protocol):
    """What a proxy's ``Plugin`` class is.

    It is made once for a cluster with ``Plugin(cluster, settings)`` and then writes one node after the other, so that
    what all nodes have in common can be shared.
    """

    settings_model: ClassVar[type[BaseModel]]
    """Its settings, checked by pydantic."""

    is_headless: ClassVar[bool]
    """Whether Services have no virtual address, so that clients choose an endpoint themselves, by name."""

    tells_pods_apart: ClassVar[bool]
    """Whether its rules may treat pods of one node each in their own way, and not only a pod that calls itself."""

    forms: ClassVar[tuple[str, ...]]
    """The texts it can give of a node's rules, such as ``restore`` and ``save``; the first is what people want most."""

    def __init__(self, cluster: Cluster, settings: Any) -> None:
        """Read the cluster."""

    def text(self, node: Node, form: str, family: Family, /) -> str:
        """The rules of a node in one of its forms."""

    def update(self, node: Node, before: Self | None, /, *, is_partial: bool) -> RuleUpdate:
        """What the sync after a change hands to the kernel.

        Parameters
        ----------
        node
            Where.
        before
            The proxy as it was, of the cluster before the change; None for one that has just started.
        is_partial
            Whether it may leave out what has not changed, where it can.
        """

    def install(self, namespace: Namespace, node: Node) -> None:
        """Write the state of a node into its root namespace."""


__all__ = [
    "Family",
    "HasNotices",
    "KubeProxyConfiguration",
    "KubeProxySettings",
    "PartialSyncs",
    "RuleUpdate",
    "ServiceProxy",
    "proxy_class",
    "proxy_names",
    "read_configuration",
]


@runtime_checkable
class PartialSyncs(Protocol):
    """A proxy whose later syncs leave out what has not changed, and whose texts say so."""

    def sync(self, node: Node, before: Any, family: Family, /, *, is_partial: bool) -> str:
        """What the sync after a change hands to the kernel's tool; ``before`` is the proxy of the cluster as it was."""


@runtime_checkable
class HasNotices(Protocol):
    """A proxy that has something to say to people about what it wrote."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know, one line each."""


def proxy_names() -> list[str]:
    """Names of all proxies."""
    return plugins.plugin_names(sys.modules[__name__])


def proxy_class(name: str) -> type[ServiceProxy]:
    """The proxy of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    found: type[ServiceProxy] = plugins.load_plugin(sys.modules[__name__], name, "service proxy")
    return found
