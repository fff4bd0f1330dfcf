"""Pods from Pod objects and from the templates of controllers: made, put on nodes, given addresses."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubesim.cluster.addresses import canonical
from kubesim.cluster.records import ContainerPort, Node, Pod
from kubesim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kubesim.cluster import objects
    from kubesim.cluster.addresses import AddressPool
    from kubesim.cluster.manifests import Manifests
    from kubesim.cluster.records import Service

_FINISHED = ("Succeeded", "Failed")
_SERVICE_ADDRESS = re.compile(r"^(?:[a-z][a-z0-9+.-]*://)?([a-z0-9-]+)(?:\.([a-z0-9-]+))?[a-z0-9.-]*:(\d+)(?:/|$)")


@dataclass
class PlannedPod:
    """A pod that is to be: where it is not said, node and address are still open."""

    namespace: str
    name: str
    owner: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ContainerPort, ...] = ()
    environment: tuple[str, ...] = ()
    is_host_network: bool = False
    is_ready: bool = True
    is_terminating: bool = False
    has_network: bool = True
    node: str | None = None
    address: str | None = None
    other_addresses: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def plan_pods(manifests: Manifests, nodes: Mapping[str, Mapping[str, str]]) -> list[PlannedPod]:
    """Every pod the manifests speak of; controllers make those that are not listed as pods already.

    Parameters
    ----------
    manifests
        What was read.
    nodes
        The nodes' labels by name.
    """
    running = [pod for pod in manifests.pods if pod.status.phase not in _FINISHED]
    planned = [_from_object(pod) for pod in running]
    for controller in manifests.controllers:
        planned += _from_controller(controller, planned[: len(running)], nodes)
    return planned


def put_on_nodes(planned: Iterable[PlannedPod], nodes: Iterable[str]) -> Counter[str]:
    """Give each pod without a node the one with the fewest pods; the number of pods by node.

    Where several have as few, the first takes the pod.

    Raises
    ------
    InputError
        If a pod is on a node that there is not.
    """
    names = list(nodes)
    counts: Counter[str] = Counter(dict.fromkeys(names, 0))
    waiting = []
    for pod in planned:
        if pod.node is None:
            waiting.append(pod)
        elif pod.node in counts:
            counts[pod.node] += 1
        else:
            raise InputError(f"there is no node {pod.node!r} for pod {pod.name}: {did_you_mean(pod.node, names)}")
    for pod in waiting:
        pod.node = min(names, key=lambda name: counts[name])
        counts[pod.node] += 1
    return counts


def make_pods(
    planned: Iterable[PlannedPod],
    nodes: Mapping[str, Node],
    pools: Mapping[str, AddressPool],
    services: Iterable[Service],
) -> list[Pod]:
    """Pod records; each pod without an address gets one of its node's.

    Raises
    ------
    InputError
        If two pods have the same name.
    """
    names = {(service.namespace, service.name) for service in services}
    made: dict[str, Pod] = {}
    for pod in planned:
        if pod.full_name in made:
            raise InputError(f"two pods are called {pod.full_name}")
        node = nodes[str(pod.node)]
        address = pod.address or (node.address if pod.is_host_network else pools[node.name].take())
        made[pod.full_name] = Pod(
            namespace=pod.namespace,
            name=pod.name,
            node=node.name,
            address=address,
            labels=pod.labels,
            ports=pod.ports,
            is_host_network=pod.is_host_network,
            is_ready=pod.is_ready,
            is_terminating=pod.is_terminating,
            has_network=pod.has_network,
            owner=pod.owner,
            calls=tuple(_calls(pod, names)),
            other_addresses=pod.other_addresses,
        )
    return list(made.values())


def _from_object(pod: objects.PodObject) -> PlannedPod:
    name = pod.metadata.name
    owner = next((_controller_name(reference) for reference in pod.metadata.owner_references), name)
    planned = _from_template(pod.spec, pod.metadata.namespace, name, owner, pod.metadata.labels)
    addresses = sorted((canonical(text) for text in pod.status.ips), key=lambda text: ":" in text)  # IPv4 ones first
    planned.address, planned.other_addresses = (addresses[0], tuple(addresses[1:])) if addresses else (None, ())
    planned.is_ready, planned.has_network = pod.status.is_ready, pod.status.has_network
    planned.is_terminating = pod.metadata.deletion_timestamp is not None
    return planned


def _controller_name(reference: objects.OwnerReference) -> str:
    """The Deployment behind a ReplicaSet, whose name ends in a hash; other owners as they are."""
    return reference.name.rpartition("-")[0] or reference.name if reference.kind == "ReplicaSet" else reference.name


def _from_controller(
    controller: objects.ControllerObject, listed: Iterable[PlannedPod], nodes: Mapping[str, Mapping[str, str]]
) -> Iterator[PlannedPod]:
    metadata, template = controller.metadata, controller.spec.template
    labels = template.metadata.labels
    there = [
        pod
        for pod in listed
        if pod.namespace == metadata.namespace and pod.owner == metadata.name and labels.items() <= pod.labels.items()
    ]
    if controller.kind == "DaemonSet":
        selector = template.spec.node_selector.items()
        occupied = {pod.node for pod in there}
        places: list[str | None] = [
            name for name, node_labels in nodes.items() if selector <= node_labels.items() and name not in occupied
        ]
    else:
        replicas = 1 if controller.spec.replicas is None else controller.spec.replicas
        places = [None] * (replicas - len(there))
    for number, node in enumerate(places):
        planned = _from_template(template.spec, metadata.namespace, f"{metadata.name}-{number}", metadata.name, labels)
        planned.node = planned.node or node
        yield planned


def _from_template(
    spec: objects.PodSpec, namespace: str, name: str, owner: str, labels: Mapping[str, str]
) -> PlannedPod:
    ports = tuple(
        ContainerPort(port.container_port, port.name, port.protocol.lower())
        for container in spec.containers
        for port in container.ports
    )
    environment = tuple(variable.value for container in spec.containers for variable in container.env)
    return PlannedPod(
        namespace, name, owner, labels, ports, environment, is_host_network=spec.host_network, node=spec.node_name
    )


def _calls(pod: PlannedPod, services: set[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    """Services that environment variables of a pod name, as ``cartservice:7070`` does."""
    for value in pod.environment:
        found = _SERVICE_ADDRESS.match(value)
        if found is not None:
            name, namespace, port = found[1], found[2] or pod.namespace, int(found[3])
            if (namespace, name) in services:
                yield f"{namespace}/{name}", port
