"""Reading Kubernetes YAML: many documents, lists of objects, several files."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from kubesim.cluster import http_objects, objects
from kubesim.errors import InputError
from kubesim.files import parse_yaml_stream, read_text
from kubesim.units import counted
from kubesim.validation import first_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_Object = TypeVar("_Object", bound=objects.KubernetesObject)


@dataclass
class Manifests:
    """The objects that matter, in the order in which they were read."""

    nodes: list[objects.NodeObject] = field(default_factory=list)
    pods: list[objects.PodObject] = field(default_factory=list)
    controllers: list[objects.ControllerObject] = field(default_factory=list)
    services: list[objects.ServiceObject] = field(default_factory=list)
    slices: list[objects.EndpointSliceObject] = field(default_factory=list)
    endpoints: list[objects.EndpointsObject] = field(default_factory=list)
    ingresses: list[http_objects.IngressObject] = field(default_factory=list)
    gateways: list[http_objects.GatewayObject] = field(default_factory=list)
    http_routes: list[http_objects.HttpRouteObject] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def notice(self) -> str | None:
        """One line about the kinds that were passed over, None if there were none."""
        if not self.skipped:
            return None
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
        return f"skipped {counted(self.skipped.total(), 'object')} without traffic: {counts}"


_KINDS: dict[tuple[str, str], tuple[str, type[objects.KubernetesObject]]] = {
    ("", "Node"): ("nodes", objects.NodeObject),
    ("", "Pod"): ("pods", objects.PodObject),
    ("apps", "Deployment"): ("controllers", objects.ControllerObject),
    ("apps", "StatefulSet"): ("controllers", objects.ControllerObject),
    ("apps", "DaemonSet"): ("controllers", objects.ControllerObject),
    ("apps", "ReplicaSet"): ("controllers", objects.ControllerObject),
    ("", "Service"): ("services", objects.ServiceObject),
    ("discovery.k8s.io", "EndpointSlice"): ("slices", objects.EndpointSliceObject),
    ("", "Endpoints"): ("endpoints", objects.EndpointsObject),
    ("networking.k8s.io", "Ingress"): ("ingresses", http_objects.IngressObject),
    ("extensions", "Ingress"): ("ingresses", http_objects.IngressObject),
    ("gateway.networking.k8s.io", "Gateway"): ("gateways", http_objects.GatewayObject),
    ("gateway.networking.k8s.io", "HTTPRoute"): ("http_routes", http_objects.HttpRouteObject),
}
_OLD_GROUPS = {"extensions": "apps"}


def read_manifests(files: Iterable[Path], field: str = "", made: Iterable[dict[str, Any]] = ()) -> Manifests:
    """Read files as ``kubectl get -o yaml`` or a release gives them.

    Parameters
    ----------
    files
        YAML (or JSON) files; each may hold many documents and ``List`` objects.
    field
        What messages about files begin with: what named them.
    made
        Objects to add, each unless the files have one of its kind and name.

    Raises
    ------
    InputError
        If a file cannot be read or parsed or is empty, an object is malformed, or two objects have the same kind and
        name.
    """
    manifests = Manifests()
    seen: dict[tuple[str, str, str], str] = {}
    for file in files:
        documents = list(_documents(file, field))
        if not documents:
            raise InputError(f"{field}{file} holds no Kubernetes object")
        for place, document in documents:
            _take(manifests, document, place, seen)
    for document in made:
        metadata = document["metadata"]
        if (document["kind"], metadata.get("namespace", "default"), metadata["name"]) not in seen:
            _take(manifests, document, "made", seen)
    return manifests


def _documents(file: Path, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a file, with where it stands."""
    try:
        text = read_text(file)
    except InputError as error:
        raise InputError(f"{field}{error}") from None
    for place, document in parse_yaml_stream(text, str(file)):
        yield from _objects(document, place)


def _objects(document: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The document, or the items of a List."""
    if document is None:
        return
    if not isinstance(document, dict):
        raise InputError(f"{place}: a Kubernetes object is a mapping, not {type(document).__name__}")
    kind = document.get("kind")
    if not isinstance(kind, str) or not kind:
        raise InputError(f"{place}: an object without a kind")
    if kind.endswith("List") and isinstance(document.get("items"), list):
        for number, item in enumerate(document["items"]):
            inner = dict(item) if isinstance(item, dict) else item
            if isinstance(inner, dict) and "kind" not in inner:
                inner["kind"] = kind.removesuffix("List")
                inner.setdefault("apiVersion", document.get("apiVersion", ""))
            yield from _objects(inner, f"{place}, item {number + 1}")
    else:
        yield place, document


def _take(manifests: Manifests, document: dict[str, Any], place: str, seen: dict[tuple[str, str, str], str]) -> None:
    """Check an object and put it where it belongs."""
    kind = document["kind"]
    group = str(document.get("apiVersion", "")).rpartition("/")[0]
    known = _KINDS.get((group, kind)) or _KINDS.get((_OLD_GROUPS.get(group, group), kind))
    if known is None or _is_made_by_a_deployment(document):
        manifests.skipped[kind] += 1
        return
    attribute, model = known
    checked = _check(model, document, place)
    metadata: objects.Metadata = checked.metadata  # type: ignore[attr-defined]
    for what, address in _addresses(checked):
        if not _is_address(address):
            raise InputError(f"{place}: {kind} {metadata.name}: {what} {address!r} is not an address")
    name = (kind, "" if kind == "Node" else metadata.namespace, metadata.name)
    if name in seen:
        raise InputError(f"{place}: {kind} {metadata.name!r} is there already, in {seen[name]}")
    seen[name] = place
    getattr(manifests, attribute).append(checked)


def _is_made_by_a_deployment(document: dict[str, Any]) -> bool:
    """Whether an object is a ReplicaSet that stands for its Deployment, which makes the same pods."""
    metadata = document.get("metadata")
    return document["kind"] == "ReplicaSet" and isinstance(metadata, dict) and bool(metadata.get("ownerReferences"))


def _check(model: type[_Object], document: dict[str, Any], place: str) -> _Object:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        keys, message = first_problem(error, model, document)
        metadata = document.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        what, where = f"{document['kind']} {name}".strip(), ".".join(str(key) for key in keys)
        raise InputError(f"{place}: {what}: {where}: {message}") from None


def _addresses(checked: objects.KubernetesObject) -> Iterator[tuple[str, str]]:
    """The addresses that an object gives, each with what its field is called."""
    match checked:
        case objects.PodObject():
            given = [("podIP", address) for address in checked.status.ips]
        case objects.NodeObject():
            given = [(one.type, one.address) for one in checked.status.addresses if one.type in objects.NODE_ADDRESSES]
        case objects.EndpointsObject():
            subsets = checked.subsets
            given = [("ip", one.ip) for two in subsets for one in (*two.addresses, *two.not_ready_addresses)]
        case objects.EndpointSliceObject(address_type="IPv4"):
            given = [("address", address) for one in checked.endpoints for address in one.addresses]
        case _:
            given = []
    yield from ((what, address) for what, address in given if address)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
