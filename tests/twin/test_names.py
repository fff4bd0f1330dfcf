"""Names of namespaces and devices."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from kubesim.twin.names import PREFIX, UP, device_name, run_prefix

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-./"), min_size=1, max_size=40)


@given(NAMES)
def test_device_names_are_as_linux_takes_them(name: str) -> None:
    made = device_name(name)
    assert 0 < len(made) <= 15
    assert "/" not in made
    assert device_name(made) == made
    assert made.startswith(name[:4].replace("/", "-")), "rules look for beginnings, such as cali+"


@given(NAMES, NAMES)
def test_different_devices_have_different_names(one: str, other: str) -> None:
    assert (device_name(one) == device_name(other)) == (one == other)


def test_namespaces_of_runs_and_of_what_stays_are_told_apart() -> None:
    assert UP.startswith(PREFIX)
    assert run_prefix().startswith(PREFIX)
    assert not run_prefix().startswith(UP)
