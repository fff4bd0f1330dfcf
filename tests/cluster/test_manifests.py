"""Reading Kubernetes YAML, as people have it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.cluster import Cluster, ClusterSpec, build_cluster
from kubesim.cluster.manifests import read_manifests
from kubesim.errors import InputError
from tests.clusters import cluster_of

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: 1}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: www, port: 80, targetPort: http}, {name: adm, port: 81, targetPort: 9000}]}
"""


def addresses(cluster: Cluster, service: str, port: int = 0) -> list[str]:
    """Endpoints of a port of a Service, as ``address:port``."""
    found = cluster.service(service)
    return [f"{one.address}:{one.port}" for one in cluster.endpoints(found, found.ports[port])]


def test_online_boutique_loads_unmodified(online_boutique: Path) -> None:
    cluster = build_cluster(ClusterSpec(manifests=[online_boutique]))
    assert len(cluster.services) == 12
    assert len(cluster.pods) == 12
    assert len(cluster.nodes) == 3
    assert cluster.notices == ("skipped 11 objects without traffic: 11 ServiceAccount",)
    assert [len(addresses(cluster, service.name)) for service in cluster.services] == [1] * 12
    assert sorted({pod.node for pod in cluster.pods}) == ["node-1", "node-2", "node-3"]
    frontend = cluster.pod("frontend")
    assert ("default/cartservice", 7070) in frontend.calls
    assert len(frontend.calls) == 7, "the shopping assistant it names is not in the manifest"


def test_online_boutique_is_the_one_that_was_released(online_boutique: Path, shared_data: Path) -> None:
    assert online_boutique.read_bytes() == (shared_data / "manifests" / "online-boutique.yaml").read_bytes()


def test_replicas_become_pods_and_selectors_endpoints(tmp_path: Path) -> None:
    cluster = cluster_of(WEB, tmp_path, nodes=2)
    assert [pod.full_name for pod in cluster.pods] == ["default/web-0", "default/web-1", "default/web-2"]
    assert [pod.node for pod in cluster.pods] == ["node-1", "node-2", "node-1"], "spread over nodes"
    pods = [pod.address for pod in cluster.pods]
    assert addresses(cluster, "web", 0) == [f"{address}:8080" for address in pods], "targetPort by name"
    assert addresses(cluster, "web", 1) == [f"{address}:9000" for address in pods], "and by number"
    assert cluster.pods[0].labels == {"app": "web", "version": "1"}


def test_lists_streams_and_several_files(tmp_path: Path) -> None:
    documents = [document for document in yaml.safe_load_all(WEB) if document]
    (tmp_path / "list.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": documents[:1]}))
    service_list = {
        "apiVersion": "v1",
        "kind": "ServiceList",
        "items": [{k: v for k, v in documents[1].items() if k != "kind"}],
    }
    (tmp_path / "services.yaml").write_text("---\n---\n" + yaml.safe_dump(service_list) + "---\nkind: ConfigMap\n")
    cluster = build_cluster(ClusterSpec(manifests=[tmp_path / "list.yaml", tmp_path / "services.yaml"]))
    assert len(addresses(cluster, "web")) == 3
    assert cluster.notices == ("skipped 1 object without traffic: 1 ConfigMap",)


def test_a_dump_of_a_running_cluster(tmp_path: Path) -> None:
    """Pods that controllers have made already are not made twice, and keep their names, nodes and addresses."""
    text = (
        WEB
        + """
---
{apiVersion: v1, kind: Node, metadata: {name: alpha}, spec: {podCIDR: 10.42.0.0/24},
 status: {addresses: [{type: Hostname, address: alpha}, {type: InternalIP, address: 172.18.0.3}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: beta}, spec: {podCIDR: 10.42.1.0/24}}
---
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-5d9, ownerReferences: [{kind: Deployment, name: web}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-5d9-x, labels: {app: web, version: "1"},
  ownerReferences: [{kind: ReplicaSet, name: web-5d9}]},
 spec: {nodeName: beta, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]},
 status: {phase: Running, podIP: 10.42.1.7, conditions: [{type: Ready, status: "True"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-5d9-y, labels: {app: web, version: "1"},
  ownerReferences: [{kind: ReplicaSet, name: web-5d9}]},
 spec: {nodeName: alpha, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]},
 status: {phase: Running, podIP: 10.42.0.9, conditions: [{type: Ready, status: "False"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, labels: {app: web}}, spec: {nodeName: alpha}, status: {phase: Succeeded}}
"""
    )
    cluster = cluster_of(text, tmp_path)
    assert [(pod.name, pod.node, pod.owner) for pod in cluster.pods] == [
        ("web-5d9-x", "beta", "web"), ("web-5d9-y", "alpha", "web"), ("web-0", "alpha", "web"),
    ]  # fmt: skip
    assert cluster.node("alpha").address == "172.18.0.3"
    assert cluster.pod_cidr == "10.42.0.0/23"
    service = cluster.service("web")
    endpoints = cluster.endpoints(service, service.ports[0])
    assert [one.is_ready for one in endpoints] == [True, False, True]
    assert endpoints[0].address == "10.42.1.7"


