"""Where requests go by host and path: records of Ingresses and HTTPRoutes, and which of their rules a request meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.cluster.http_objects import RouteMatch
from kubesim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubesim.cluster.http_objects import (
        BackendReference,
        GatewayListener,
        GatewayObject,
        HttpRouteObject,
        IngressBackend,
        IngressObject,
    )

EXACT, PREFIX, REGULAR_EXPRESSION = "Exact", "Prefix", "RegularExpression"

_GATEWAY_PATHS = {"Exact": EXACT, "PathPrefix": PREFIX, "RegularExpression": REGULAR_EXPRESSION}


@dataclass(frozen=True, slots=True)
class HttpBackend:
    """A Service that requests go to.

    Parameters
    ----------
    namespace, name
        The Service.
    port
        Its port, by number or name; None where it has only one.
    weight
        Its share of a rule's requests, among the others' weights.
    """

    namespace: str
    name: str
    port: int | str | None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One host and path.

    Parameters
    ----------
    host
        Empty for all hosts; one that begins with ``*.`` stands for all below it.
    path
        What the path is, or begins with.
    path_type
        ``Exact``, ``Prefix`` (element by element) or ``RegularExpression``.
    backends
        Who shares the requests; none where they are answered with an error.
    is_tls
        Whether it is served with TLS.
    conditions
        How many more conditions there are, on method, headers and query.
    """

    host: str
    path: str
    path_type: str
    backends: tuple[HttpBackend, ...]
    is_tls: bool = False
    conditions: int = 0

    @property
    def url(self) -> str:
        """A request that meets it, as ``host/path``."""
        return f"{self.host or '*'}{self.path}"

    def matches(self, host: str, path: str) -> bool:
        """Whether a request meets it; a regular expression never does, nor does a rule with more conditions."""
        if self.conditions or not host_matches(self.host, host):
            return False
        if self.path_type == EXACT:
            return path == self.path
        prefix = self.path.rstrip("/")
        return self.path_type == PREFIX and (path == prefix or path.startswith(prefix + "/"))

    @property
    def precedence(self) -> tuple[bool, bool, int, bool, int]:
        """The larger, the sooner it is asked: a host, no wildcard, a longer host, an exact path, a longer path."""
        is_wildcard = self.host.startswith("*.")
        return bool(self.host), not is_wildcard, len(self.host), self.path_type == EXACT, len(self.path)


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """An Ingress or an HTTPRoute.

    Parameters
    ----------
    kind
        ``Ingress`` or ``HTTPRoute``.
    namespace, name
        Its name in full is ``namespace/name``.
    controllers
        Class of the Ingress, or full names of the Gateways it hangs on.
    rules
        Its hosts and paths, in the order of the manifest; an Ingress' default backend is the last.
    """

    kind: str
    namespace: str
    name: str
    controllers: tuple[str, ...]
    rules: tuple[HttpRule, ...]

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


