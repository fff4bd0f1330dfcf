"""Virtual services as ``ipvsadm -Sn`` prints them: reading them, and writing them in the same form."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.kernel.ipvs.schedulers import SCHEDULERS, RealServer
from kubesim.kernel.ipvs.virtual_server import Ipvs, ServiceKey, VirtualService
from kubesim.kernel.netfilter.option import RuleSyntaxError, number_of, numbered_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.kernel.namespace import Namespace

DEFAULT_SCHEDULER = "wlc"
DEFAULT_TIMEOUT_S = 360
"""What ipvsadm takes where nothing is said (``DEF_SCHED``, ``-p`` without a number)."""

_HIGHEST = 65535
_PLACE = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*))(?::(?P<port>.*))?")
_PROTOCOLS = {
    "-t": "tcp", "--tcp-service": "tcp", "-u": "udp", "--udp-service": "udp", "--sctp-service": "sctp",
}  # fmt: skip
_OPTIONS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
_FORWARDING = {
    "-m": "masquerading", "--masquerading": "masquerading", "-g": "gatewaying", "--gatewaying": "gatewaying",
    "-i": "ipip", "--ipip": "ipip",
}  # fmt: skip
_SHORT = {
    "--scheduler": "-s", "--persistent": "-p", "--real-server": "-r", "--weight": "-w", "--fwmark-service": "-f",
    "--sched-flags": "-b",
}  # fmt: skip
_ADD_SERVICE, _ADD_SERVER = ("-A", "--add-service"), ("-a", "--add-server")


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A real server as ipvsadm has it; forwarding is ``masquerading``, ``gatewaying`` or ``ipip``."""

    address: str
    port: int
    weight: int = 1
    forwarding: str = "masquerading"


@dataclass(slots=True)
class ServiceRecord:
    """A virtual service as ipvsadm has it.

    Parameters
    ----------
    key
        Address, protocol and port; None for one that is found by the packets' mark.
    mark
        That mark.
    scheduler, scheduler_flags
        How a real server is chosen.
    timeout_s
        How long a client stays with its server, None if it does not.
    servers
        Its real servers, in order.
    """

    key: ServiceKey | None
    mark: int = 0
    scheduler: str = DEFAULT_SCHEDULER
    scheduler_flags: str = ""
    timeout_s: int | None = None
    servers: list[ServerRecord] = field(default_factory=list)

    @property
    def identity(self) -> str:
        """The options that name it: ``-t 10.96.0.1:443``."""
        if self.key is None:
            return f"-f {self.mark}"
        return f"{_OPTIONS[self.key.protocol]} {place_text(self.key.address, self.key.port)}"

    def save(self) -> str:
        """Its lines, as ``ipvsadm -Sn`` prints them."""
        affinity = "" if self.timeout_s is None else f" -p {self.timeout_s}"
        flags = f" -b {self.scheduler_flags}" if self.scheduler_flags else ""
        lines = [f"-A {self.identity} -s {self.scheduler}{affinity}{flags}"]
        for server in self.servers:
            how = next(option for option, name in _FORWARDING.items() if name == server.forwarding)
            place = place_text(server.address, server.port)
            lines.append(f"-a {self.identity} -r {place} {how} -w {server.weight}")
        return "\n".join([*lines, ""])

    def virtual_service(self) -> VirtualService | None:
        """What the walk uses, None for one that is found by a mark; unknown schedulers are taken for ``rr``."""
        if self.key is None:
            return None
        servers = [RealServer(server.address, server.port, server.weight) for server in self.servers]
        scheduler = self.scheduler if self.scheduler in SCHEDULERS else "rr"
        return VirtualService.of(self.key, scheduler, servers, is_persistent=self.timeout_s is not None)

    def unmodelled(self) -> list[str]:
        """What of it a walk does not follow; empty if it follows everything."""
        found = [] if self.key is not None else ["fwmark"]
        found += [] if self.scheduler in SCHEDULERS else [self.scheduler]
        return found + sorted({server.forwarding for server in self.servers} - {"masquerading"})


