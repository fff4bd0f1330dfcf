"""What the programs of one host share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.bpf.connections import ConnectionMap
from kubesim.kernel.bpf.source_nat import SourceNat

if TYPE_CHECKING:
    from kubesim.kernel.bpf.services import Services
    from kubesim.kernel.bpf.sockets import SocketPrograms


class Bpf:
    """The pinned maps of a host (``/sys/fs/bpf``), and the programs at its sockets.

    Parameters
    ----------
    services
        Virtual addresses.
    """

    def __init__(self, services: Services) -> None:
        self.connections = ConnectionMap()
        self.source_nat = SourceNat()
        self.services = services
        self.sockets: SocketPrograms | None = None

    def flush(self) -> None:
        """Forget connections and sockets; clients that stay with their servers do so further on."""
        self.connections.flush()
        self.source_nat.flush()
        if self.sockets is not None:
            self.sockets.flush()
