"""The real nft, in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class RealNft:
    """Runs nft in a namespace.

    Parameters
    ----------
    network
        Name of the namespace.
    """

    def __init__(self, network: str) -> None:
        self._network = network

    def run(self, *arguments: str, text: str = "") -> str:
        """What nft prints; it has to succeed."""
        command = ["ip", "netns", "exec", self._network, "nft", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, text: str) -> None:
        """Check commands, then carry them out."""
        self.run("-c", "-f", "-", text=text)
        self.run("-f", "-", text=text)

    def listed(self, *options: str) -> str:
        """All that is there."""
        return self.run(*options, "list", "ruleset")


@contextmanager
def real_nft() -> Iterator[RealNft]:
    """An empty namespace, or skip the test where there can be none."""
    if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("ip") is None:
        pytest.skip("root, nft and ip are needed")
    name = f"kubesim-test-nft-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces cannot be made here")
    try:
        yield RealNft(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
