"""Workloads: what is sent, in which order, and who waits for whom."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kubesim.cluster import ClusterSpec, build_cluster
from kubesim.errors import InputError
from kubesim.streams import Streams
from kubesim.workload import Messages, Part, Sequences, WorkloadContext, workload_class, workload_names
from kubesim.workload.call_graph import _read_graph, _Scripts
from tests.clusters import cluster_of, sized_cluster

SMALL: dict[str, dict[str, Any]] = {
    "tcp_rr": {"transactions": 5, "connections": 2},
    "udp_rr": {"transactions": 5, "connections": 2},
    "tcp_crr": {"transactions": 4, "connections": 2},
    "tcp_stream": {"buffers": 6, "window": 2},
    "udp_stream": {"datagrams": 7},
    "poisson_connections": {"connections": 9, "requests": 3, "rate_per_s": 1000},
}


def sequences(workload: str, services: int = 4, seed: int = 1, **settings: Any) -> Sequences:
    """A small workload from two clients."""
    model: Any = workload_class(workload)
    traffic = model.model_validate({"workload": workload, **SMALL.get(workload, {}), **settings})
    cluster = build_cluster(ClusterSpec(nodes=2, services=services, endpoints=2), fleet_protocol=model.protocol)
    clients = sized_cluster(services, 2, clients=("node-1", "node-2")).pods
    made: Sequences = traffic.messages(WorkloadContext(cluster, clients, Streams(seed), 1398))
    return made


def messages(workload: str, services: int = 4, seed: int = 1, **settings: Any) -> Messages:
    """Its messages."""
    return sequences(workload, services, seed, **settings).whole()


def test_netperfs_names_are_there() -> None:
    assert set(SMALL) | {"call_graph", "http"} == set(workload_names())


@pytest.mark.parametrize("workload", sorted(SMALL))
def test_columns_fit_together(workload: str) -> None:
    made = messages(workload)
    count, script = len(made), made.script
    for column in (made.thread, script.kind, script.after, script.think_ns, script.timeout_ns, made.release_ns):
        assert column.shape == (count,)
    assert (script.after < np.arange(count)).all(), "nothing waits for what comes later"
    assert script.kind.max() < len(made.kinds)
    assert set(np.unique(made.flow)) == set(range(len(made.flows)))
    assert (made.first <= made.last).all()
    waiting = script.after >= 0
    joined = made.flow[waiting] == made.flow[script.after[waiting]]
    assert joined.all() or workload == "tcp_crr", "a connection waits for itself only, or for the one before"
    first_of_flow = np.unique(made.flow, return_index=True)[1]
    assert all(made.kinds[kind].is_opening for kind in script.kind[first_of_flow])
    assert (made.flows.source_port >= 32768).all()
    pairs = list(zip(made.flows.client.tolist(), made.flows.source_port.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs), "no two connections of a client share a port"


@pytest.mark.parametrize("workload", sorted(SMALL))
def test_the_same_seed_gives_the_same_messages_and_another_seed_others(workload: str) -> None:
    one, again, other = messages(workload, 50), messages(workload, 50), messages(workload, 50, seed=2)
    for name in ("flow", "release_ns", "first", "last"):
        assert (getattr(one, name) == getattr(again, name)).all()
    assert (one.flows.service == again.flows.service).all()
    assert (one.flows.service != other.flows.service).any()


def kind_names(made: Messages, flow: int = 0) -> list[str]:
    """Kinds of the messages of a flow, in order."""
    return [made.kinds[kind].name for kind in made.script.kind[made.flow == flow]]


def test_tcp_rr_opens_once_and_measures_exchanges() -> None:
    made = messages("tcp_rr")
    assert kind_names(made) == ["syn", "syn_ack", "ack", *(["request", "reply"] * 5)]
    assert len(made.flows) == 2 * 2
    assert len(made.first) == 2 * 2 * 5
    assert (made.last == made.first + 1).all()
    assert made.script.after[3] == 1, "the client sends when it has the SYN-ACK, not when its ACK has arrived"


def test_tcp_crr_opens_and_closes_for_each_transaction() -> None:
    made = messages("tcp_crr")
    assert kind_names(made) == ["syn", "syn_ack", "ack", "request", "reply", "fin", "fin_ack", "last_ack"]
    assert len(made.flows) == len(made.first) == 2 * 2 * 4
    second_syn = made.first[1]
    assert made.kinds[made.script.kind[made.script.after[second_syn]]].name == "fin"
    assert (made.script.after[made.first] == -1).sum() == 2 * 2, "one chain per connection slot"


def test_udp_rr_has_no_handshake() -> None:
    made = messages("udp_rr")
    assert kind_names(made)[:4] == ["first_request", "first_reply", "request", "reply"]


def test_a_stream_keeps_a_window_on_the_way() -> None:
    made = messages("tcp_stream", clients=1)
    after = {int(row): int(made.script.after[row]) for row in made.first[:6]}
    rows = list(after)
    assert [after[row] for row in rows[:2]] == [1, 1], "the first window follows the handshake"
    for number in range(2, 6):
        assert after[rows[number]] == rows[number - 2] + 1, "then each buffer an acknowledgement"
    payload = made.kinds[3].payload_bytes
    assert payload == 46 * 1398 <= 65_536 - 52


def test_a_sender_of_datagrams_waits_for_its_socket_buffer_only() -> None:
    made = messages("udp_stream", datagrams=300, message_bytes=1000)
    window = 212_992 // 1768
    departures = np.flatnonzero([made.kinds[kind].part is Part.DEPARTURE for kind in made.script.kind[:600]])
    assert (made.script.after[departures[:window]] == -1).all()
    assert made.script.after[departures[window]] == departures[0]
    paced = messages("udp_stream", datagrams=300, rate_per_s=1e6)
    assert paced.release_ns[departures[:4]].tolist() == [0, 1000, 2000, 3000]


def test_connections_arrive_as_a_poisson_process() -> None:
    made = messages("poisson_connections", connections=4000, rate_per_s=50_000)
    syn = made.release_ns[made.first.reshape(-1, 3)[:, 0]]
    gaps = np.diff(syn)
    assert gaps.mean() == pytest.approx(20_000, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)
    assert len(made.first) == 4000 * 3


def test_services_are_chosen_uniformly_or_by_zipf() -> None:
    uniform = messages("poisson_connections", services=10, connections=20_000)
    shares = np.bincount(uniform.flows.service, minlength=10) / 20_000
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.01)
    zipf = messages("poisson_connections", services=10, connections=20_000, to={"choice": "zipf", "exponent": 1.0})
    counts = np.sort(np.bincount(zipf.flows.service, minlength=10))[::-1] / 20_000
    harmonic = sum(1 / rank for rank in range(1, 11))
    assert counts == pytest.approx([1 / rank / harmonic for rank in range(1, 11)], abs=0.01)


@pytest.mark.parametrize(("choice", "name"), [("first", "svc-1"), ("middle", "svc-3"), ("last", "svc-4")])
def test_one_service_by_position(choice: str, name: str) -> None:
    made = messages("tcp_rr", to={"choice": choice})
    assert [service.name for service, *_ in made.services] == [name]


def test_named_services_are_called_in_turn() -> None:
    made = messages("tcp_crr", to=["svc-2", "default/svc-4:80"])
    names = [made.services[index][0].name for index in made.flows.service[:4]]
    assert names == ["svc-2", "svc-4", "svc-2", "svc-4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": "svc-9"}, "there is no Service 'svc-9': did you mean 'svc-"),
        ({"to": "svc-2:81"}, "Service default/svc-2 has no TCP port 81: it has 80/tcp"),
        (
            {"workload": "poisson_connections", "connections": 1_500_000, "requests": 1, "rate_per_s": 0.001},
            "traffic.rate_per_s: at 0.001 per second it takes years",
        ),
        (
            {"workload": "udp_stream", "datagrams": 2_000_000, "rate_per_s": 0.001},
            "traffic.rate_per_s: at 0.001 per second it takes years",
        ),
        ({"transactions": 100_000_000}, "800,000,012 messages are too many to be held in memory"),
    ],
)
def test_targets_and_sizes_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        messages(**{"workload": "tcp_rr", **settings})
    assert message in str(caught.value)


def test_no_service_no_traffic() -> None:
    with pytest.raises(InputError, match="no Service with a TCP port to send to: this scenario has no traffic"):
        messages("tcp_rr", services=0)


def call_graph(cluster: Any, **settings: Any) -> Messages:
    """The messages of a call graph."""
    model: Any = workload_class("call_graph")
    traffic = model.model_validate({"workload": "call_graph", "users": 3, "requests": 4, **settings})
    found: Messages = traffic.messages(WorkloadContext(cluster, cluster.pods, Streams(1), 1398)).whole()
    return found


def test_online_boutiques_calls(online_boutique: Path) -> None:
    made = call_graph(build_cluster(ClusterSpec(manifests=[online_boutique])))
    requests = Counter(
        made.services[made.flows.service[flow]][0].name
        for flow, kind in zip(made.flow.tolist(), made.script.kind.tolist(), strict=True)
        if made.kinds[kind].name == "request"
    )
    calls_per_user_request = {name: count // 12 for name, count in requests.items()}
    assert calls_per_user_request == {
        "frontend": 1, "productcatalogservice": 3, "currencyservice": 2, "cartservice": 2, "redis-cart": 2,
        "recommendationservice": 1, "shippingservice": 2, "checkoutservice": 1, "adservice": 1, "paymentservice": 1,
        "emailservice": 1,
    }  # fmt: skip
    assert len(made.first) == 3 * 4
    assert (made.last > made.first).all()


@pytest.mark.parametrize("keep_alive", [True, False])
def test_requests_after_the_second_are_as_if_they_were_made_one_by_one(
    online_boutique: Path, tmp_path: Path, keep_alive: bool
) -> None:
    text = online_boutique.read_text()
    file = tmp_path / "more.yaml"
    file.write_text(
        text.replace("spec:\n  selector:\n    matchLabels:", "spec:\n  replicas: 2\n  selector:\n    matchLabels:")
    )
    cluster = build_cluster(ClusterSpec(manifests=[file]))
    assert len(cluster.pods) > 20, "users have replicas of their own"
    made = call_graph(cluster, users=3, requests=5, keep_alive=keep_alive)
    model: Any = workload_class("call_graph")
    scripts = _Scripts(
        _read_graph(model.model_validate({"workload": "call_graph"}), cluster), keeps_connections=keep_alive
    )
    columns = [scripts.request(user, number) for user in range(3) for number in range(5)]
    np.testing.assert_array_equal(made.script.kind, np.concatenate([one.kind for one in columns]))
    np.testing.assert_array_equal(made.flow, np.concatenate([one.flow_key for one in columns]))
    for name in ("client", "service", "source_port"):
        np.testing.assert_array_equal(getattr(made.flows, name), getattr(scripts.flows(), name))
    lengths = np.array([len(one.kind) for one in columns])
    begins = np.cumsum(lengths) - lengths
    ends = begins + np.array([np.flatnonzero(one.ends)[0] for one in columns])
    assert (made.first.tolist(), made.last.tolist()) == (begins.tolist(), ends.tolist())
    for number, (one, begin) in enumerate(zip(columns, begins.tolist(), strict=True)):
        after = np.where(one.after == -1, -1, one.after + begin)
        after[0] = -1 if number % 5 == 0 else ends[number - 1]
        np.testing.assert_array_equal(made.script.after[begin : begin + len(one.kind)], after)


def test_kept_connections_are_opened_once(online_boutique: Path) -> None:
    cluster = build_cluster(ClusterSpec(manifests=[online_boutique]))
    kept, each = call_graph(cluster), call_graph(cluster, keep_alive=False)
    syns = [sum(made.kinds[kind].name == "syn" for kind in made.script.kind) for made in (kept, each)]
    assert syns == [3 + 15, 12 * 17], "kept: one per user, and one per caller and Service behind; else one per call"
    assert len(kept.flows) == 18


CIRCLE = """
{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {app: a}}, spec: {containers: [{env: [{name: B, value: "b:80"}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, labels: {app: b}}, spec: {containers: [{env: [{name: A, value: "http://a.default.svc:80/x"}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {app: a}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {selector: {app: b}, ports: [{port: 80}]}}
"""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give traffic.from: it is not clear where requests begin; who calls and is not called: none"),
        ({"from": "a"}, "the calls go in circles"),
        ({"from": "c"}, "traffic.from: there is no Deployment 'c'"),
        ({"calls": {"c": []}}, "traffic.calls: there is no Deployment 'c'"),
        ({"from": "a", "calls": {"b": ["a"]}}, "a calls no Service: this scenario has no traffic"),
        ({"from": "a", "calls": {"a": ["b"]}, "work_us": {"x": 1}}, "traffic.work_us: there is no Deployment 'x'"),
    ],
)
def test_graphs_that_make_no_sense(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        call_graph(cluster_of(CIRCLE, tmp_path), **settings)
    assert message in str(caught.value)


def test_a_given_graph_replaces_the_environment(tmp_path: Path) -> None:
    made = call_graph(cluster_of(CIRCLE, tmp_path), **{"from": "a", "calls": {"a": ["b"]}})
    assert {service.name for service, *_ in made.services} == {"b"}
