"""Requests through an ingress controller: two connections each, a pool behind, and the same requests without it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubesim.cluster import ClusterSpec, PlannedPod, build_cluster
from kubesim.errors import InputError
from kubesim.scenario import Scenario, run
from kubesim.streams import Streams
from kubesim.workload import Messages, Through, WorkloadContext, workload_class
from tests.scenarios import PROXIES

SHOP = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: home, port: {name: web}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary}
spec:
  hostnames: [canary.example.com]
  rules: [{backendRefs: [{name: home, port: 80, weight: 3}, {name: cart, port: 80, weight: 1}]}]
---
{apiVersion: v1, kind: Service, metadata: {name: cart}, spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: home}, spec: {selector: {app: home}, ports: [{name: web, port: 80, targetPort: 8080}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: cart-0, labels: {app: cart}}, spec: {nodeName: node-2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: home-0, labels: {app: home}}, spec: {nodeName: node-2}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}}
"""

OWN_CONTROLLER = """
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{name: web, port: 8000}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: front-0, labels: {app: front}}, spec: {nodeName: node-1, hostNetwork: true}}
"""


def manifest(tmp_path: Path, text: str = SHOP) -> Path:
    """A file with it."""
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    return file


def messages(tmp_path: Path, text: str = SHOP, clients: int = 1, **changes: Any) -> Messages:
    """The messages of a small workload."""
    model: Any = workload_class("http")
    traffic = model.model_validate({"workload": "http", "requests": 3, "to": "shop", **changes})
    planned = [PlannedPod("default", f"client-{n + 1}", "client", node="node-1") for n in range(clients)]
    spec = ClusterSpec(manifests=[manifest(tmp_path, text)])
    cluster = build_cluster(spec, planned, made=traffic.objects())
    pods = tuple(pod for pod in cluster.pods if pod.owner == "client")
    found: Messages = traffic.messages(WorkloadContext(cluster, pods, Streams(1), 1398))
    return found


def names(made: Messages, first: int = 0, last: int | None = None) -> list[str]:
    """What is sent, in order."""
    return [made.kinds[kind].name for kind in made.script.kind[first:last]]


def called(made: Messages) -> dict[str, Through]:
    """The Services that are called, and how."""
    return {one.service.name: one.through for one in made.services}


def test_a_request_goes_over_two_connections_that_are_kept(tmp_path: Path) -> None:
    made = messages(tmp_path, to="shop.example.com/cart/items")
    upstream = ["upstream_request", "upstream_reply"]
    assert names(made) == [
        *["syn", "syn_ack", "ack", "request"],
        *["upstream_syn", "upstream_syn_ack", "upstream_ack", *upstream, "reply"],
        *["request", *upstream, "reply", "request", *upstream, "reply"],
    ]
    assert called(made) == {"ingress-controller": Through.CLUSTER_IP, "cart": Through.ENDPOINTS}
    assert [made.clients[client].owner for client in made.flows.client] == ["client", "ingress-controller-0"]
    after = dict(enumerate(made.script.after.tolist()))
    assert after[4] == 3, "the controller calls when it has the request"
    assert (after[7], after[9], after[10]) == (5, 8, 9)
    assert made.first.tolist() == [0, 10, 14]
    assert made.last.tolist() == [9, 13, 17]


def test_straight_to_the_service(tmp_path: Path) -> None:
    made = messages(tmp_path, via="direct", to="shop.example.com/cart")
    assert names(made) == ["syn", "syn_ack", "ack", *(["request", "reply"] * 3)]
    assert called(made) == {"cart": Through.CLUSTER_IP}
    assert not made.serving_clients
    assert all(not kind.work for kind in made.kinds), "no proxy, no TLS"


