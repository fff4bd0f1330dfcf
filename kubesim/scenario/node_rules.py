"""The rules that a node's service proxy writes, as text, from manifests and kube-proxy's own configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kubesim.cluster import read_cluster
from kubesim.errors import InputError, did_you_mean
from kubesim.proxy import (
    Family,
    KubeProxyConfiguration,
    KubeProxySettings,
    PartialSyncs,
    proxy_class,
    proxy_names,
    read_configuration,
)
from kubesim.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubesim.cluster import Cluster, Node
    from kubesim.proxy import ServiceProxy

DEFAULT_MODE = "iptables"


@dataclass(frozen=True)
class NodeRules:
    """Rules of one node.

    Parameters
    ----------
    text
        As the tool of the format takes or prints it.
    notices
        What a person should know about the input.
    """

    text: str
    notices: tuple[str, ...]


def node_rules(
    manifests: Sequence[Path],
    node: str | None = None,
    *,
    config: Path | None = None,
    mode: str | None = None,
    form: str | None = None,
    family: Family | None = None,
    before: Sequence[Path] = (),
    is_full_sync: bool = False,
) -> NodeRules:
    """Print what kube-proxy would program into a node.

    Parameters
    ----------
    manifests
        Kubernetes YAML files: Services, EndpointSlices or pods, Nodes.
    node
        Name of the node; what ``hostnameOverride`` says, or the first one, if not given.
    config
        A KubeProxyConfiguration file.
    mode
        ``iptables``, ``nftables`` or ``ipvs``; what the configuration says, or iptables, if not given.
    form
        ``restore``, ``save``, ``nft``, ``ipvsadm`` or ``ipset``; the first one that the mode has, if not given.
    family
        ``ipv4`` or ``ipv6``; that of the node's main address if not given.
    before
        Manifests as they were at the sync before: then the text is that of the sync after the change.
    is_full_sync
        With ``before``: write all chains again, as after a failure, instead of those that have changed.

    Returns
    -------
    NodeRules

    Raises
    ------
    InputError
        If a file, a name or a combination makes no sense.
    """
    configuration = None if config is None else read_configuration(config)
    name = node or (configuration.hostname_override if configuration is not None else "") or None
    cluster = read_cluster(manifests, name)
    found = cluster.nodes[0] if name is None else cluster.node(name)
    chosen_mode = mode or (configuration.mode if configuration is not None else "") or DEFAULT_MODE
    plugin_class = proxy_class(chosen_mode)
    modes = [one for one in proxy_names() if proxy_class(one).forms]
    if not plugin_class.forms:
        raise InputError(f"mode: {chosen_mode!r} writes no rules: {did_you_mean(chosen_mode, modes)}")
    chosen_form = form or plugin_class.forms[0]
    if chosen_form not in plugin_class.forms:
        known = ", ".join(plugin_class.forms)
        raise InputError(f"format: mode {chosen_mode} has no {chosen_form!r}, but {known}")
    is_kube_proxy = issubclass(plugin_class.settings_model, KubeProxySettings)
    if configuration is not None and not is_kube_proxy:
        raise InputError(f"config: {chosen_mode} is no mode of kube-proxy, whose configuration this is")
    if configuration is not None:
        found = _with_bind_address(found, configuration)
    proxy = _proxy(cluster, chosen_mode, configuration)
    chosen_family = family or ("ipv6" if ":" in (found.addresses or (found.address,))[0] else "ipv4")
    of_kube_proxy = _notices(configuration, cluster, chosen_family) if is_kube_proxy else ()
    notices = (*of_kube_proxy, *cluster.notices)
    if not before:
        return NodeRules(proxy.text(found, chosen_form, chosen_family), notices)
    if not isinstance(proxy, PartialSyncs) or chosen_form != plugin_class.forms[0]:
        raise InputError(f"before: mode {chosen_mode} has no text of a later sync in format {chosen_form}")
    old = _proxy(read_cluster(before, found.name), chosen_mode, configuration)
    return NodeRules(proxy.sync(found, old, chosen_family, is_partial=not is_full_sync), notices)


def _notices(configuration: KubeProxyConfiguration | None, cluster: Cluster, family: Family) -> list[str]:
    """What to say of kube-proxy's configuration."""
    if configuration is not None:
        idle = ", ".join(configuration.idle_gates)
        return [f"feature gates that no rule here follows from: {idle}"] if idle else []
    assumed = "is not told from that of others" if family == "ipv6" else f"is what comes from {cluster.pod_cidr}"
    return [
        f"assumed that traffic of pods {assumed}: give kube-proxy's configuration, with its clusterCIDR, as --config"
    ]


def _with_bind_address(node: Node, configuration: KubeProxyConfiguration) -> Node:
    """The node with the address that kube-proxy is told to take for its own."""
    address = configuration.bind_address
    if address in ("", "0.0.0.0", "::"):  # noqa: S104 - what says that nothing is said
        return node
    others = [one for one in node.addresses or (node.address,) if one != address]
    return replace(node, address=address if ":" not in address else node.address, addresses=(address, *others))


def _proxy(cluster: Cluster, mode: str, configuration: KubeProxyConfiguration | None) -> ServiceProxy:
    plugin_class = proxy_class(mode)
    given = {} if configuration is None else configuration.settings(mode)
    try:
        checked = plugin_class.settings_model.model_validate(given)
    except ValidationError as error:
        place, problem = first_problem(error, plugin_class.settings_model, given)
        field = ".".join(str(part) for part in place)
        raise InputError(": ".join(part for part in ("kube-proxy's configuration", field, problem) if part)) from None
    return plugin_class(cluster, checked)
