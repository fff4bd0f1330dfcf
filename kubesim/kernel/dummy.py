"""A dummy device: holds addresses, so that they are local, and sends nothing (drivers/net/dummy.c)."""

from __future__ import annotations

from kubesim.kernel.device import Device


class Dummy(Device):
    """What kube-proxy binds virtual addresses to in IPVS mode, as ``kube-ipvs0``."""
