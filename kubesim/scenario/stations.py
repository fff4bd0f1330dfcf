"""The stations of a scenario: cores, cards, switch ports and the wire, by number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.engine import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from kubesim.scenario.spec import Hardware

INFINITELY_MANY = 1 << 40
"""Servers of a station where nobody waits for anybody."""


LIMITS = {
    "softirq core": "receive_ring",
    "rps core": "netdev_max_backlog",
    "nic": "transmit_queue",
    "port": "switch_queue",
}
"""The field of the hardware that says how many packets wait at a station, by its kind."""


class Station(NamedTuple):
    """A station: servers with one queue.

    Parameters
    ----------
    host
        The machine; empty for the wire, which all share.
    kind
        ``application core``, ``softirq core``, ``rps core``, ``nic``, ``port`` or ``wire``.
    number
        Which of the kind, from 0.
    """

    host: str
    kind: str
    number: int

    @property
    def name(self) -> str:
        """What to call it: ``node-1 softirq core 2``."""
        return " ".join(part for part in (self.host, self.kind, str(self.number)) if part)


@dataclass
class Stations:
    """Hands out the numbers of stations as hosts are met.

    Parameters
    ----------
    hardware
        What each host has.
    wake_ns
        What an idle core needs to wake up.
    """

    hardware: Hardware
    wake_ns: int
    all: list[Station] = field(default_factory=lambda: [Station("", "wire", 0)])
    _first: dict[tuple[str, str], int] = field(default_factory=dict)

    WIRE = 0

    def first(self, host: str, kind: str) -> int:
        """The number of a host's first station of a kind; the others follow."""
        if (host, kind) not in self._first:
            for one, count in self._inventory().items():
                self._first[host, one] = len(self.all)
                self.all += [Station(host, one, number) for number in range(count)]
        return self._first[host, kind]

    @property
    def application_cores(self) -> int:
        """Cores of a host that run applications."""
        return self.hardware.cores - self.hardware.softirq_cores - self.hardware.rps_cores

    def servers(self) -> npt.NDArray[np.int64]:
        """Servers of each station, shape (s,)."""
        return np.array([INFINITELY_MANY if station.kind == "wire" else 1 for station in self.all], np.int64)

    def capacity(self, socket_places: Mapping[int, int]) -> npt.NDArray[np.int64]:
        """Places of each station, shape (s,); one is in service, the others wait.

        Parameters
        ----------
        socket_places
            Packets that the receiving sockets of an application core hold, by the station's number; those that are not
            there have no limit.
        """
        places = {kind: getattr(self.hardware, limit) + 1 for kind, limit in LIMITS.items()}
        capacity = np.array([places.get(station.kind, UNLIMITED) for station in self.all], np.int64)
        for number, held in socket_places.items():
            capacity[number] = held + 1
        return capacity

    def wakes(self) -> npt.NDArray[np.int64]:
        """What a station's idle server needs to wake up, shape (s,)."""
        return np.array([self.wake_ns if "core" in station.kind else 0 for station in self.all], np.int64)

    def _inventory(self) -> dict[str, int]:
        return {
            "application core": self.application_cores,
            "softirq core": self.hardware.softirq_cores,
            "nic": 1,
            "port": 1,
            "rps core": self.hardware.rps_cores,
        }


def notice_of_backlog(hardware: Hardware) -> str | None:
    """What to say if a limit was given that nothing reaches."""
    if hardware.rps_cores or "netdev_max_backlog" not in hardware.model_fields_set:
        return None
    return "hardware.netdev_max_backlog: nothing reaches it without RPS: give rps_cores, or limit the receive_ring"