def test_both_ways_ask_for_the_same(tmp_path: Path) -> None:
    ways = [messages(tmp_path, via=via, requests=40, to=["canary", "shop"]) for via in ("ingress", "direct")]
    asked = []
    for made in ways:
        kind = [one.name for one in made.kinds].index(
            "request" if "upstream_request" not in names(made) else "upstream_request"
        )
        flows = made.flow[made.script.kind == kind]
        asked.append([made.services[service][0].name for service in made.flows.service[flows]])
    assert asked[0] == asked[1]


def test_connections_that_are_not_kept(tmp_path: Path) -> None:
    made = messages(tmp_path, keep_alive=False, upstream_connections=0, requests=2)
    upstream = ["syn", "syn_ack", "ack", "request", "reply", "fin", "fin_ack", "last_ack"]
    one = ["syn", "syn_ack", "ack", "request", *(f"upstream_{kind}" for kind in upstream), "reply"]
    assert names(made) == [*one, "fin", "fin_ack", "last_ack"] * 2
    assert made.script.after[made.first[1]] == made.last[0], "the next request does not wait for the close"
    assert len(made.flows) == 4


@pytest.mark.parametrize(("kept", "opened"), [(0, 12), (1, 2 + 6), (2, 4)])
def test_each_worker_keeps_so_many_connections(kept: int, opened: int, tmp_path: Path) -> None:
    """Two workers with two clients' connections each, three requests over each of these."""
    made = messages(tmp_path, connections=4, workers=2, upstream_connections=kept, to="shop.example.com/cart")
    assert names(made).count("upstream_syn") == opened


