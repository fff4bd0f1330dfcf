"""Requests by HTTP, laid out all at once, are what one makes who sends them one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubesim.cluster import ClusterSpec, PlannedPod, build_cluster
from kubesim.streams import Streams
from kubesim.workload import Messages, WorkloadContext, workload_class
from kubesim.workload._messages import INITIAL_RTO_NS, MINIMUM_RTO_NS
from kubesim.workload._traffic import draw_choices
from kubesim.workload.http import _Places, _rules
from tests.workload.test_http import SHOP, manifest

MORE = """
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: secure}
spec:
  tls: [{hosts: [secure.example.com]}]
  rules:
  - host: secure.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: home, port: {number: 80}}}}]}
  - host: open.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: home, port: {number: 80}}}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: weights}
spec:
  hostnames: [weights.example.com]
  rules:
  - backendRefs:
    - {name: home, port: 80, weight: 0}
    - {name: cart, port: 80, weight: 2}
    - {name: home, port: 80, weight: 3}
    - {name: cart, port: 80, weight: 4}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: plain}
spec:
  rules:
  - host: secure.example.com
    http: {paths: [{path: /plain, pathType: Prefix, backend: {service: {name: home, port: {number: 80}}}}]}
"""


class Naive:
    """Sends requests one after the other, and notes what is sent."""

    def __init__(self, traffic: Any, context: WorkloadContext) -> None:
        self.traffic = traffic
        self.rules = _rules(traffic, context.cluster)
        self.places = _Places(traffic, context, self.rules)
        self.steps: list[tuple[str, int, int, int, int, int, int]] = []
        self.flows: list[tuple[int, int]] = []
        self.first: list[int] = []
        self.last: list[int] = []
        slots = len(context.clients) * traffic.connections
        chosen = np.arange(slots * traffic.requests) % len(self.rules)
        if not isinstance(traffic.to, list):
            chosen = draw_choices(traffic.to, context, len(self.rules), len(chosen))
        luck = context.streams.generator("backend of each request").random((slots, traffic.requests))
        for slot in range(slots):
            self.kept: dict[object, tuple[int, int, int]] = {}
            self.before = -1
            for number in range(traffic.requests):
                rule = self.rules[chosen[slot * traffic.requests + number]]
                self.request(slot, rule, float(luck[slot, number]), is_first=number == 0)

    def send(self, name: str, flow: tuple[int, int, int], after: int, timeout_ns: int = -1, think_ns: int = 0) -> int:
        number, thread, server_thread = flow
        self.steps.append((name, number, thread, server_thread, after, think_ns, timeout_ns))
        return len(self.steps) - 1

    def connect(self, prefix: str, flow: tuple[int, int, int], after: int, *, has_tls: bool) -> int:
        after = self.send(f"{prefix}syn_ack", flow, self.send(f"{prefix}syn", flow, after))
        self.send(f"{prefix}ack", flow, after)
        if has_tls:
            after = self.send("server_hello", flow, self.send("client_hello", flow, after, INITIAL_RTO_NS))
            self.send("client_finished", flow, after)
        return after

    def close(self, prefix: str, flow: tuple[int, int, int], after: int) -> None:
        for name in ("fin", "fin_ack", "last_ack"):
            after = self.send(prefix + name, flow, after)

    def request(self, slot: int, rule: Any, luck: float, *, is_first: bool) -> None:
        traffic, places, begin, after = self.traffic, self.places, len(self.steps), self.before
        has_tls, is_direct = places.has_tls(rule), traffic.via == "direct"
        weights = np.cumsum([one.weight for one in rule.backends])
        backend = places.backend(slot, rule, int(np.searchsorted(weights / weights[-1], luck, side="right")))
        called = backend if is_direct else places.controller(slot, is_tls=has_tls)
        worker = slot if is_direct else slot // len(places.replicas) % traffic.workers
        key, timeout_ns = (called, rule.host, has_tls), MINIMUM_RTO_NS
        is_new = key not in self.kept
        if is_new:
            self.flows.append((slot % places.requesters, called))
            self.kept[key], timeout_ns = (len(self.flows) - 1, slot, worker), INITIAL_RTO_NS
            after = self.connect("", self.kept[key], after, has_tls=has_tls)
        after = self.send("request", self.kept[key], after, timeout_ns)
        if not is_direct:
            after = self.pass_on(slot, worker, backend, after, has_tls=has_tls)
        self.before = self.send("reply", self.kept[key], after)
        think_ns = 0 if is_first else round(traffic.think_us * 1000)
        self.steps[begin] = (*self.steps[begin][:5], think_ns, timeout_ns)
        self.first.append(begin)
        self.last.append(self.before)
        if not traffic.keep_alive:
            self.close("", self.kept.pop(key), self.before)

    def pass_on(self, slot: int, worker: int, backend: int, after: int, *, has_tls: bool) -> int:
        key, timeout_ns = ("upstream", backend, has_tls), -1
        if key not in self.kept:
            replica = self.places.replicas[slot % len(self.places.replicas)]
            self.flows.append((replica, backend))
            self.kept[key], timeout_ns = (len(self.flows) - 1, worker, slot), INITIAL_RTO_NS
            after = self.connect("upstream_", self.kept[key], after, has_tls=False)
        after = self.send("upstream_request", self.kept[key], after, timeout_ns)
        after = self.send("upstream_reply", self.kept[key], after)
        rank = slot // len(self.places.replicas) // self.traffic.workers
        if rank >= self.traffic.upstream_connections:
            self.close("upstream_", self.kept.pop(key), after)
        return after


def sent(made: Messages) -> list[tuple[str, int, int, int, int, int, int]]:
    """Messages as the naive way notes them."""
    assert made.server_thread is not None
    script = made.script
    numbers = (made.flow, made.thread, made.server_thread, script.after, script.think_ns, script.timeout_ns)
    names = [made.kinds[kind].name for kind in script.kind]
    return list(zip(names, *(column.tolist() for column in numbers), strict=True))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    clients=st.integers(1, 3),
    traffic=st.fixed_dictionaries(
        {
            "to": st.sampled_from(
                [
                    ["shop"],
                    ["secure"],
                    ["weights", "plain", "secure"],
                    ["secure", "plain"],
                    ["shop", "weights"],
                    ["weights"],
                    {"choice": "zipf"},
                    {"choice": "last"},
                ]
            ),
            "requests": st.integers(1, 9),
            "connections": st.integers(1, 4),
            "via": st.sampled_from(["ingress", "direct"]),
            "keep_alive": st.booleans(),
            "tls": st.sampled_from([None, True, False]),
            "think_us": st.sampled_from([0, 2.5]),
            "controllers": st.integers(1, 2),
            "workers": st.integers(1, 3),
            "upstream": st.sampled_from(["endpoints", "cluster-ip"]),
            "upstream_connections": st.sampled_from([0, 1, 320]),
        }
    ),
)
def test_all_at_once_is_one_after_the_other(tmp_path: Path, clients: int, traffic: dict[str, Any]) -> None:
    model: Any = workload_class("http")
    plugin = model.model_validate({"workload": "http", **traffic})
    planned = [PlannedPod("default", f"client-{n + 1}", "client", node="node-1") for n in range(clients)]
    cluster = build_cluster(ClusterSpec(manifests=[manifest(tmp_path, SHOP + MORE)]), planned, made=plugin.objects())
    pods = tuple(pod for pod in cluster.pods if pod.owner == "client")
    context = WorkloadContext(cluster, pods, Streams(1), 1398)
    made, naive = plugin.messages(context), Naive(plugin, context)
    assert sent(made) == naive.steps
    assert list(zip(made.flows.client.tolist(), made.flows.service.tolist(), strict=True)) == naive.flows
    assert list(made.services) == naive.places.destinations
    assert (made.first.tolist(), made.last.tolist()) == (naive.first, naive.last)
    if not plugin.keep_alive and (plugin.via == "direct" or plugin.upstream_connections == 0):
        most = len(made.first) * plugin._most_messages(clients * plugin.connections)
        assert len(made) <= most, "what a limit is compared with"
        assert plugin.tls is None or len(made) == most
