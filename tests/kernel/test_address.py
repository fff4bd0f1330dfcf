"""Addresses and prefixes agree with the standard library."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.address import Prefix, address_number, flow_hash, mac_address

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(network=addresses, length=st.integers(0, 32), address=addresses)
def test_a_prefix_holds_what_the_standard_library_says(network: str, length: int, address: str) -> None:
    expected = ipaddress.ip_network(f"{network}/{length}", strict=False)
    assert (address in Prefix(f"{network}/{length}")) == (ipaddress.ip_address(address) in expected)


@given(address=addresses, other=addresses)
def test_a_bare_address_is_a_prefix_of_one(address: str, other: str) -> None:
    assert address in Prefix(address)
    assert (other in Prefix(address)) == (other == address)
    assert Prefix(address).host == address


def test_the_two_families_never_meet() -> None:
    assert address_number("::a00:1") != address_number("10.0.0.1")
    assert "10.0.0.1" not in Prefix("::/0")


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0/8", "/8", "a/b"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        Prefix(text)


def test_a_flow_hashes_alike_in_both_directions() -> None:
    there = flow_hash("10.0.0.1", "10.0.0.2", "tcp", 1234, 80)
    assert there == flow_hash("10.0.0.2", "10.0.0.1", "tcp", 80, 1234)
    assert there != flow_hash("10.0.0.1", "10.0.0.2", "tcp", 1235, 80)


def test_mac_addresses_are_locally_administered_and_stable() -> None:
    mac = mac_address("node-1", "node-1", "eth0")
    assert mac == mac_address("node-1", "node-1", "eth0")
    assert mac.startswith("02:")
    assert len(mac.split(":")) == 6
