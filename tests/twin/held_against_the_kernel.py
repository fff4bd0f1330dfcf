"""Holds the walk against the kernel that this runs in, which may be a user-mode one, and says what differs."""

from __future__ import annotations

import json
import sys
import traceback

from tests.twin.test_realise import hold_against_the_kernel

if __name__ == "__main__":
    differs = ""
    try:
        hold_against_the_kernel(sys.argv[1], sys.argv[2], sys.argv[3])
    except Exception:  # noqa: BLE001 - whatever it is, the test that started this prints it
        differs = traceback.format_exc()
    sys.stdout.write(json.dumps({"differs": differs}))
