"""Longest prefix wins."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.address import Prefix
from kubesim.kernel.namespace import Host
from kubesim.kernel.route import Route, RoutingTable

prefixes = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: str(ipaddress.ip_network((pair[0], pair[1]), strict=False))
)


@given(st.lists(prefixes, max_size=12), st.integers(0, 2**32 - 1))
def test_lookup_is_the_longest_matching_prefix(texts: list[str], number: int) -> None:
    table = RoutingTable()
    for text in texts:
        table.add(Route(Prefix(text), None, via=text))
    address = ipaddress.ip_address(number)
    matching = [ipaddress.ip_network(text) for text in texts if address in ipaddress.ip_network(text)]
    expected = max(matching, key=lambda network: network.prefixlen, default=None)
    found = table.lookup(str(address))
    assert (found.via if found else None) == (str(expected) if expected else None)


def test_addresses_of_a_namespace_are_local_and_bring_the_route_of_their_link() -> None:
    namespace = Host("node").root
    namespace.add_address(namespace.loopback, "10.1.2.3/24")
    assert namespace.is_local("10.1.2.3")
    assert namespace.is_local("127.0.0.9")
    assert not namespace.is_local("10.1.2.4")
    route = namespace.routes.lookup("10.1.2.77")
    assert route is not None
    assert route.device is namespace.loopback
