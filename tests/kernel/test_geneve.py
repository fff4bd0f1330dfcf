"""Geneve: sizes and ports of outer packets, and that the remote end comes with each packet."""

from __future__ import annotations

import pytest

from kubesim.kernel.geneve import GENEVE_OVERHEAD_BYTES, Geneve
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.nic import Ethernet, Nic
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Path, Walk


def pair(option_bytes: int = 0) -> tuple[Geneve, Namespace]:
    """A tunnel device of one host, and the root namespace of the other, which has one too."""
    ethernet = Ethernet()
    found = []
    for number in (1, 2):
        root = Host(f"host-{number}").root
        nic = Nic(root, "eth0", 1500, ethernet)
        root.add_address(nic, f"192.168.0.{number}/24")
        ethernet.plug_in(nic)
        found.append(Geneve(root, "genev_sys_6081", 65000, f"192.168.0.{number}", option_bytes=option_bytes))
    return found[0], found[1].namespace


def send(tunnel: Geneve, remote: str = "192.168.0.2", source_port: int = 40_000, payload_bytes: int = 64) -> Path:
    walk = Walk()
    walk.host = tunnel.namespace.host.name
    inner = Packet("10.0.0.1", "10.0.0.2", "udp", source_port, 53, payload_bytes)
    tunnel.send_to(walk, inner, remote)
    return walk.run(inner)


@pytest.mark.parametrize("option_bytes", [0, 4, 252])
def test_what_is_on_the_wire(option_bytes: int) -> None:
    tunnel, _ = pair(option_bytes)
    sizes = {hop.operation: hop.size_bytes for hop in send(tunnel, payload_bytes=1000).hops}
    frame_bytes = 14 + GENEVE_OVERHEAD_BYTES + option_bytes + 20 + 8 + 1000 + 4
    assert GENEVE_OVERHEAD_BYTES == 20 + 8 + 8 + 14
    assert sizes["nic_serialise"] == frame_bytes + 20


def test_wrapped_here_and_unwrapped_there() -> None:
    tunnel, other = pair()
    hops = [(hop.host, hop.operation) for hop in send(tunnel).hops]
    assert ("host-1", "geneve_encapsulate") in hops
    assert hops.index(("host-2", "gro_cells")) == hops.index(("host-2", "geneve_decapsulate")) + 1
    assert ("udp", 6081) in other.encapsulation_sockets


def test_flows_have_source_ports_of_their_own() -> None:
    tunnel, other = pair()
    seen: list[Packet] = []
    other.encapsulation_sockets["udp", 6081] = lambda _walk, packet: seen.append(packet)
    for source_port in range(40_000, 40_020):
        send(tunnel, source_port=source_port)
    assert len({packet.source_port for packet in seen}) > 15
    assert all(32_768 <= packet.source_port <= 60_999 for packet in seen)
    assert {packet.destination_port for packet in seen} == {6081}


def test_it_goes_where_it_is_told() -> None:
    tunnel, _ = pair()
    assert "nobody answers for 192.168.0.3" in str(send(tunnel, remote="192.168.0.3").reason)
