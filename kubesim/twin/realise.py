"""Makes a cluster's kernel state real: network namespaces, devices, routes and rules on this host.

What is made follows from the simulated state alone, object by object, so that a new CNI plugin has a twin at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute, NetlinkError, netns

from kubesim.errors import InputError
from kubesim.kernel.bridge import Bridge
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.ipip import Ipip
from kubesim.kernel.loopback import Loopback
from kubesim.kernel.netfilter.iptables import NFT
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.veth import Veth
from kubesim.kernel.vxlan import Vxlan
from kubesim.twin.inside import run_tool
from kubesim.twin.names import device_name, remove_namespaces
from kubesim.twin.steps import quietly
from kubesim.twin.wires import SWITCH, Wire, needs_switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubesim.cluster import Pod
    from kubesim.kernel.device import Device
    from kubesim.kernel.namespace import Namespace
    from kubesim.scenario.deployment import Deployment
    from kubesim.twin.steps import OnStep

_SHARE_OF_DEVICES = 0.2
_IPVS_ELSEWHERE = "boot one that has it, or let a user-mode kernel do it: --kernel uml"
_PERMANENT = "permanent"


class Twin:
    """A cluster's namespaces on this host.

    Parameters
    ----------
    deployment
        The simulated state, with wires between nodes.
    pods
        The pods to make; a cluster has more than anybody wants to see real.
    prefix
        What names of namespaces begin with.
    """

    def __init__(self, deployment: Deployment, pods: Iterable[Pod], prefix: str) -> None:
        self._deployment = deployment
        self._prefix = prefix
        self._names: dict[Namespace, str] = {}
        self._links: dict[Namespace, IPRoute] = {}
        self._switch: IPRoute | None = None
        for pod in pods:
            deployment.namespace(pod)

    def up(self, on_step: OnStep = quietly) -> None:
        """Make everything.

        Parameters
        ----------
        on_step
            Told what is being made.

        Raises
        ------
        InputError
            If this is not root, a tool is not installed, or the kernel lacks a feature.
        """
        if any(namespace.host.bpf is not None for namespace in self._namespaces):
            raise InputError("cni: a twin has no eBPF programs, so that cilium cannot be made real")
        check_host(self._tools())
        check_kernel(self._namespaces)
        try:
            with contextlib.ExitStack() as stack:
                self._make_namespaces(stack)
                on_step("devices", 0.0)
                for step in (self._make_devices, self._configure_devices, self._add_routes):
                    for namespace in self._names:
                        step(namespace)
            on_step("rules", _SHARE_OF_DEVICES)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                loads = [(name, list(self._loads(namespace))) for namespace, name in self._names.items()]
                list(pool.map(_load, loads))
        except NetlinkError as error:
            raise InputError(f"the kernel refuses a part of the twin: {error}") from None

    def down(self) -> None:
        """Remove everything."""
        remove_namespaces(f"{self._prefix}-")

    def name(self, namespace: Namespace) -> str:
        """What a namespace is called on this host."""
        return self._names[namespace]

    @property
    def names(self) -> list[str]:
        """All namespaces by name."""
        return list(self._names.values())

    @cached_property
    def _namespaces(self) -> list[Namespace]:
        hosts = [self._deployment.host(node.name) for node in self._deployment.cluster.nodes]
        return [namespace for host in hosts for namespace in host.namespaces.values()]

    def _tools(self) -> list[str]:
        """The programs that are needed for the rules that are there."""
        needed = {"ip", "sysctl"}
        for namespace in self._namespaces:
            if namespace.ipvs is not None:
                needed.add("ipvsadm")
            if namespace.ipsets:
                needed.add("ipset")
            if namespace.nft_tables:
                needed.add("nft")
            needed |= {f"iptables-{_backend(namespace)}-restore"} if namespace.tables else set()
        return sorted(needed)

    def _make_namespaces(self, stack: contextlib.ExitStack) -> None:
        for number, namespace in enumerate(self._namespaces):
            name = f"{self._prefix}-{number}"
            netns.create(name)
            self._names[namespace] = name
            self._links[namespace] = stack.enter_context(IPRoute(netns=name))
            settings = {"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0}
            settings |= {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
            settings |= {"net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0}
            settings["net.ipv4.ip_forward"] = int(namespace.is_forwarding)
            if any(isinstance(device, Bridge) for device in namespace.devices.values()):
                settings["net.bridge.bridge-nf-call-iptables"] = int(namespace.is_bridge_nf_call_iptables)
            self._sysctl(namespace, settings)
        if needs_switch(len(self._deployment.cluster.nodes)):
            self._make_switch(stack)

    def _make_switch(self, stack: contextlib.ExitStack) -> None:
        """Make the bridge that joins the nodes, in a namespace of its own."""
        name = f"{self._prefix}-{SWITCH}"
        netns.create(name)
        self._switch = stack.enter_context(IPRoute(netns=name))
        _add_link(self._switch, "bridge", ifname=SWITCH)
        self._switch.link("set", index=self._switch.link_lookup(ifname=SWITCH)[0], state="up")

    def _make_devices(self, namespace: Namespace) -> None:
        """Make the devices that are there, each with its own address of the link layer."""
        for device in namespace.devices.values():
            if isinstance(device, Loopback):
                continue
            if device.master is not None and not isinstance(device.master, Bridge):
                kind = type(device.master).__name__.lower()
                raise InputError(f"a twin has no {kind}, which {device.name} hands its packets to")
            name, link = device_name(device.name), self._links[namespace]
            if self._index(device) is not None:
                continue  # made with its peer
            common = {"ifname": name, "address": device.mac, "mtu": device.mtu}
            match device:
                case Bridge():
                    _add_link(link, "bridge", **common)
                case Dummy():
                    _add_link(link, "dummy", **common)
                case Vxlan():
                    vxlan = {"vxlan_id": device.vni, "vxlan_local": device.local_address, "vxlan_port": device.port}
                    _add_link(link, "vxlan", vxlan_learning=False, **vxlan, **common)
                case Ipip():
                    _add_link(link, "ipip", ipip_local=device.local_address, **common)
                case Veth() | Wire():
                    self._make_pair(device, common)
                case _:
                    raise InputError(f"a twin has no {type(device).__name__.lower()} device, such as {device.name}")

    def _make_pair(self, device: Veth | Wire, common: dict[str, Any]) -> None:
        """Make a pair of devices: the other one is the state's too, or a port of the switch, or plugged nowhere."""
        link = self._links[device.namespace]
        if isinstance(device, Wire) and self._switch is not None:
            port = f"port{list(self._names).index(device.namespace)}"
            end = {"ifname": port, "mtu": device.mtu, "net_ns_fd": f"{self._prefix}-{SWITCH}"}
            _add_link(link, "veth", peer=end, **common)
            index, bridge = (self._switch.link_lookup(ifname=name)[0] for name in (port, SWITCH))
            self._switch.link("set", index=index, master=bridge, state="up")
            return
        peer = self._peer(device)
        unplugged: dict[str, Any] = {"ifname": "unplugged"}
        end = unplugged if peer is None else self._end(peer)
        _add_link(link, "veth", peer=end, **common)

    def _end(self, device: Device) -> dict[str, Any]:
        return {
            "ifname": device_name(device.name),
            "address": device.mac,
            "mtu": device.mtu,
            "net_ns_fd": self._names[device.namespace],
        }

    def _peer(self, device: Veth | Wire) -> Device | None:
        if isinstance(device, Veth):
            return device.peer
        others = [
            one
            for namespace in self._names
            for one in namespace.devices.values()
            if isinstance(one, Wire) and one is not device
        ]
        return others[0] if others else None

    def _configure_devices(self, namespace: Namespace) -> None:
        """Join ports to bridges, give addresses, and switch devices on."""
        link = self._links[namespace]
        for device in namespace.devices.values():
            index = self._index(device)
            if isinstance(device, Veth) and isinstance(device.master, Bridge):
                link.link("set", index=index, master=self._index(device.master))
                link.brport("set", index=index, mode=int(device.is_hairpin))
            if isinstance(device, Veth) and device.is_proxy_arp:
                name = device_name(device.name)
                settings = {f"net.ipv4.conf.{name}.proxy_arp": 1, f"net.ipv4.neigh.{name}.proxy_delay": 0}
                self._sysctl(namespace, settings)
            link.link("set", index=index, state="up")
            if not isinstance(device, Loopback):
                for address in namespace.addresses_of(device):
                    link.addr("add", index=index, address=address, prefixlen=32)

    def _add_routes(self, namespace: Namespace) -> None:
        """Write routes, neighbours and forwarding entries."""
        link = self._links[namespace]
        for route in sorted(namespace.routes, key=lambda one: one.via is not None):
            if route.device is namespace.loopback:
                continue
            if route.device is None:
                link.route("add", dst=_with_length(route.prefix.text), type="blackhole")
                continue
            words: dict[str, Any] = {"dst": _with_length(route.prefix.text), "oif": self._index(route.device)}
            if route.via is not None:
                words |= {"gateway": route.via, "flags": "onlink"}
            else:
                words["scope"] = "link"
            if route.source is not None:
                words["prefsrc"] = route.source
            link.route("replace", **words)
        for (name, address), mac in namespace.neighbours.items():
            index = self._index(namespace.devices[name])
            link.neigh("replace", dst=address, lladdr=mac, ifindex=index, state=_PERMANENT)
        for device in namespace.devices.values():
            if isinstance(device, Vxlan):
                for mac, remote in device.forwarding_database.items():
                    link.fdb("append", ifindex=self._index(device), lladdr=mac, dst=remote)

    def _index(self, device: Device) -> int | None:
        found = self._links[device.namespace].link_lookup(ifname=device_name(device.name))
        return found[0] if found else None

    def _sysctl(self, namespace: Namespace, settings: dict[str, int]) -> None:
        words = [f"{name}={value}" for name, value in settings.items()]
        run_tool("ip", "netns", "exec", self._names[namespace], "sysctl", "-qw", *words)

    def _loads(self, namespace: Namespace) -> Iterator[tuple[list[str], str]]:
        """The tools that load a namespace's sets, virtual services and rules, and what each is to read."""
        node = next((one for one in self._deployment.cluster.nodes if one.name == namespace.name), None)
        if namespace.ipsets:
            yield ["ipset", "restore"], "".join(ipset.save() for ipset in namespace.ipsets.values())
        if namespace.ipvs is not None and node is not None:
            yield ["ipvsadm", "--restore"], self._deployment.proxy.text(node, "ipvsadm", "ipv4")
            yield ["sysctl", "-qw", "net.ipv4.vs.conntrack=1"], ""
        if namespace.tables:
            yield [f"iptables-{_backend(namespace)}-restore"], _named_as_here(RuleSet.of(namespace).save(), namespace)
        if namespace.nft_tables and node is not None:
            yield ["nft", "-f", "-"], self._deployment.proxy.text(node, "nft", "ipv4")


