"""Rules read from real nodes: what iptables-save, nft, ipvsadm and ipset printed there, in place of a proxy's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.rule_dumps import RuleDumps, read_dumps
from kubesim.proxy import RuleUpdate

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy import Family


def _list_of_one(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


Files = Annotated[list[Path], BeforeValidator(_list_of_one, json_schema_input_type=Path | list[Path])]


class Settings(BaseModel):
    """Which dump is whose; a node that has none has no rules but those of its CNI plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: Files = Field(default=[], description="dumps that are the rules of all nodes, relative to the scenario file")
    node_rules: dict[str, Files] = Field(default={}, description="dumps by node, in place of those for all")


class Plugin:
    """Puts the tables of the dumps into the nodes, in place of tables that are there."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False
    tells_pods_apart: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = ()

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        names = [node.name for node in cluster.nodes]
        for name in settings.node_rules:
            if name not in names:
                raise InputError(f"proxy.node_rules: there is no node {name!r}: {did_you_mean(name, names)}")
        if not settings.rules and not settings.node_rules:
            raise InputError("proxy: a dump needs rules, or node_rules")
        self._settings = settings
        self._read: dict[tuple[Path, ...], RuleDumps] = {}

    def install(self, namespace: Namespace, node: Node) -> None:
        """Read the node's dumps, where no other node has the same, and put them in."""
        paths = tuple(self._settings.node_rules.get(node.name, self._settings.rules))
        if paths:
            if paths not in self._read:
                self._read[paths] = read_dumps(paths)
            self._read[paths].install(namespace)

    @property
    def notices(self) -> tuple[str, ...]:
        """What of the dumps read so far is not modelled."""
        return tuple(dict.fromkeys(notice for read in self._read.values() for notice in read.notices))

    def text(self, _node: Node, _form: str, _family: Family) -> str:
        """Say nothing: the dump is there already."""
        return ""

    def update(self, _node: Node, _before: Plugin | None, *, is_partial: bool) -> RuleUpdate:  # noqa: ARG002 - a protocol
        """Write nothing: nobody is there to follow changes."""
        return RuleUpdate(0, 0, {})