def test_workers_share_the_clients_connections(tmp_path: Path) -> None:
    made = messages(tmp_path, connections=8, workers=3, controllers=2)
    assert made.server_thread is not None
    kinds = np.array(names(made))
    requests, upstream = kinds == "request", kinds == "upstream_request"
    slots = made.thread[requests]
    assert made.server_thread[requests].tolist() == [slot // 2 % 3 for slot in slots]
    assert made.thread[upstream].tolist() == made.server_thread[requests].tolist(), "the same worker calls"
    callers = made.flows.client[made.flow[upstream]]
    assert sorted(made.serving_clients) == [1, 2]
    assert callers.tolist() == [1 + slot % 2 for slot in slots]


def test_tls_takes_a_round_trip_more_and_work_on_both_sides(tmp_path: Path) -> None:
    made = messages(tmp_path, tls=True, requests=1)
    assert names(made)[:7] == ["syn", "syn_ack", "ack", "client_hello", "server_hello", "client_finished", "request"]
    assert [one.port.port for one in made.services if one.service.name == "ingress-controller"] == [443]
    work = {kind.name: [one.operation for one in kind.work] for kind in made.kinds if kind.work}
    assert work == {
        "server_hello": ["tls_server_handshake"],
        "client_finished": ["tls_client_handshake"],
        "request": ["tls_record"],
        "upstream_request": ["tls_record", "http_proxy_request"],
        "reply": ["http_proxy_reply", "tls_record"],
    }


def test_tls_is_as_the_ingress_says_unless_it_is_given(tmp_path: Path) -> None:
    text = SHOP.replace("  rules:\n  - host: shop", "  tls: [{hosts: [shop.example.com]}]\n  rules:\n  - host: shop")
    assert "server_hello" in names(messages(tmp_path, text))
    assert "server_hello" not in names(messages(tmp_path, text, tls=False))
    assert "server_hello" not in names(messages(tmp_path))


def test_weights_are_shares_of_requests(tmp_path: Path) -> None:
    made = messages(tmp_path, to="canary", requests=4000)
    kinds = np.array(names(made))
    flows = made.flow[kinds == "upstream_request"]
    counts = Counter(made.services[service][0].name for service in made.flows.service[flows])
    assert counts["home"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert counts["home"] + counts["cart"] == 4000


def test_a_named_controller_on_the_host_network_is_called_at_its_node(tmp_path: Path) -> None:
    made = messages(tmp_path, SHOP + OWN_CONTROLLER, controller="front:8000", to="shop", upstream="cluster-ip")
    assert called(made) == {"front": Through.ENDPOINTS, "cart": Through.CLUSTER_IP, "home": Through.CLUSTER_IP}
    assert [made.clients[client].name for client in sorted(made.serving_clients)] == ["front-0"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "shp"}, "traffic.to: there is no Ingress or HTTPRoute 'shp': did you mean 'shop'"),
        ({"to": "shop.org/cart"}, "no Ingress or HTTPRoute has a rule for shop.org/cart: the controller would answer"),
        ({"controller": "frnt"}, "there is no Service 'frnt'"),
        ({"controller": "front:81"}, "Service default/front has no port 81: it has 8000/tcp"),
        ({"controller": "front"}, "Service default/front has no port http: it has 8000/tcp"),
        ({"controller": "idle:80"}, "Service default/idle has no ready pods behind it"),
        ({"to": "nowhere"}, "the rule for nowhere.example.com/: there is no Service 'default/nowhere'"),
        ({"to": "empty"}, "nobody answers requests for empty.org/: the rule has no backends"),
        (
            {"network": "host", "controllers": 2, "controllers_on": ["node-1"]},
            "traffic.controllers: 2 pods would listen",
        ),
        ({"requests": 10_000_000}, "messages are too many to be held in memory"),
    ],
)
def test_what_makes_no_sense(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    more = """
---
{apiVersion: v1, kind: Service, metadata: {name: idle}, spec: {ports: [{port: 80}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: nowhere}
spec: {rules: [{host: nowhere.example.com, http: {paths: [{path: /, backend: {service: {name: nowhere}}}]}}]}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: empty}, spec: {hostnames: [empty.org], rules: [{}]}}
"""
    with pytest.raises(InputError) as caught:
        messages(tmp_path, SHOP + OWN_CONTROLLER + more, **changes)
    assert message in str(caught.value)


def test_without_rules_there_is_no_traffic(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Ingress or HTTPRoute with a rule: this scenario has no traffic"):
        messages(tmp_path, SHOP[SHOP.index("{apiVersion: v1, kind: Service") :], to={"choice": "uniform"})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    connections=st.integers(1, 5),
    workers=st.integers(1, 3),
    kept=st.integers(0, 2),
    keep_alive=st.booleans(),
    tls=st.booleans(),
    via=st.sampled_from(["ingress", "direct"]),
)
def test_columns_fit_together(tmp_path: Path, connections: int, via: str, *, kept: int, **changes: Any) -> None:
    made = messages(tmp_path, connections=connections, via=via, upstream_connections=kept, clients=2, **changes)
    count, script = len(made), made.script
    assert (script.after < np.arange(count)).all()
    assert (script.after == -1).sum() == 2 * connections, "one chain for each slot"
    assert set(np.unique(script.kind)) == set(range(len(made.kinds)))
    first_of_flow = np.unique(made.flow, return_index=True)[1]
    assert all(made.kinds[kind].is_opening for kind in script.kind[first_of_flow])
    assert sum(made.kinds[kind].is_opening for kind in script.kind) == len(made.flows)
    pairs = set(zip(made.flows.client.tolist(), made.flows.source_port.tolist(), strict=True))
    assert len(pairs) == len(made.flows), "no two connections of a client share a port"
    assert len(made.first) == len(made.last) == 2 * connections * 3
    kinds = np.array([kind.name for kind in made.kinds])[script.kind]
    assert (kinds[made.last] == "reply").all()


def scenario(tmp_path: Path, proxy: str = "iptables", **changes: Any) -> Scenario:
    """A client on one node, a controller on the same, pods on the other."""
    traffic = {"workload": "http", "to": "shop", "clients_on": ["node-1"], "controllers_on": ["node-1"], "requests": 20}
    data = {"cluster": {"manifests": [manifest(tmp_path)]}, "cni": "flannel-vxlan", "proxy": proxy}
    return Scenario.model_validate({**data, "traffic": {**traffic, **changes}})


def test_a_controller_costs_two_more_wakeups_and_its_own_work(tmp_path: Path) -> None:
    through, direct = (run(scenario(tmp_path, via=via)) for via in ("ingress", "direct"))
    for result in (through, direct):
        assert result.summary["lost_transactions"] == 0
    assert through.summary["latency_p50_ns"] > direct.summary["latency_p50_ns"] + 13_000
    operations = dict(zip(through.breakdown["operation"], through.breakdown["calls"], strict=True))
    assert operations["http_proxy_request"] == operations["http_proxy_reply"] == 20
    assert "http_proxy_request" not in set(direct.breakdown["operation"])


def test_the_controller_bypasses_the_service_proxy(tmp_path: Path) -> None:
    """Its own connections see no nat rules of the Service, unless it is told to use the virtual address."""
    rewritten = {}
    for upstream in ("endpoints", "cluster-ip"):
        hops = run(scenario(tmp_path, upstream=upstream)).hops()
        rewritten[upstream] = set(hops.loc[hops["operation"] == "nat_rewrite", "kind"])
    assert not {kind for kind in rewritten["endpoints"] if kind.startswith("upstream")}
    assert {"upstream_syn", "upstream_request"} <= rewritten["cluster-ip"]
    assert "request" in rewritten["endpoints"], "clients do go through the controller's Service"


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("via", ["ingress", "direct"])
def test_every_proxy_carries_it(via: str, proxy: str, tmp_path: Path) -> None:
    traffic = {"via": via, "requests": 5, "tls": True, "keep_alive": False, "dns": {"server": "node-local"}}
    result = run(scenario(tmp_path, proxy, **traffic))
    assert result.summary["lost_transactions"] == 0
    assert result.summary["transactions"] > 0


@pytest.mark.parametrize("way", ["load-balancer", "node-port", "host"])
def test_clients_come_from_outside(way: str, tmp_path: Path) -> None:
    by_host = {"network": "host"} if way == "host" else {"through": way}
    result = run(scenario(tmp_path, clients_on=["outside"], controllers_on=["node-2"], requests=5, **by_host))
    assert result.summary["lost_transactions"] == 0
    hops = result.hops()
    assert {"outside-1", "node-2"} <= set(hops.loc[hops["kind"] == "request", "node"])
    crossed = "node-1" in set(hops.loc[hops["kind"] == "request", "node"])
    assert crossed is (way == "node-port"), "the first node's port is called, and the controller is on the second"
    assert ("load-balancer" in set(hops["node"])) is (way == "load-balancer")


def test_one_worker_is_one_core(tmp_path: Path) -> None:
    rates = {}
    for workers in (1, 2):
        result = run(scenario(tmp_path, workers=workers, connections=16, upstream_connections=16))
        rates[workers] = result.summary["throughput_per_s"]
    assert rates[2] == pytest.approx(2 * rates[1], rel=0.15)


def test_a_worker_has_both_its_connections_on_its_core(tmp_path: Path) -> None:
    """Clients are outside and pods on the other node, so that nobody else runs on the controller's cores."""
    ends: dict[str, Any] = {"clients_on": ["outside"], "through": "node-port", "node_ports_of": ["node-1"]}
    result = run(scenario(tmp_path, workers=3, connections=6, **ends))
    cores = result.utilisation[
        (result.utilisation["host"] == "node-1") & (result.utilisation["kind"] == "application core")
    ]
    assert sorted(cores["busy_ns"] > 0) == [False, True, True, True]


def test_a_lost_opening_is_tried_again_as_other_workloads_do(tmp_path: Path) -> None:
    made = messages(tmp_path, requests=2, to="shop.example.com/cart")
    waits = dict(zip(range(len(made)), made.script.timeout_ns.tolist(), strict=True))
    second_request = int(made.first[1])
    assert (waits[0], waits[3], waits[7]) == (10**9, 10**9, 10**9), "SYN, and what follows each handshake"
    assert waits[second_request] == 2 * 10**8
    assert waits[second_request + 1] == -1, "a request that is lost on the way to the controller goes no further"