def _add_link(link: IPRoute, kind: str, **words: Any) -> None:
    try:
        link.link("add", kind=kind, **words)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise InputError(f"this kernel has no {kind} devices: load module {kind}, or boot one that has it") from None


def _load(loads: tuple[str, list[tuple[list[str], str]]]) -> None:
    """Run tools in a namespace, one after the other."""
    name, tools = loads
    for words, text in tools:
        run_tool("ip", "netns", "exec", name, *words, text=text)


def check_kernel(namespaces: Iterable[Namespace]) -> None:
    """Refuse a kernel without what a part of the state needs, before anything is made.

    Raises
    ------
    InputError
        If there is IPVS in the state, and none in the kernel.
    """
    if any(namespace.ipvs is not None for namespace in namespaces) and not has_ipvs():
        raise InputError(f"this kernel has no IPVS (module ip_vs): {_IPVS_ELSEWHERE}")


def has_ipvs() -> bool:
    """Whether the kernel has IPVS, built in or as a module that can be loaded."""
    return _works("ipvsadm", "--list", "--numeric")


def has_ipsets() -> bool:
    """Whether the kernel has IP sets, built in or as a module that can be loaded."""
    return _works("ipset", "list", "-name")


def _works(*words: str) -> bool:
    try:
        run_tool(*words)
    except InputError:
        return False
    return True


def _backend(namespace: Namespace) -> str:
    return "nft" if any(table.backend is NFT for table in namespace.tables.values()) else "legacy"


def _with_length(text: str) -> str:
    return text if "/" in text else f"{text}/32"


def _named_as_here(rules: str, namespace: Namespace) -> str:
    """Rules with the names that devices have here."""
    for name in namespace.devices:
        if device_name(name) != name:
            rules = rules.replace(name, device_name(name))
    return rules


def check_host(tools: Iterable[str]) -> None:
    """Refuse a host on which no twin can be made.

    Raises
    ------
    InputError
        If this is not root, or a tool is not installed.
    """
    if os.geteuid() != 0:
        raise InputError("a twin needs root, to make network namespaces: run it with sudo")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        names = ", ".join(missing)
        raise InputError(f"not installed: {names}: install iproute2, iptables, nftables, ipset, ipvsadm and procps")
