"""Reading Kubernetes YAML: many documents, lists of objects, several files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from kubesim.cluster import objects
from kubesim.errors import InputError
from kubesim.files import parse_yaml_stream, read_text

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
    skipped: Counter[str] = field(default_factory=Counter)

    def notice(self) -> str | None:
        """One line about the kinds that were passed over, None if there were none."""
        if not self.skipped:
            return None
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
        return f"skipped {self.skipped.total()} objects that carry no traffic: {counts}"


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
}
_OLD_GROUPS = {"extensions": "apps"}


def read_manifests(files: Iterable[Path]) -> Manifests:
    """Read files as ``kubectl get -o yaml`` or a release gives them.

    Parameters
    ----------
    files
        YAML (or JSON) files; each may hold many documents and ``List`` objects.

    Raises
    ------
    InputError
        If a file cannot be read or parsed, an object is malformed, or two objects have the same kind and name.
    """
    manifests = Manifests()
    seen: dict[tuple[str, str, str], str] = {}
    for file in files:
        for place, document in _documents(file):
            _take(manifests, document, place, seen)
    return manifests


def _documents(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a file, with where it stands."""
    for place, document in parse_yaml_stream(read_text(file), str(file)):
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
    known = _KINDS.get((_OLD_GROUPS.get(group, group), kind))
    if known is None or _is_made_by_a_deployment(document):
        manifests.skipped[kind] += 1
        return
    attribute, model = known
    checked = _check(model, document, place)
    metadata: objects.Metadata = checked.metadata  # type: ignore[attr-defined]
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
        first = error.errors(include_url=False)[0]
        metadata = document.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}: {document['kind']} {name}: {where}: {first['msg']}") from None
