"""eBPF: programs at devices and sockets, and the maps they share."""

from __future__ import annotations
