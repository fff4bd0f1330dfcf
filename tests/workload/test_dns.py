"""Names that are looked up first: how often, by whom, and what waits for the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.cluster import ClusterSpec, PlannedPod, Service, build_cluster
from kubesim.errors import InputError
from kubesim.streams import Streams
from kubesim.workload import Messages, Through, WorkloadContext, with_lookups, workload_class
from kubesim.workload._dns import DnsSpec, lookups, names_asked

SHORT = "cart.web.svc.cluster.local", "cart.svc.cluster.local", "cart.cluster.local", "cart"


@pytest.mark.parametrize(
    ("name", "ndots", "asked"),
    [
        ("cart", 5, SHORT),
        ("cart.web.svc.cluster.local.", 5, ("cart.web.svc.cluster.local",)),
        ("www.example.com", 2, ("www.example.com", *(f"www.example.com.{end}" for end in (
            "web.svc.cluster.local", "svc.cluster.local", "cluster.local")))),
        ("www.example.com", 5, (*(f"www.example.com.{end}" for end in (
            "web.svc.cluster.local", "svc.cluster.local", "cluster.local")), "www.example.com")),
    ],
)  # fmt: skip
def test_the_search_path_comes_first_for_names_with_few_dots(name: str, ndots: int, asked: tuple[str, ...]) -> None:
    assert names_asked(name, "web", ndots) == list(asked)


@pytest.mark.parametrize(
    ("spec", "namespace", "count"),
    [
        ({}, "web", 1),
        ({}, "default", 2),
        ({"name": "full"}, "web", 4),
        ({"name": "full", "ndots": 4}, "web", 1),
        ({"name": "absolute"}, "default", 1),
    ],
)
def test_how_many_names_are_asked_for(spec: dict[str, Any], namespace: str, count: int) -> None:
    assert lookups(DnsSpec(**spec), Service("web", "cart", "10.96.0.7", ()), namespace) == count


def made(workload: str = "tcp_crr", spec: DnsSpec | None = None, **changes: Any) -> tuple[Messages, Messages]:
    """The messages of a small workload without queries and with them."""
    model: Any = workload_class(workload)
    traffic = model.model_validate({"workload": workload, "dns": {}, **changes})
    clients = [PlannedPod("default", f"client-{n + 1}", "client", node=f"node-{n + 1}") for n in range(2)]
    cluster = build_cluster(ClusterSpec(nodes=2, services=4, endpoints=2), clients, made=traffic.objects())
    pods = tuple(pod for pod in cluster.pods if pod.owner == "client")
    before = traffic.messages(WorkloadContext(cluster, pods, Streams(1), 1398)).whole()
    return before, with_lookups(before, spec or DnsSpec(), cluster)


def names(messages: Messages) -> list[str]:
    """What is sent, in order."""
    return [messages.kinds[kind].name for kind in messages.script.kind]


def test_a_connection_waits_for_both_answers() -> None:
    before, after = made(transactions=2)
    lookup = ["dns_query", "dns_query_aaaa", "dns_answer", "dns_nothing"]
    assert names(after)[:12] == [*lookup, *names(before)[:8]]
    assert after.script.after[:6].tolist() == [-1, -1, 0, 1, 3, 4]
    assert after.first[:2].tolist() == [0, 12]
    assert (after.last[:2] - before.last[:2]).tolist() == [4, 8]
    second = after.first[1]
    assert after.script.after[second] == after.script.after[second + 1] == after.last[0]
    assert after.script.timeout_ns[second] == before.script.timeout_ns[before.first[1]]
    assert after.script.timeout_ns[4] == 5_000_000_000, "the SYN, when an answer is lost"


def test_each_name_has_a_socket_of_its_own_to_kube_dns() -> None:
    before, after = made(spec=DnsSpec(name="full", aaaa=False), transactions=1)
    assert names(after)[:9] == ["dns_query", "dns_nothing"] * 3 + ["dns_query", "dns_answer", "syn"]
    assert len(after.flows) == len(before.flows) * 5
    dns = after.services[-1]
    assert (dns.service.full_name, dns.port.port, dns.through) == ("kube-system/kube-dns", 53, Through.CLUSTER_IP)
    assert after.flow[:9].tolist() == [2, 2, 3, 3, 4, 4, 5, 5, 0]


def test_a_cache_on_the_node_is_asked_instead() -> None:
    _, after = made(spec=DnsSpec(server="node-local"), transactions=1)
    assert after.services[-1].through is Through.NODE_LOCAL_DNS
    work = {one.operation for kind in after.kinds for one in kind.work}
    assert work == {"dns_cached_answer"}


def test_connections_that_arrive_by_themselves_ask_when_they_arrive() -> None:
    before, after = made("poisson_connections", connections=20, requests=3, rate_per_s=1000)
    opens = before.first.reshape(20, 3)[:, 0]
    assert after.release_ns[after.first.reshape(20, 3)[:, 0]].tolist() == before.release_ns[opens].tolist()
    others = after.first.reshape(20, 3)[:, 1:].ravel()
    assert {names(after)[row] for row in others} == {"request"}, "only what opens a connection looks names up"


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["short", "full", "absolute"]),
    aaaa=st.booleans(),
    workload=st.sampled_from(["tcp_crr", "tcp_rr", "tcp_stream", "poisson_connections"]),
)
def test_nothing_else_changes(name: Any, workload: str, *, aaaa: bool) -> None:
    size = {"tcp_stream": {"buffers": 3}, "poisson_connections": {"connections": 4}}.get(workload, {"transactions": 3})
    before, after = made(workload, DnsSpec(name=name, aaaa=aaaa), **size)
    is_dns = np.array([kind.startswith("dns") for kind in names(after)])
    kept = np.flatnonzero(~is_dns)
    assert [names(after)[row] for row in kept] == names(before)
    assert (after.flow[kept] == before.flow).all()
    assert (after.thread[kept] == before.thread).all()
    assert (after.script.after < np.arange(len(after))).all()
    assert (kept[before.last] == after.last).all()
    waits = after.script.after[kept]
    asked = np.isin(waits, np.flatnonzero(is_dns))
    opens = np.array([before.kinds[kind].is_opening for kind in before.script.kind])
    assert (asked == opens).all(), "only connections wait for answers"
    assert (np.where(waits[~opens] == -1, -1, waits[~opens]) == np.where(
        before.script.after[~opens] == -1, -1, kept[before.script.after[~opens]])).all()  # fmt: skip


def test_kube_dns_is_as_the_manifests_have_it(tmp_path: Any) -> None:
    file = tmp_path / "dns.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system},"
        " spec: {clusterIP: 10.96.0.10, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP}]}}"
    )
    model: Any = workload_class("tcp_crr")
    traffic = model.model_validate({"workload": "tcp_crr", "dns": {"replicas": 3}})
    cluster = build_cluster(ClusterSpec(manifests=[file]), made=traffic.objects())
    service = cluster.service("kube-dns")
    assert service.cluster_ip == "10.96.0.10"
    assert [pod.owner for pod in cluster.behind(service, service.ports[0])] == ["coredns"] * 3
    file.write_text(file.read_text().replace("protocol: UDP", "protocol: TCP"))
    cluster = build_cluster(ClusterSpec(manifests=[file], services=1), made=traffic.objects())
    before = traffic.messages(WorkloadContext(cluster, cluster.pods[:1], Streams(1), 1398)).whole()
    with pytest.raises(InputError, match=r"traffic\.dns: Service kube-system/kube-dns has no UDP port"):
        with_lookups(before, DnsSpec(), cluster)


def test_datagrams_look_nothing_up() -> None:
    model: Any = workload_class("udp_rr")
    with pytest.raises(ValueError, match="udp_rr opens no connections before which names could be looked up"):
        model.model_validate({"workload": "udp_rr", "dns": {}})