def place_text(address: str, port: int) -> str:
    """``10.96.0.1:80``, or ``[fd00::1]:80``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def read_ipvsadm(text: str, place: str) -> list[ServiceRecord]:
    """Read what ``ipvsadm -Sn`` prints.

    Parameters
    ----------
    text
        Lines that begin with ``-A`` and ``-a``; options that are not known are ignored.
    place
        What to call it in messages, such as its path.

    Returns
    -------
    list of ServiceRecord
        The virtual services, in order.

    Raises
    ------
    InputError
        If a line makes no sense, with its number.
    """
    found: dict[str, ServiceRecord] = {}
    for number, line in numbered_lines(text):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            _take(found, words)
        except RuleSyntaxError as error:
            raise InputError(f"{place}, line {number}: {error}") from None
    return list(found.values())


def virtual_services(records: Iterable[ServiceRecord]) -> dict[ServiceKey, VirtualService]:
    """The virtual services that a walk can use; those found by a mark are left out."""
    made = (record.virtual_service() for record in records)
    return {service.key: service for service in made if service is not None}


def install_ipvs(namespace: Namespace, records: Iterable[ServiceRecord]) -> Ipvs:
    """Give a namespace these virtual services, and IPVS if it has none."""
    services = virtual_services(records)
    if namespace.ipvs is None:
        return Ipvs(namespace, services.get, bucket_sizes(services))
    namespace.ipvs.replace_services(services.get, bucket_sizes(services))
    return namespace.ipvs


def bucket_sizes(keys: Iterable[ServiceKey]) -> dict[int, int]:
    """How many services are in each bucket of the service table."""
    found: dict[int, int] = {}
    for key in keys:
        found[key.bucket] = found.get(key.bucket, 0) + 1
    return found


def _take(found: dict[str, ServiceRecord], words: list[str]) -> None:
    """Apply one line."""
    options = _options(words[1:])
    if words[0] in _ADD_SERVICE:
        service = _service(options)
        if service.identity in found:
            raise RuleSyntaxError(f"the service {service.identity} is there already")
        found[service.identity] = service
    elif words[0] in _ADD_SERVER:
        identity = ServiceRecord(*_identity(options)).identity
        if identity not in found:
            raise RuleSyntaxError(f"there is no service {identity}: its -A has to come first")
        server = _server(options)
        servers = found[identity].servers
        if any((one.address, one.port) == (server.address, server.port) for one in servers):
            place = place_text(server.address, server.port)
            raise RuleSyntaxError(f"the service {identity} has the real server {place} already")
        servers.append(server)
    else:
        raise RuleSyntaxError(f"a line begins with -A or -a, not {words[0][:40]!r}")


def _options(words: list[str]) -> dict[str, str]:
    """Options and their values, by short names; a value is one word, and what follows it is ignored."""
    found: dict[str, str] = {}
    current = ""
    for word in words:
        if word.startswith("-") and len(word) > 1:
            current = _SHORT.get(word, word)
            found[current] = ""
        elif not current:
            raise RuleSyntaxError(f"{word[:40]!r} stands where an option should")
        elif not found[current]:
            found[current] = word
    return found


def _service(options: dict[str, str]) -> ServiceRecord:
    key, mark = _identity(options)
    timeout_s = None
    if "-p" in options:
        timeout_s = number_of(options["-p"], "-p") if options["-p"] else DEFAULT_TIMEOUT_S
    return ServiceRecord(key, mark, options.get("-s") or DEFAULT_SCHEDULER, options.get("-b", ""), timeout_s)


def _server(options: dict[str, str]) -> ServerRecord:
    address, port = _place(options.get("-r", ""), "-r")
    weight = _small(options["-w"], "-w") if "-w" in options else 1
    forwarding = next((_FORWARDING[option] for option in options if option in _FORWARDING), "gatewaying")
    return ServerRecord(address, port, weight, forwarding)


def _identity(options: dict[str, str]) -> tuple[ServiceKey | None, int]:
    """Which virtual service a line is about."""
    if "-f" in options:
        return None, number_of(options["-f"], "-f")
    for option, protocol in _PROTOCOLS.items():
        if option in options:
            address, port = _place(options[option], option)
            return ServiceKey(address, protocol, port), 0
    raise RuleSyntaxError("it names no service: -t, -u, --sctp-service or -f is needed")


def _place(text: str, option: str) -> tuple[str, int]:
    """``ADDRESS:PORT``; the port of a service may be left out."""
    matched = _PLACE.fullmatch(text)
    try:
        address = str(ipaddress.ip_address((matched["six"] or matched["four"]) if matched else ""))
    except ValueError:
        raise RuleSyntaxError(f"{option}: {text[:60]!r} is not ADDRESS:PORT in numbers (ipvsadm -Sn)") from None
    port = matched["port"] if matched else ""
    return address, _small(port, option) if port else 0


def _small(text: str, what: str) -> int:
    number = number_of(text, what)
    if number > _HIGHEST:
        raise RuleSyntaxError(f"{what}: {text} is more than {_HIGHEST}")
    return number
