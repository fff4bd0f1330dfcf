"""Manifests with something wrong in them are read, or refused in one line; nothing falls over or hangs."""

from __future__ import annotations

import random
from pathlib import Path

from kubesim.cluster import ClusterSpec, build_cluster
from kubesim.errors import InputError
from kubesim.proxy import proxy_class

TEXT = (Path(__file__).parents[1] / "kernel" / "every-feature.yaml").read_text("utf-8")
DOCUMENTS = [part for part in TEXT.split("---\n") if "kind:" in part]
WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: ns}
spec: {replicas: 2, template: {metadata: {labels: {app: web}}, spec: {containers: [{ports: [{containerPort: 80, name: http}]}]}}}
"""
SELECTING = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: ns, labels: {app: web}, ownerReferences: [{kind: ReplicaSet, name: web-abc}]}
spec: {nodeName: node-a, containers: [{ports: [{containerPort: 80, name: http, protocol: TCP}], env: [{name: A, value: "web:80"}]}]}
status: {podIP: 10.244.1.77, phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
MUTATIONS = 5000
VALUES = ["null", "[]", "{}", "-1", "0", "99999", "true", '""', "1.2.3", "10.0.0.0/33", "::1", "[a, b]", "{a: b}", "!!binary x",
          "&a *a", "2020-13-45", "\x01", "é", "1e400", "KUBE", "TCP", "None", "Local", "0x10", "'"]  # fmt: skip


def mutated(text: str, luck: random.Random) -> str:
    """A text with some values exchanged, or letters lost."""
    for _ in range(luck.randint(1, 3)):
        place = luck.randrange(len(text))
        match luck.randrange(5):
            case 0:
                text = text[:place] + text[place + luck.randint(1, 6) :]
            case 1:
                text = text[:place] + luck.choice("{}[]:,-#&*!|>'\"%@` \n") + text[place:]
            case 2:
                lines = text.splitlines()
                row = luck.randrange(len(lines))
                key, colon, _ = lines[row].partition(": ")
                lines[row] = f"{key}{colon or ': '}{luck.choice(VALUES)}"
                text = "\n".join(lines)
            case 3:
                parts = text.split(": ")
                if len(parts) > 2:
                    at = luck.randrange(1, len(parts))
                    end = min((parts[at].find(sign) for sign in ",}]\n" if sign in parts[at]), default=len(parts[at]))
                    parts[at] = luck.choice(VALUES) + parts[at][end:]
                    text = ": ".join(parts)
            case _:
                text += "\n---\n" + luck.choice(DOCUMENTS)
    return text


def test_mutated_manifests_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    luck = random.Random(11)
    file = tmp_path / "manifest.yaml"
    documents = [*DOCUMENTS, WORKLOAD, SELECTING, POD]
    proxies = [(proxy_class(name), proxy_class(name).settings_model()) for name in ("iptables", "nftables", "ipvs")]
    read = 0
    for number in range(MUTATIONS):
        chosen = luck.sample(documents, luck.randint(1, 3))
        file.write_text(mutated("\n---\n".join(chosen), luck), "utf-8")
        try:
            cluster = build_cluster(ClusterSpec(manifests=[file]))
            plugin, settings = proxies[number % len(proxies)]
            made = plugin(cluster, settings)
            for form in made.forms:
                made.text(cluster.nodes[0], form, "ipv6" if number % 7 == 0 else "ipv4")
            read += 1
        except InputError as error:
            assert "\n" not in str(error)
    assert 0 < read < MUTATIONS
