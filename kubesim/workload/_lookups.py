"""Looking up names: what clients ask DNS before they open a connection, put in front of any workload's messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kubesim.errors import InputError
from kubesim.workload import _dns
from kubesim.workload._messages import NONE, Destination, Flows, MessageKind, Messages, Script, Through, Work
from kubesim.workload._traffic import source_ports

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.cluster import Cluster
    from kubesim.workload._dns import DnsSpec

TIMEOUT_NS = 5_000_000_000
"""How long a resolver waits for an answer (``RES_TIMEOUT`` of glibc)."""

_QUERY_BYTES, _ANSWER_BYTES, _NOTHING_BYTES = 60, 110, 155
"""A question of some 35 letters (RFC 1035, 4.1); with one address, its name written out again as CoreDNS does; and with
the SOA record that says for how long there is nothing."""

_QUERY, _ANSWER, _QUERY_AAAA, _NOTHING = range(4)


def with_lookups(messages: Messages, spec: DnsSpec, cluster: Cluster) -> Messages:
    """The same messages, with queries in front of each connection; transactions that open one begin with the first.

    Each name is asked for from a socket of its own, for both families at once, as glibc does. Servers that call others
    do not ask: Kubernetes tells ingress controllers addresses.

    Parameters
    ----------
    messages
        Connections by TCP.
    spec
        How clients ask.
    cluster
        Where kube-dns is.

    Raises
    ------
    InputError
        If kube-dns has no port for queries.
    """
    openings = _openings(messages)
    counts = _counts(messages, openings, spec)
    queries = _queries(messages, openings, counts, steps=4 if spec.aaaa else 2)
    return _merged(messages, queries, _kinds(spec), _destination(spec, cluster))


def _openings(messages: Messages) -> npt.NDArray[np.int64]:
    """The messages in front of which somebody asks."""
    opens = np.array([kind.is_opening for kind in messages.kinds])[messages.script.kind]
    is_server = np.isin(messages.flows.client, sorted(messages.serving_clients))
    return np.flatnonzero(opens & ~is_server[messages.flow])


def _counts(messages: Messages, openings: npt.NDArray[np.int64], spec: DnsSpec) -> npt.NDArray[np.int64]:
    """How many names are asked for before each opening, shape (o,)."""
    namespaces = [pod.namespace for pod in messages.clients]
    counts = {
        (client, service): _dns.lookups(spec, messages.services[service].service, namespaces[client])
        for client, service in set(zip(messages.flows.client.tolist(), messages.flows.service.tolist(), strict=True))
        if client not in messages.serving_clients
    }
    flow = messages.flow[openings]
    pairs = zip(messages.flows.client[flow].tolist(), messages.flows.service[flow].tolist(), strict=True)
    return np.array([counts[pair] for pair in pairs], np.int64)


@dataclass(frozen=True, eq=False)
class _Queries:
    """Queries and answers, ``q`` of them in ``u`` lookups, and where all messages are when they have been put in.

    Parameters
    ----------
    moved : array of int64, shape (n,)
        New number of each message that was there before.
    openings : array of int64, shape (o,)
        Old numbers of those in front of which they are.
    first : array of int64, shape (o,)
        New number of the first query before each of these.
    row, opening, kind, after, lookup : array of int64, shape (q,)
        New number, old number of the opening, kind, what it follows, and which lookup it is of.
    is_first : array of bool, shape (q,)
        Whether it begins where the opening would have begun.
    flow : array of int64, shape (u,)
        The connection for which each lookup is made.
    """

    moved: npt.NDArray[np.int64]
    openings: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    opening: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    lookup: npt.NDArray[np.int64]
    is_first: npt.NDArray[np.bool_]
    flow: npt.NDArray[np.int64]


def _queries(
    messages: Messages, openings: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], steps: int
) -> _Queries:
    """Lay them out: of each name the queries, and then the answers; the next name follows the last answer."""
    added = np.zeros(len(messages), np.int64)
    added[openings] = steps * counts
    moved = np.arange(len(messages)) + np.cumsum(added)
    place = np.arange(added.sum()) - np.repeat(np.cumsum(added[openings]) - added[openings], added[openings])
    name, step = place // steps, place % steps
    opening = np.repeat(openings, added[openings])
    row = moved[opening] - added[opening] + place
    is_found = name == np.repeat(counts, added[openings]) - 1
    is_query, is_aaaa = step < steps // 2, step % 2 == (1 if steps == 4 else 2)
    answers = np.where(is_found & ~is_aaaa, _ANSWER, _NOTHING)
    before = messages.script.after[opening]
    released_by = np.where(before == NONE, NONE, moved[before])
    is_first = is_query & (name == 0)
    return _Queries(
        moved=moved,
        openings=openings,
        first=moved[openings] - added[openings],
        row=row,
        opening=opening,
        kind=np.where(is_query, np.where(is_aaaa, _QUERY_AAAA, _QUERY), answers),
        after=np.where(is_first, released_by, np.where(is_query, row - step - 1, row - steps // 2)),
        lookup=np.repeat(np.cumsum(counts) - counts, added[openings]) + name,
        is_first=is_first,
        flow=np.repeat(messages.flow[openings], counts),
    )


def _merged(before: Messages, queries: _Queries, kinds: tuple[MessageKind, ...], destination: Destination) -> Messages:
    """Put queries and messages together."""
    script, moved, opening = before.script, queries.moved, queries.opening

    def column(old: npt.NDArray[np.int64], new: npt.NDArray[np.int64] | int) -> npt.NDArray[np.int64]:
        merged = np.empty(len(moved) + len(queries.row), np.int64)
        merged[moved], merged[queries.row] = old, new
        return merged

    after = np.where(script.after == NONE, NONE, moved[script.after])
    think_ns, timeout_ns = script.think_ns.copy(), script.timeout_ns.copy()
    after[queries.openings] = moved[queries.openings] - 1
    think_ns[queries.openings], timeout_ns[queries.openings] = 0, TIMEOUT_NS
    is_query = np.isin(queries.kind, (_QUERY, _QUERY_AAAA))
    waits = np.where(queries.is_first, script.timeout_ns[opening], np.where(is_query, TIMEOUT_NS, NONE))
    first = moved[before.first]
    begins = np.searchsorted(queries.openings, before.first).clip(max=max(0, len(queries.openings) - 1))
    if len(queries.openings):
        first = np.where(queries.openings[begins] == before.first, queries.first[begins], first)
    client = before.flows.client[queries.flow]
    server_thread = before.thread if before.server_thread is None else before.server_thread
    return replace(
        before,
        kinds=(*before.kinds, *kinds),
        services=(*before.services, destination),
        flows=Flows(
            np.concatenate([before.flows.client, client]),
            np.concatenate([before.flows.service, np.full(len(client), len(before.services))]),
            np.concatenate([before.flows.source_port, source_ports(client)]),
        ),
        flow=column(before.flow, len(before.flows) + queries.lookup),
        thread=column(before.thread, before.thread[opening]),
        server_thread=column(server_thread, queries.lookup),
        script=Script(
            kind=column(script.kind, len(before.kinds) + queries.kind),
            after=column(after, queries.after),
            think_ns=column(think_ns, np.where(queries.is_first, script.think_ns[opening], 0)),
            timeout_ns=column(timeout_ns, waits),
        ),
        release_ns=column(before.release_ns, np.where(queries.is_first, before.release_ns[opening], 0)),
        first=first,
        last=moved[before.last],
    )


def _kinds(spec: DnsSpec) -> tuple[MessageKind, ...]:
    """Query, answer, query for an address of IPv6, and the answer that there is nothing."""
    work = (Work("dns_cached_answer" if spec.is_node_local else "dns_answer"),)
    return (
        MessageKind("dns_query", is_request=True, payload_bytes=_QUERY_BYTES, is_opening=True),
        MessageKind("dns_answer", is_request=False, payload_bytes=_ANSWER_BYTES, work=work),
        MessageKind("dns_query_aaaa", is_request=True, payload_bytes=_QUERY_BYTES),
        MessageKind("dns_nothing", is_request=False, payload_bytes=_NOTHING_BYTES, work=work),
    )


def _destination(spec: DnsSpec, cluster: Cluster) -> Destination:
    """Whom clients ask."""
    service = cluster.service(f"{_dns.NAMESPACE}/{_dns.SERVICE}")
    ports = [port for port in service.ports if port.protocol == "udp"]
    if not ports:
        raise InputError(f"traffic.dns: Service {service.full_name} has no UDP port")
    return Destination(service, ports[0], Through.NODE_LOCAL_DNS if spec.is_node_local else Through.CLUSTER_IP)
