"""What kube-proxy's IPVS mode reads at each sync, whatever has changed (Kubernetes v1.30.3, ``syncProxyRules``).

It makes sure of its sets and chains, lists its sets and addresses, asks for all virtual services, and then for each of
them again: twice for itself and once for its real servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.proxy import _ipvs_sets as sets
from kubesim.proxy._ipvs_rules import CHAINS, JUMPS

if TYPE_CHECKING:
    from kubesim.proxy._ipvs_services import NodeTables

_REQUESTS_PER_SERVICE = 2
"""``GetVirtualServer`` in ``syncService`` and in ``syncEndpoint``."""

_ADDRESS_DUMPS = 3
"""All addresses are dumped for each device: ``kube-ipvs0``, and, assumed, two others (loopback and a card)."""


def reads(now: NodeTables, before: NodeTables | None) -> dict[str, int]:
    """The operations of one sync that only read, and how often each is done.

    Parameters
    ----------
    now
        What is to be: its virtual services are asked for one by one.
    before
        What is there and is listed, None if nothing is.
    """
    chains = sum(map(len, CHAINS.values()))
    services = now.service_count()
    found = {
        "iptables_check": chains + len(JUMPS) * (1 if before is not None else 2),  # to look, and then to insert
        "ipset_list": len(sets.SETS),
        "ipvs_read_service": services * _REQUESTS_PER_SERVICE,
        "ipvs_read_servers": services,
    }
    if before is None:
        return found
    sizes = {True: 0, False: 0}
    for ipset in before.ipsets():
        sizes["port" in ipset.kind and "hash" in ipset.kind] += len(ipset.entries)
    return found | {
        "ipset_ensure": len(sets.SETS),
        "ipset_list_place": sizes[True],
        "ipset_list_entry": sizes[False],
        "ipvs_list_service": before.service_count(),
        "ipvs_read_server": before.server_count(),
        "address_list": before.address_count() * _ADDRESS_DUMPS,
    }