def host_matches(pattern: str, host: str) -> bool:
    """Whether a host is one of those that a pattern stands for; ``*.`` stands for one label or more."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) >= len(pattern)
    return pattern in ("", host)


def best_rule(routes: Iterable[HttpRoute], host: str, path: str) -> HttpRule | None:
    """The rule that a request meets, None if there is none: of the most exact host, then of the most exact path."""
    found = [rule for route in routes for rule in route.rules if rule.matches(host, path)]
    return max(found, key=lambda rule: rule.precedence, default=None)


def route_named(routes: Iterable[HttpRoute], name: str) -> HttpRoute | None:
    """The route of this name, ``namespace/name``, or ``name`` where that is clear.

    Raises
    ------
    InputError
        If there are several.
    """
    found = [route for route in routes if name in (route.full_name, route.name)]
    if len(found) > 1:
        names = ", ".join(f"{route.kind} {route.full_name}" for route in found)
        raise InputError(f"there are several Ingresses and HTTPRoutes {name!r}: {names}")
    return found[0] if found else None


def make_ingress_route(given: IngressObject) -> HttpRoute:
    """The record of an Ingress."""
    namespace, spec = given.metadata.namespace, given.spec
    encrypted = {host for tls in spec.tls for host in tls.hosts}
    has_tls_for_all = any(not tls.hosts for tls in spec.tls)
    rules = [
        HttpRule(
            rule.host,
            path.path or "/",
            EXACT if path.path_type == "Exact" else PREFIX,
            _ingress_backend(path.backend, namespace),
            is_tls=has_tls_for_all or any(host_matches(host, rule.host) for host in encrypted),
        )
        for rule in spec.rules
        for path in rule.http.paths
    ]
    default = spec.default_backend or spec.backend
    if default is not None:
        rules.append(HttpRule("", "/", PREFIX, _ingress_backend(default, namespace), is_tls=has_tls_for_all))
    return HttpRoute("Ingress", namespace, given.metadata.name, (given.controller_class,), tuple(rules))


def _ingress_backend(given: IngressBackend, namespace: str) -> tuple[HttpBackend, ...]:
    """The Service behind a path; nobody where it is something else."""
    if given.service is None:
        return ()
    port = given.service.port
    return (HttpBackend(namespace, given.service.name, port.number or port.name or None),)


def make_gateway_route(given: HttpRouteObject, gateways: Iterable[GatewayObject]) -> HttpRoute:
    """The record of an HTTPRoute, with what it takes over from the listeners that it hangs on.

    Raises
    ------
    InputError
        If it hangs on a Gateway or listener that there is not, or that is for other hosts.
    """
    namespace, name = given.metadata.namespace, given.metadata.name
    attached = list(_listeners(given, list(gateways)))
    hosts: dict[str, bool] = {}
    for _, listener in attached:
        for host in _shared_hosts(given.spec.hostnames, listener.hostname):
            hosts[host] = hosts.get(host, False) or listener.protocol == "HTTPS"
    if attached and not hosts:
        raise InputError(f"HTTPRoute {namespace}/{name}: its hostnames are not those of a listener it hangs on")
    hosts = hosts or dict.fromkeys(given.spec.hostnames or [""], False)
    rules = [
        HttpRule(
            host,
            match.path.value,
            _GATEWAY_PATHS[match.path.type],
            tuple(_gateway_backend(one, namespace) for one in rule.backend_refs if one.kind == "Service"),
            is_tls,
            _conditions(match),
        )
        for host, is_tls in hosts.items()
        for rule in given.spec.rules
        for match in rule.matches or [RouteMatch()]
    ]
    controllers = tuple(dict.fromkeys(gateway for gateway, _ in attached))
    return HttpRoute("HTTPRoute", namespace, name, controllers, tuple(rules))


def _conditions(match: RouteMatch) -> int:
    return bool(match.method) + len(match.headers) + len(match.query_params)


def _gateway_backend(given: BackendReference, namespace: str) -> HttpBackend:
    return HttpBackend(given.namespace or namespace, given.name, given.port, given.weight)


def _listeners(given: HttpRouteObject, gateways: list[GatewayObject]) -> Iterator[tuple[str, GatewayListener]]:
    """The listeners that a route hangs on, each with its Gateway's full name.

    Other parents are passed over, and all of them where the manifests have no Gateway.
    """
    known = {f"{one.metadata.namespace}/{one.metadata.name}": one for one in gateways}
    where = f"HTTPRoute {given.metadata.namespace}/{given.metadata.name}"
    for parent in given.spec.parent_refs:
        if parent.kind != "Gateway" or not known:
            continue
        name = f"{parent.namespace or given.metadata.namespace}/{parent.name}"
        gateway = known.get(name)
        if gateway is None:
            raise InputError(f"{where}: there is no Gateway {name!r}: {did_you_mean(name, known)}")
        sections = [one.name for one in gateway.spec.listeners]
        if parent.section_name and parent.section_name not in sections:
            unknown = f"Gateway {name} has no listener {parent.section_name!r}"
            raise InputError(f"{where}: {unknown}: {did_you_mean(parent.section_name, sections)}")
        for listener in gateway.spec.listeners:
            if parent.section_name in ("", listener.name) and listener.protocol in ("HTTP", "HTTPS"):
                yield name, listener


def _shared_hosts(hostnames: Iterable[str], listener: str) -> list[str]:
    """The hosts that a route and a listener have in common, the narrower pattern of the two."""
    wanted = list(hostnames) or [""]
    if not listener:
        return wanted
    shared = []
    for host in wanted:
        if not host or host_matches(host, listener):
            shared.append(listener)
        elif host_matches(listener, host):
            shared.append(host)
    return list(dict.fromkeys(shared))
