"""What IPVS mode writes for Services made by number: whether something is there follows from its number.

Writing all of it down would take a node with tens of thousands of endpoints longer than everything else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from socket import inet_aton
from typing import TYPE_CHECKING

from kubesim.cluster.fleet import PORT, TARGET_PORT
from kubesim.kernel.ipvs.virtual_server import SERVICE_BUCKETS, ServiceKey, service_bucket

if TYPE_CHECKING:
    from kubesim.cluster import Endpoint
    from kubesim.cluster.fleet import Fleet
    from kubesim.kernel.netfilter.ipset import Entry


class FleetAddresses(AbstractSet[str]):
    """The virtual addresses of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._first = int.from_bytes(inet_aton(fleet.first_service_ip))

    def __len__(self) -> int:
        return self._fleet.services

    def __iter__(self) -> Iterator[str]:
        for index in range(len(self)):
            yield str(self._fleet.service(index).cluster_ip)

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and self.index(address) is not None

    def index(self, address: str) -> int | None:
        """The position of the Service with this address, None if there is none."""
        if ":" in address:
            return None
        index = int.from_bytes(inet_aton(address)) - self._first
        return index if 0 <= index < len(self) else None

    def bucket_sizes(self) -> dict[int, int]:
        """How many of the Services are in each bucket of the service table: addresses in a row fill them in turn."""
        full, rest = divmod(len(self), SERVICE_BUCKETS)
        sizes = {
            service_bucket(self._first + offset, self._fleet.protocol, PORT): full + (offset < rest)
            for offset in range(SERVICE_BUCKETS)
        }
        return {bucket: size for bucket, size in sizes.items() if size}


class FleetServices:
    """The virtual services of a fleet.

    Parameters
    ----------
    fleet
        The fleet.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.addresses = FleetAddresses(fleet)

    def endpoints(self, key: ServiceKey) -> list[Endpoint] | None:
        """The endpoints of a virtual service, sorted as text; None if it is none of the fleet's."""
        index = self._index(key)
        return None if index is None else sorted(self.fleet.endpoint_list(index), key=str)

    def keys(self) -> Iterator[ServiceKey]:
        """All virtual services."""
        for address in self.addresses:
            yield ServiceKey(address, self.fleet.protocol, PORT)

    def _index(self, key: ServiceKey) -> int | None:
        if (key.protocol, key.port) != (self.fleet.protocol, PORT):
            return None
        return self.addresses.index(key.address)


class FleetPlaces(Collection["Entry"]):
    """The entries ``(address, protocol, port)`` of all virtual services of a fleet."""

    def __init__(self, services: FleetServices) -> None:
        self._services = services

    def __len__(self) -> int:
        return len(self._services.addresses)

    def __iter__(self) -> Iterator[Entry]:
        return ((*key,) for key in self._services.keys())  # noqa: SIM118 - it is no mapping

    def __contains__(self, entry: object) -> bool:
        if not isinstance(entry, tuple) or entry[1:] != (self._services.fleet.protocol, PORT):
            return False
        return entry[0] in self._services.addresses


class FleetAddressEntries(Collection["Entry"]):
    """The entries ``(address,)`` of all virtual addresses of a fleet."""

    def __init__(self, addresses: FleetAddresses) -> None:
        self._addresses = addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def __iter__(self) -> Iterator[Entry]:
        return ((address,) for address in self._addresses)

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, tuple) and len(entry) == 1 and entry[0] in self._addresses


class FleetLoops(Collection["Entry"]):
    """The entries ``(address, protocol, port, address)`` of a fleet's endpoints on one node."""

    def __init__(self, fleet: Fleet, node: str) -> None:
        self._fleet = fleet
        self._node = node
        self._place = next((place for place, one in enumerate(fleet.nodes) if one.name == node), None)

    def __len__(self) -> int:
        if self._place is None:
            return 0
        nodes = len(self._fleet.nodes)
        pods = self._fleet.services * self._fleet.endpoints
        return max(0, pods - self._place + nodes - 1) // nodes

    def __iter__(self) -> Iterator[Entry]:
        for index in range(self._fleet.services):
            for endpoint in self._fleet.endpoint_list(index):
                if endpoint.node == self._node:
                    yield (endpoint.address, self._fleet.protocol, endpoint.port, endpoint.address)

    def __contains__(self, entry: object) -> bool:
        if not isinstance(entry, tuple) or len(entry) != 4 or entry[0] != entry[3]:
            return False
        if entry[1:3] != (self._fleet.protocol, TARGET_PORT):
            return False
        pod = self._fleet.pod_at(str(entry[0]))
        return pod is not None and pod.node == self._node


class Joined(Collection["Entry"]):
    """Entries of several collections that have none in common."""

    def __init__(self, *parts: Collection[Entry]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[Entry]:
        for part in self._parts:
            yield from part

    def __contains__(self, entry: object) -> bool:
        return any(entry in part for part in self._parts)