def test_pods_outside_their_nodes_range_move_and_endpoints_follow(tmp_path: Path) -> None:
    text = """
{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {podCIDR: 10.42.0.0/24}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeName: n}, status: {podIP: 192.0.2.7}}
---
{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{port: 80}]}]}
"""
    cluster = cluster_of(text, tmp_path)
    assert cluster.pod("p").address == "10.42.0.2"
    assert addresses(cluster, "s") == ["10.42.0.2:80"]
    assert cluster.notices == ("1 pod got new addresses: what was given is not in the podCIDR of the node",)


def test_slices_win_over_selectors_and_old_endpoints_and_bring_pods(tmp_path: Path) -> None:
    text = (
        WEB
        + """
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, labels: {kubernetes.io/service-name: web}},
 addressType: IPv4, ports: [{name: www, port: 8080}, {name: adm, port: 9}],
 endpoints: [{addresses: [10.244.1.50], nodeName: node-2, conditions: {ready: true}},
             {addresses: [10.244.1.51], nodeName: node-2, conditions: {ready: false, serving: true, terminating: true}}]}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: web}, subsets: [{addresses: [{ip: 10.244.0.9}], ports: [{name: www, port: 1}]}]}
"""
    )
    cluster = cluster_of(text, tmp_path, nodes=2)
    assert addresses(cluster, "web", 0) == ["10.244.1.50:8080", "10.244.1.51:8080"]
    service = cluster.service("web")
    first, second = cluster.endpoints(service, service.ports[0])
    assert (first.is_ready, first.is_serving, first.is_terminating) == (True, True, False)
    assert (second.is_ready, second.is_serving, second.is_terminating) == (False, True, True)
    pod = cluster.pod_at("10.244.1.50")
    assert pod is not None
    assert pod.node == "node-2"


def test_daemon_sets_run_everywhere_and_stateful_sets_are_numbered(tmp_path: Path) -> None:
    text = """
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent},
 spec: {template: {metadata: {labels: {app: agent}}, spec: {hostNetwork: true, containers: [{name: c}]}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: data},
 spec: {replicas: 2, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: gpu},
 spec: {template: {spec: {nodeSelector: {gpu: "yes"}, containers: [{name: c}]}}}}
"""
    cluster = cluster_of(text, tmp_path, nodes=3)
    agents = [pod for pod in cluster.pods if pod.owner == "agent"]
    assert [(pod.node, pod.address) for pod in agents] == [(node.name, node.address) for node in cluster.nodes]
    assert all(pod.is_host_network for pod in agents)
    assert [pod.full_name for pod in cluster.pods if pod.owner == "db"] == ["data/db-0", "data/db-1"]
    assert not [pod for pod in cluster.pods if pod.owner == "gpu"], "no node has the label"


def test_services_without_a_virtual_address(tmp_path: Path) -> None:
    text = """
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: elsewhere}, spec: {type: ExternalName, externalName: example.org}}
---
{apiVersion: v1, kind: Service, metadata: {name: balanced}, spec: {type: LoadBalancer, ports: [{port: 80, nodePort: 30080}]}}
"""
    cluster = cluster_of(text, tmp_path)
    assert cluster.service("headless").cluster_ip is None
    assert cluster.service("elsewhere").cluster_ip is None
    assert cluster.service("balanced").cluster_ip == "10.96.0.1"
    assert [name for name, _, _ in cluster.service_ports()] == ["default/balanced"]


def test_pods_say_which_nodes_there_are_where_no_node_is_given(tmp_path: Path) -> None:
    pods = "".join(
        f"---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p-{node}}}, spec: {{nodeName: {node}}}, status: {{podIP: ''}}}}\n"
        for node in ("beta", "alpha")
    )
    cluster = cluster_of(pods, tmp_path)
    assert [node.name for node in cluster.nodes] == ["beta", "alpha"]
    assert [cluster.pod(f"p-{name}").node for name in ("alpha", "beta")] == ["alpha", "beta"]
    assert [node.name for node in cluster_of(pods, tmp_path, nodes=3).nodes] == ["beta", "alpha", "node-1"]
    with pytest.raises(InputError, match=r"cluster\.nodes is 1, but the manifests have 2 nodes"):
        cluster_of(pods, tmp_path, nodes=1)


def test_pods_of_a_controller_are_on_the_node_that_its_template_says(tmp_path: Path) -> None:
    text = """
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, template: {
  metadata: {labels: {app: web}}, spec: {nodeName: beta, containers: [{name: c}]}}}}
"""
    for nodes in ("", "---\n{kind: Node, metadata: {name: alpha}}\n---\n{kind: Node, metadata: {name: beta}}\n"):
        cluster = cluster_of(text + nodes, tmp_path)
        assert [pod.node for pod in cluster.pods] == ["beta", "beta"]
    with pytest.raises(InputError, match="there is no node 'beta' for pod web-0"):
        cluster_of(text + "---\n{kind: Node, metadata: {name: alpha}}\n", tmp_path)


