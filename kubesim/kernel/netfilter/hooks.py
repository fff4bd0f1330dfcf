"""The hooks of the IP layer, and the functions registered there in the order of their priorities."""

from __future__ import annotations

from bisect import insort
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class Hook(StrEnum):
    """Where netfilter looks at a packet of the IP layer."""

    PREROUTING = "PREROUTING"
    INPUT = "INPUT"
    FORWARD = "FORWARD"
    OUTPUT = "OUTPUT"
    POSTROUTING = "POSTROUTING"


class Priority:
    """Order of the functions at one hook, lowest first (include/uapi/linux/netfilter_ipv4.h)."""

    DEFRAGMENT = -400
    RAW = -300
    CONNTRACK = -200
    MANGLE = -150
    NAT_DESTINATION = -100
    FILTER = 0
    SECURITY = 50
    NAT_SOURCE = 100
    CONNTRACK_CONFIRM = 2**31 - 1


class Verdict(Enum):
    """What a hook function says."""

    ACCEPT = auto()
    """Go on with the next function."""
    STOP = auto()
    """The packet goes no further on this way: dropped, or taken over."""


class HookCall(NamedTuple):
    """The circumstances of one hook: where, and between which devices."""

    hook: Hook
    namespace: Namespace
    in_device: str | None
    out_device: str | None


class HookFunction(Protocol):
    """What is registered at a hook."""

    def __call__(self, walk: Walk, packet: Packet, call: HookCall, /) -> Verdict:
        """Look at a packet."""


class Hooks:
    """The hook functions of one namespace; a namespace without any costs a packet nothing."""

    def __init__(self) -> None:
        self._functions: dict[Hook, list[tuple[int, int, HookFunction]]] = {hook: [] for hook in Hook}
        self._registered = 0

    def register(self, hook: Hook, priority: int, function: HookFunction) -> None:
        """Add a function; among equal priorities the one registered first comes first."""
        self._registered += 1
        insort(self._functions[hook], (priority, self._registered, function))

    def run(
        self,
        walk: Walk,
        packet: Packet,
        hook: Hook,
        namespace: Namespace,
        in_device: str | None = None,
        out_device: str | None = None,
    ) -> bool:
        """Show a packet to the functions of a hook; whether it may go on."""
        functions = self._functions[hook]
        if not functions:
            return True
        walk.note_hook("inet", hook.lower(), in_device, out_device)
        walk.see(packet, namespace)
        call = HookCall(hook, namespace, in_device, out_device)
        if any(function(walk, packet, call) is Verdict.STOP or walk.is_over for _, _, function in functions):
            return False
        walk.see(packet, namespace)
        return True
