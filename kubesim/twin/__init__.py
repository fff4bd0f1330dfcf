"""The real kernel beside the simulated one: namespaces, a kernel as a user program, and packets timed in them."""

from __future__ import annotations

from kubesim.twin.uml import UserModeLinux, find_user_mode_linux, run_in_user_mode

__all__ = ["UserModeLinux", "find_user_mode_linux", "run_in_user_mode"]