def test_endpoints_of_ipv6_imply_no_pods(tmp_path: Path) -> None:
    text = """\
{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: [{ip: "fd00::1", nodeName: node-1}], ports: [{port: 80}]}]}
"""
    assert cluster_of(text, tmp_path).pods == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "manifest.yaml, line 2, column 1: did not find expected"),
        ("- 1\n- 2\n", "document 1: a Kubernetes object is a mapping, not list"),
        ("apiVersion: v1\n", "document 1: an object without a kind"),
        ("kind: Service\napiVersion: v1\nspec: {}\n", "document 1: Service: metadata: this field is needed"),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: s}, spec: {ports: [{port: 99999}]}}",
            "Service s: spec.ports.0.port: input should be less than or equal to 65535, not 99999",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: s}, spec: {clusterIP: x, ports: [{port: 1}]}}",
            "Service default/s: clusterIP 'x' is not an address",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: s}, spec: {ports: [{port: 1, protocol: TPC}]}}",
            "Service default/s: protocol 'TPC' is none of TCP, UDP, SCTP",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: s}, spec: {type: Nodeport, ports: [{port: 1}]}}",
            "Service default/s: type 'Nodeport' is none of",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: s}, spec: {ports: [{port: 1, name: a}, {port: 2, name: a}]}}",
            "Service default/s: two ports have the same name",
        ),
        (WEB.replace("targetPort: http", "targetPort: htpp"), "targetPort 'htpp' is the name of no port of the pods behind it"),
        (WEB.replace("targetPort: http", "targetPort: htpp"), "did you mean 'http'?"),
        (WEB + "---\n" + WEB, "Deployment 'web' is there already"),
        ("{kind: List, items: [{kind: Node, apiVersion: v1, metadata: {name: node-1}}, {kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {nodeName: nod-1}}]}", "there is no node 'nod-1' for pod p: did you mean 'node-1'?"),
        ("{kind: Pod, apiVersion: v1, metadata: {name: p}, spec: {}, status: {podIP: 10.1.2.999}}", "document 1: Pod p: podIP '10.1.2.999' is not an address"),
        ("{kind: Node, apiVersion: v1, metadata: {name: n}, status: {addresses: [{type: InternalIP, address: 10.0.0}]}}", "document 1: Node n: InternalIP '10.0.0' is not an address"),
        ("{kind: Endpoints, apiVersion: v1, metadata: {name: e}, subsets: [{notReadyAddresses: [{ip: x}]}]}", "document 1: Endpoints e: ip 'x' is not an address"),
        ("{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: e}, endpoints: [{addresses: [1.2.3]}]}", "document 1: EndpointSlice e: address '1.2.3' is not an address"),
        ("{kind: Service, apiVersion: v1, metadata: {name: s}, spec: {ports: [{port: 1, targetPort: 99999}]}}", "Service s: spec.ports.0.targetPort: input should be less than or equal to 65535, not 99999"),
        ("{kind: Pod, apiVersion: v1, metadata: {}, spec: {}}", "document 1: Pod: metadata.name: this field is needed"),
        (
            "{kind: Node, apiVersion: v1, metadata: {name: n}, spec: {podCIDR: 10.0.0.0/99}}",
            "Node n: podCIDR '10.0.0.0/99' is not a range of addresses",
        ),
        (
            "{kind: List, items: [{kind: Node, apiVersion: v1, metadata: {name: a}, spec: {podCIDR: 10.0.0.0/16}}, "
            "{kind: Node, apiVersion: v1, metadata: {name: b}, spec: {podCIDR: 10.0.1.0/24}}]}",
            "podCIDR of a 10.0.0.0/16 overlaps podCIDR of b 10.0.1.0/24",
        ),
        (
            "{kind: List, items: [{kind: Service, apiVersion: v1, metadata: {name: a}, spec: {clusterIP: 10.96.0.9, ports: [{port: 1}]}}, "
            "{kind: Service, apiVersion: v1, metadata: {name: b}, spec: {clusterIP: 10.96.0.9, ports: [{port: 1}]}}]}",
            "Service default/b has the clusterIP 10.96.0.9 of Service default/a",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        cluster_of(text, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, reason in (("missing.yaml", "No such file or directory"), ("binary.yaml", "it is not UTF-8 text")):
        with pytest.raises(InputError, match=f"cannot read .*{name}: {reason}"):
            read_manifests([tmp_path / name])


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["10.96.0.1", "None", "TCP", "web"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "name", "ports", "port", "selector", "template", "items", "labels", "status"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(
    kind=st.sampled_from(
        ["Service", "Pod", "Deployment", "Node", "EndpointSlice", "Endpoints", "List", "DaemonSet", "X"]
    ),
    body=st.dictionaries(st.sampled_from(["metadata", "spec", "status", "items", "subsets", "endpoints"]), json_like),
)
def test_any_yaml_is_read_or_refused_in_one_line(
    kind: str, body: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "m.yaml"
    group = (
        "apps/v1" if kind in ("Deployment", "DaemonSet") else "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    )
    file.write_text(yaml.safe_dump({"apiVersion": group, "kind": kind, **body}))
    try:
        build_cluster(ClusterSpec(manifests=[file]))
    except InputError as error:
        assert "\n" not in str(error)
