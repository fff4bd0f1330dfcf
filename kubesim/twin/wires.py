"""Wires of veth pairs in place of cards: how the nodes of a twin are joined, and what a packet pays there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.kernel import backlog
from kubesim.kernel.nic import GATEWAY_MAC, Nic
from kubesim.kernel.walk import Context
from kubesim.scenario.simulation import deploy

if TYPE_CHECKING:
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk
    from kubesim.scenario import Scenario
    from kubesim.scenario.deployment import Deployment

SWITCH = "switch"
"""What joins more than two nodes: a bridge in a namespace that is no part of the cluster."""

_TWO = 2


class Wire(Nic):
    """A node's ``eth0`` as one end of a veth pair, whose other end is the other node's, or a port of the switch."""

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Hand the packet to the other end through the backlog of the same core, as any veth does."""
        walk.pay("veth_transmit", at=self.name)
        if packet.destination_mac == GATEWAY_MAC:
            walk.drop(f"{packet.destination} is not in the cluster, and the twin has no way out")
            return
        peer = self.ethernet.card(packet.destination_mac)
        if peer is None:
            walk.drop(f"no node of the twin has the address {packet.destination_mac}")
            return
        packet.scrub()
        if needs_switch(self.ethernet.cards):
            for operation in ("backlog", "bridge_receive", "bridge_fdb_lookup", "veth_transmit"):
                walk.pay(operation, at=SWITCH)
        walk.host = peer.namespace.host.name
        backlog.enqueue(walk, packet, peer)
        walk.context = Context.SOFTIRQ


def needs_switch(nodes: int) -> bool:
    """Whether one wire does not join so many nodes."""
    return nodes > _TWO


def twin_deployment(scenario: Scenario) -> Deployment:
    """The scenario's kernel state as the twin has it: with wires between the nodes, and all nodes there.

    Raises
    ------
    InputError
        If the nodes are on several networks.
    """
    if scenario.cluster.node_subnets > 1:
        raise InputError("cluster.node_subnets: a twin has no router between networks: give it 1")
    deployment = deploy(scenario, card=Wire)
    for node in deployment.cluster.nodes:
        deployment.host(node.name)
    return deployment
