"""Ingresses, Gateways and HTTPRoutes: read as people write them, and which rule a request meets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.cluster import HttpBackend, HttpRoute, HttpRule, best_rule, route_named
from kubesim.errors import InputError
from tests.clusters import cluster_of

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: web}
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: home, port: {number: 80}}}
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 8080}}}}
      - {path: /cart/checkout, pathType: Exact, backend: {service: {name: checkout, port: {name: http}}}}
      - {path: /, pathType: ImplementationSpecific, backend: {service: {name: home, port: {number: 80}}}}
  - host: "*.example.com"
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: others, port: {number: 80}}}}]}
"""

OLD = """
apiVersion: %s/v1beta1
kind: Ingress
metadata: {name: old, annotations: {kubernetes.io/ingress.class: nginx}}
spec:
  backend: {serviceName: home, servicePort: 80}
  rules:
  - http: {paths: [{path: /cart, backend: {serviceName: cart, servicePort: http}}]}
"""

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: infra}
spec:
  gatewayClassName: nginx
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: https, port: 443, protocol: HTTPS, hostname: "*.example.com", tls: {certificateRefs: [{name: cert}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cafe}
spec:
  parentRefs: [{name: front, namespace: infra, sectionName: %s}]
  hostnames: [%s]
  rules:
  - matches: [{path: {type: PathPrefix, value: /coffee}}, {path: {type: Exact, value: /latte}}]
    backendRefs: [{name: coffee-v1, port: 80, weight: 9}, {name: coffee-v2, port: 80, weight: 1}]
  - matches: [{method: POST, headers: [{name: version, value: v2}]}]
    backendRefs: [{name: tea, port: 80}]
  - backendRefs: [{name: home, namespace: web, port: 80}]
"""


def routes_of(text: str, tmp_path: Path) -> tuple[HttpRoute, ...]:
    """The routes of a manifest."""
    return cluster_of(text, tmp_path).http_routes


def service_of(routes: tuple[HttpRoute, ...], host: str, path: str) -> str | None:
    """Where a request goes."""
    rule = best_rule(routes, host, path)
    return None if rule is None else rule.backends[0].name


def test_an_ingress_is_read(tmp_path: Path) -> None:
    (route,) = routes_of(INGRESS, tmp_path)
    assert (route.kind, route.full_name, route.controllers) == ("Ingress", "web/shop", ("nginx",))
    assert [(rule.url, rule.path_type, rule.backends[0].port, rule.is_tls) for rule in route.rules] == [
        ("shop.example.com/cart", "Prefix", 8080, True),
        ("shop.example.com/cart/checkout", "Exact", "http", True),
        ("shop.example.com/", "Prefix", 80, True),
        ("*.example.com/", "Prefix", 80, False),
        ("*/", "Prefix", 80, False),
    ]


@pytest.mark.parametrize("group", ["extensions", "networking.k8s.io"])
def test_old_ingresses_are_read(group: str, tmp_path: Path) -> None:
    (route,) = routes_of(OLD % group, tmp_path)
    assert route.controllers == ("nginx",)
    assert [rule.backends for rule in route.rules] == [
        (HttpBackend("default", "cart", "http"),),
        (HttpBackend("default", "home", 80),),
    ]


@pytest.mark.parametrize(
    ("host", "path", "service"),
    [
        ("shop.example.com", "/cart", "cart"),
        ("shop.example.com", "/cart/items", "cart"),
        ("shop.example.com", "/cartoon", "home"),
        ("shop.example.com", "/cart/checkout", "checkout"),
        ("shop.example.com", "/cart/checkout/2", "cart"),
        ("www.example.com", "/cart", "others"),
        ("example.com", "/cart", "home"),
        ("elsewhere.org", "/", "home"),
    ],
)
def test_the_most_exact_host_and_path_win(host: str, path: str, service: str, tmp_path: Path) -> None:
    assert service_of(routes_of(INGRESS, tmp_path), host, path) == service


def test_a_route_takes_over_what_its_listener_says(tmp_path: Path) -> None:
    (route,) = routes_of(GATEWAY % ("https", "cafe.example.com, cafe.elsewhere.org"), tmp_path)
    assert route.controllers == ("infra/front",)
    assert [(rule.url, rule.is_tls, rule.conditions) for rule in route.rules] == [
        ("cafe.example.com/coffee", True, 0),
        ("cafe.example.com/latte", True, 0),
        ("cafe.example.com/", True, 2),
        ("cafe.example.com/", True, 0),
    ]
    assert [(one.name, one.weight) for one in route.rules[0].backends] == [("coffee-v1", 9), ("coffee-v2", 1)]
    assert route.rules[3].backends == (HttpBackend("web", "home", 80),)
    (without_names,) = routes_of(GATEWAY % ("http", ""), tmp_path)
    assert {rule.host for rule in without_names.rules} == {"*.example.com"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GATEWAY % ("htp", ""), "Gateway infra/front has no listener 'htp': did you mean 'http'"),
        (GATEWAY % ("http", "cafe.org"), "HTTPRoute default/cafe: its hostnames are not those of a listener"),
        (GATEWAY.replace("name: front, namespace: infra, sec", "name: frnt, namespace: infra, sec") % ("http", ""),
         "HTTPRoute default/cafe: there is no Gateway 'infra/frnt': did you mean 'infra/front'"),
        (INGRESS.replace("path: /cart,", "path: cart,"), "'cart' does not begin with /"),
        (INGRESS.replace("Exact", "Exactly"), "Ingress shop: spec.rules.0.http.paths.1.pathType"),
        (INGRESS.replace("8080", "808080"), "port.number"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        cluster_of(text, tmp_path)
    assert message in str(caught.value)


def test_what_is_not_there_is_asked_of_nobody(tmp_path: Path) -> None:
    text = INGRESS.replace("service: {name: cart, port: {number: 8080}}", "resource: {kind: Bucket, name: static}")
    (route,) = routes_of(text, tmp_path)
    assert [len(rule.backends) for rule in route.rules] == [0, 1, 1, 1, 1]
    without_gateway = GATEWAY.partition("---")[2] % ("http", "cafe.example.com")
    (alone,) = routes_of(without_gateway, tmp_path)
    assert (alone.controllers, {rule.host for rule in alone.rules}) == ((), {"cafe.example.com"})


def test_routes_by_name(tmp_path: Path) -> None:
    routes = routes_of(INGRESS + "---" + OLD.replace("name: old", "name: shop") % "extensions", tmp_path)
    found = route_named(routes, "web/shop")
    assert found is not None
    assert found.namespace == "web"
    assert route_named(routes, "nothing") is None
    with pytest.raises(InputError, match="several Ingresses and HTTPRoutes 'shop': Ingress web/shop, Ingress default"):
        route_named(routes, "shop")


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(prefix=PATHS, path=PATHS)
def test_a_prefix_is_compared_element_by_element(prefix: str, path: str) -> None:
    rule = HttpRule("", prefix, "Prefix", ())
    elements, wanted = path.strip("/").split("/"), [part for part in prefix.strip("/").split("/") if part]
    assert rule.matches("any.org", path) == (elements[: len(wanted)] == wanted)
