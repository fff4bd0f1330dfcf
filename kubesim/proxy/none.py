"""No proxy at all: Services have no virtual address; a name leads straight to the pods, as with headless Services."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from kubesim.proxy import RuleUpdate

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy import Family


class Settings(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plugin:
    """Writes nothing."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = True
    tells_pods_apart: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ()

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        """Take note of nothing."""

    def install(self, namespace: Namespace, node: Node) -> None:
        """Leave the node as it is."""

    def text(self, _node: Node, _form: str, _family: Family) -> str:
        """Say nothing."""
        return ""

    def update(self, _node: Node, _before: Plugin | None, *, is_partial: bool) -> RuleUpdate:  # noqa: ARG002 - a protocol
        """Write nothing."""
        return RuleUpdate(0, 0, {})
