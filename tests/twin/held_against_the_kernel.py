"""Holds the walk against the kernel that this runs in, which may be a user-mode one."""

from __future__ import annotations

import json
import sys

from tests.twin.test_realise import hold_against_the_kernel

if __name__ == "__main__":
    hold_against_the_kernel(sys.argv[1], sys.argv[2], sys.argv[3])
    sys.stdout.write(json.dumps({"hooks": True, "rules": True}))
