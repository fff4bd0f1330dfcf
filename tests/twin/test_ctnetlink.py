"""Entries that user space puts into conntrack, in a namespace of the host."""

from __future__ import annotations

import contextlib

import pytest

from kubesim.errors import InputError
from kubesim.twin import ctnetlink
from kubesim.twin.frames import Flow
from kubesim.twin.namespaces import Namespace
from tests.netns import needs_kernel

pytestmark = needs_kernel


def flows(count: int) -> list[Flow]:
    """So many connections."""
    return [Flow("10.0.0.1", 10_000 + number, "10.0.0.2", 53) for number in range(count)]


def test_entries_are_there_until_they_are_forgotten() -> None:
    with contextlib.closing(Namespace()) as node:
        with node.inside():
            ctnetlink.add_entries(flows(1200), 60, is_assured=True)
        assert node.connections() == 1200
        node.forget_connections()
        assert node.connections() == 0


def test_an_assured_entry_does_not_become_less() -> None:
    with contextlib.closing(Namespace()) as node, node.inside():
        ctnetlink.add_entries(flows(1), 60, is_assured=True)
        with pytest.raises(InputError, match="conntrack does not take an entry"):
            ctnetlink.add_entries(flows(1), 60, is_assured=False)
